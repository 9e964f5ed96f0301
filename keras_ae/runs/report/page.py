"""The report as one page of HTML."""

from __future__ import annotations

import html

from keras_ae.runs.report import elements
from keras_ae.runs.report.facts import _number


def _page(facts):
    sections = {
        "Pictures": _pictures(facts),
        "Scores": _scores(facts),
        "Learning": _learning(facts),
        "Load it, go on": _use(facts),
        "Do it again": _again(facts),
    }
    head = [elements.glance(facts.summary), elements.listing(facts.training)]
    return elements.document(facts.name, facts.description, head, sections)


def _pictures(facts):
    parts = []
    for path, title, caption in facts.pictures:
        parts += [
            f"<h3>{html.escape(title)}</h3>",
            elements.figure(path, title, caption),
        ]
    return parts


def _scores(facts):
    if not facts.results:
        return []
    columns = [("Score", ""), ("Here", "number"), ("What it is", "soft says")]
    rows = [(name, ours, meaning) for name, ours, _, meaning in facts.results]
    if any(published for _, _, published, _ in facts.results):
        columns.insert(2, ("Published", "number"))
        rows = facts.results
    parts = [f"<p>{html.escape(facts.protocol)}</p>", elements.table(columns, rows)]
    if facts.comparison:
        parts.append(f"<p>{elements.linked(facts.comparison)}</p>")
    return parts


def _learning(facts):
    if not facts.history:
        return []
    parts = []
    curves = facts.directory / "pictures" / "loss.png"
    if curves.is_file():
        caption = "Loss and its terms by epoch: training dashed, validation solid."
        parts.append(elements.figure(curves, "Loss curves", caption, wide=True))
    if facts.sheets:
        same = "codes" if facts.model.draws_by_itself else "pictures"
        figures = [
            elements.figure(sheet, name, name)
            for sheet in facts.sheets
            for name in [f"epoch {int(sheet.stem.partition('-')[2])}"]
        ]
        parts += [
            f"<h3>The same {same}, as training went on</h3>",
            f'<div class="strip">{"".join(figures)}</div>',
        ]
    names = list(dict.fromkeys(name for row in facts.history for name in row))
    rows = [[_number(row.get(name, "")) for name in names] for row in facts.history]
    epochs = [row["epoch"] for row in facts.history]
    best = epochs.index(facts.best_epoch) if facts.best_epoch in epochs else None
    table = elements.table([(name, "number") for name in names], rows, best)
    parts.append(f"<details><summary>Every epoch</summary>{table}</details>")
    return parts


def _use(facts):
    path = (facts.directory / "model.keras").as_posix()
    return [
        "<p>In Python:</p>",
        elements.pre(facts.python(path)),
        "<p>On the command line:</p>",
        elements.pre(facts.commands),
    ]


def _again(facts):
    parts = [elements.listing(facts.environment)]
    if facts.options:
        parts += ["<h3>Settings</h3>", elements.listing(facts.options)]
    return parts
