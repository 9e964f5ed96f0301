"""What pages of HTML are made of; each needs nothing beside it."""

from __future__ import annotations

import base64
import html
import io
import pathlib
import re
from collections.abc import Mapping, Sequence

from PIL import Image

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5c6167; --line: #dcdfe3;
  --ground: #ffffff; --card: #f4f5f7; --accent: #2062ab; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --soft: #9fa5ac; --line: #34383d; --ground: #16181b;
    --card: #1f2226; --accent: #7db4f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 4rem;
  background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; margin: 3rem 0 .6rem; padding-top: .6rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .5rem; }
p { margin: .4rem 0 .8rem; }
a, summary { color: var(--accent); }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; font-size: .95rem; }
.soft, figcaption { color: var(--soft); }
.facts { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1.2rem 0; }
.facts div { background: var(--card); border-radius: .5rem; padding: .5rem .85rem;
  flex: 1 1 auto; }
.facts dd { margin: 0; font-size: 1.2rem; font-weight: 600; }
.facts dt { color: var(--soft); font-size: .85rem; }
.facts div { display: flex; flex-direction: column-reverse; }
figure { margin: 0; }
figcaption { font-size: .9rem; margin-top: .4rem; max-width: 44rem; }
img { max-width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; }
.wide > img { min-width: 46rem; }
.strip { display: flex; gap: .8rem; overflow-x: auto; padding-bottom: .6rem; }
.strip figure { flex: 0 0 12.5rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
td, th { text-align: left; padding: .3rem .9rem .3rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
th[scope=row] { width: 11rem; font-weight: 400; color: var(--soft); }
th[scope=row] + td { overflow-wrap: anywhere; }
.number { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }
pre { background: var(--card); border-radius: .5rem; padding: .8rem 1rem;
  overflow-x: auto; font: .88rem/1.5 ui-monospace, Menlo, Consolas, monospace; }
summary { cursor: pointer; margin: .8rem 0; }
tr.best td { font-weight: 600; color: var(--accent); }
@media (max-width: 40rem) { th[scope=row] { width: 6.5rem; }
  .says { min-width: 9rem; } }
@media print { body { max-width: none; padding: 0; font-size: 11pt; }
  nav, details { display: none; } figure, tr, pre { break-inside: avoid; }
  h2, h3 { break-after: avoid; } pre { white-space: pre-wrap; }
  .strip { flex-wrap: wrap; } .wide > img { min-width: 0; } }
"""


def document(
    title: str, description: str, head: Sequence[str], sections: Mapping[str, list[str]]
) -> str:
    """Returns a page: a title, links to the sections, what comes first, sections.

    Args:
        title: Plain text, as is `description`.
        description: What stands below it.
        head: Elements before the first section.
        sections: Elements by title of the section; one without any is left out.
    """
    sections = {title: parts for title, parts in sections.items() if parts}
    links = [f'<a href="#{_anchor(title)}">{title}</a>' for title in sections]
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="soft">{html.escape(description)}</p>',
        f"<nav>{''.join(links)}</nav>",
        *head,
    ]
    for name, parts in sections.items():
        body += [f'<h2 id="{_anchor(name)}">{name}</h2>', *parts]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n"
        # Or a browser asks the server for one.
        '<link rel="icon" href="data:,">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def _anchor(title):
    return title.partition(",")[0].lower().replace(" ", "-")


def glance(facts: Sequence[tuple[str, str]]) -> str:
    """Facts of a word or two, as cards."""
    cells = [
        f"<div><dt>{html.escape(what)}</dt><dd>{html.escape(value)}</dd></div>"
        for what, value in facts
    ]
    return f'<dl class="facts">{"".join(cells)}</dl>'


def listing(rows: Sequence[tuple[str, str]]) -> str:
    """Facts one below the other, with links for addresses."""
    lines = [
        f'<tr><th scope="row">{html.escape(what)}</th><td>{linked(text)}</td></tr>'
        for what, text in rows
    ]
    return f"<table>{''.join(lines)}</table>"


def table(
    columns: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[str]],
    marked: int | None = None,
) -> str:
    """A table of columns, each a heading and a style; one row may be marked."""

    def line(tag, texts, style=""):
        cells = [
            f'<{tag} class="{css}">{html.escape(text)}</{tag.partition(" ")[0]}>'
            for text, (_, css) in zip(texts, columns, strict=True)
        ]
        return f"<tr{style}>{''.join(cells)}</tr>"

    head = line('th scope="col"', [heading for heading, _ in columns])
    body = [
        line("td", row, ' class="best"' if number == marked else "")
        for number, row in enumerate(rows)
    ]
    return (
        f'<div class="wide"><table><thead>{head}</thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def linked(text: str) -> str:
    """Text with its addresses as links, and what stands in backticks as code."""
    text = html.escape(text)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    return re.sub(
        r"https?://[^\s,;()]+", lambda url: f'<a href="{url[0]}">{url[0]}</a>', text
    )


def pre(text: str) -> str:
    """Text as it stands, such as a program."""
    return f"<pre>{html.escape(text)}</pre>"


def figure(
    picture: pathlib.Path | bytes, title: str, caption: str, wide: bool = False
) -> str:
    """A PNG file, or its bytes, with a caption."""
    content = picture if isinstance(picture, bytes) else picture.read_bytes()
    data = base64.b64encode(content).decode("ascii")
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
        # A figure has a resolution; a sheet is shown pixel for pixel.
        dots = image.info.get("dpi", (96, 96))[0] / 96
    text = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    style = ' class="wide"' if wide else ""
    return (
        f"<figure><div{style}>"
        f'<img src="data:image/png;base64,{data}" alt="{html.escape(title)}" '
        f'width="{round(width / dots)}" height="{round(height / dots)}">'
        f"</div>{text}</figure>"
    )
