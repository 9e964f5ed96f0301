"""The model card, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from keras_ae.runs.report.facts import OWN_CHANGES

# The card


def _card(facts):
    """The model card, in the form of the Hugging Face hub."""
    tags = ["keras-ae", "autoencoder", type(facts.model).__name__.lower()]
    front = ["library_name: keras", "tags:", *(f"- {tag}" for tag in tags)]
    if facts.model.describes_pictures:
        task = (
            "unconditional-image-generation"
            if facts.model.can_sample
            else "image-feature-extraction"
        )
        front.append(f"pipeline_tag: {task}")
    front.append("# license: yours to choose; look up the terms of the data first")
    body = [
        f"# {_plain(facts.name)}",
        _plain(facts.description),
        "## Model and data",
        _markdown(("", ""), facts.training),
        "## How to load it",
        "```bash\npip install keras-ae\n```",
        f"```python\n{facts.python('model.keras')}\n```",
    ]
    if facts.results:
        body += [
            "## Scores",
            _plain(facts.protocol),
            _markdown(("Score", "Here", "Published", "What it is"), facts.results),
            facts.comparison,
        ]
    for path, title, caption in facts.pictures:
        link = f"![{_plain(title)}](pictures/{quote(path.name)})"
        body += [f"## {_plain(title)}", link, _plain(caption)]
    body += [
        "## Limits",
        "\n".join(f"- {_plain(limit)}" for limit in _limits(facts)),
        "## How it was trained",
        _markdown(("", ""), [*facts.environment, *facts.options]),
    ]
    head = "\n".join(["---", *front, "---", OWN_CHANGES])
    return "\n\n".join([head, *filter(None, body)]) + "\n"


def _limits(facts):
    of = f" of {facts.data}" if facts.data else ""
    shape = " x ".join(map(str, facts.image_shape))
    crops = ", or of other crops," if facts.model.describes_pictures else ""
    yield (
        f"It has seen {facts.noun}{of} of {shape} and nothing else. What it makes of "
        f"other {facts.noun}{crops} looks like these and says little."
    )
    if facts.model.can_sample:
        yield (
            "Its samples have the biases of its data, and may come close to "
            f"{facts.noun} that it was trained on."
        )
    yield (
        "Its scores are those of one training. Compare them only with figures of the "
        f"same {facts.noun}, size, likelihood and protocol."
    )


def _plain(text):
    """Text without what Markdown would read as its own; addresses stay."""
    return re.sub(
        r"(https?://[^\s;()]+)|([\\`*_\[\]<>|#])",
        lambda found: found[1] or f"\\{found[2]}",
        " ".join(text.split()),
    )


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in lines)
