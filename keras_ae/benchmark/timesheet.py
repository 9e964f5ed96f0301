"""What `keras_ae.benchmark` has measured, as people see it: table, page and plot."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_ae import machine, plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Losses that are drawn though they are not compared, each in a panel.
_PANELS = 6


def described(entry: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """A configuration in the words that tell it from others."""
    told, _, _ = _parts(results)
    return _said(entry, told)


def outcome(entry: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """A training in a few words."""
    if "error" in report:
        return f"failed: {report['error']}"
    speed = entry["pictures"] / statistics.median(machine.steady(report["seconds"]))
    return f"{speed:,.0f} pictures a second, loss {_loss(report['losses'][-1])}"


def table(results: Mapping[str, Any], width: int = 100) -> str:
    """What was measured, a line for each configuration, the fastest first.

    Args:
        results: As `run` returns them.
        width: Most characters in a line; columns that matter less are left out.

    Returns:
        A table in plain text, with what all lines have in common above it.
    """
    told, measured, failed = _parts(results)
    figures = _figures(measured)
    while True:
        rows = _rows(told, measured, figures)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        superfluous = [name for name in _MATTER_LESS if name in figures]
        if sum(widths) + 2 * len(widths) - 2 <= width or not superfluous:
            break
        del figures[superfluous[0]]
    lines = [*textwrap.wrap(_heading(results, told), width), ""]
    if measured:
        for row in rows:
            cells = [
                f"{cell:{'<' if place < len(told) else '>'}{wide}}"
                for place, (cell, wide) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        lines += ["", *textwrap.wrap(_legend(figures, measured), width)]
    for sentence in failed:
        lines += textwrap.wrap(sentence, width, subsequent_indent="  ")
    return "\n".join(lines)


def plot(results: Mapping[str, Any]) -> Figure:
    """Pictures a second of each configuration, and its loss by epoch.

    Args:
        results: As `run` returns them.

    Returns:
        A matplotlib figure, as `plots.throughput` draws it.
    """
    told, _, _ = _parts(results)
    # What is trained, and how: losses of one thing agree, however it is trained.
    what = [name for name in told if name in ("model", "image_size")]
    speeds, losses = {}, {}
    for entry in results["configurations"]:
        if not entry["rounds"]:
            continue
        group = ", ".join(_LABELS[name](entry) for name in what)
        how = _said(entry, [name for name in told if name not in what])
        speeds.setdefault(group, {})[how] = [
            entry["pictures"] / seconds
            for report in entry["rounds"]
            for seconds in machine.steady(report["seconds"])
        ]
        # An epoch alone makes no curve.
        if len(entry["losses"]) > 1:
            losses.setdefault(group, {})[how] = entry["losses"]
    # Of many models, each trained in one way, there is nothing to compare.
    compared = len(losses) <= _PANELS or any(len(how) > 1 for how in losses.values())
    return plots.throughput(speeds, losses if compared else {}, _common(results, told))


def page(results: Mapping[str, Any]) -> str:
    """The table with all columns, and the plot `benchmark.png`, in Markdown."""
    told, measured, failed = _parts(results)
    figures = _figures(measured)
    head, *rows = _rows(told, measured, figures)
    versions = {}
    for entry in measured:
        versions |= entry["versions"]
    parts = ["# Benchmark", _heading(results, told)]
    if measured:
        lines = [head, ["---"] * len(head), *rows]
        parts += [
            "\n".join(f"| {' | '.join(line)} |" for line in lines),
            _legend(figures, measured),
            "![Pictures a second, and loss by epoch](benchmark.png)",
        ]
    parts += [f"- {sentence}" for sentence in failed]
    parts.append(
        f"{', '.join(results['environment'].values())}. "
        + ", ".join(f"{package} {version}" for package, version in versions.items())
    )
    return "\n\n".join(parts) + "\n"


_HEADS = {
    "model": "model",
    "backend": "backend",
    "batch_size": "batch",
    "precision": "precision",
    "image_size": "pixels",
    "devices": "devices",
}
_LABELS = {
    "model": lambda entry: entry["model"],
    "backend": lambda entry: entry["backend"],
    "batch_size": lambda entry: f"{entry['batch_size']:,}",
    "precision": lambda entry: entry["precision"],
    "image_size": lambda entry: "{} x {}".format(*entry["image_shape"]),
    # Older files are of one.
    "devices": lambda entry: str(entry.get("devices", 1)),
}
# What labels are said with that are numbers.
_WORDS = {"batch_size": "batch {}", "devices": "on {}"}
# Heading, how a figure is shown, and what it is.
_FIGURES = {
    "pictures/s": (
        lambda entry: f"{entry['pictures_a_second']:,.0f}{_starred(entry)}",
        "median of the epochs after the first",
    ),
    "from–to": (
        lambda entry: "{:,.0f}–{:,.0f}".format(*entry["spread"]),
        "the slowest and the fastest of them",
    ),
    "epoch": (lambda entry: _seconds(entry["epoch_seconds"]), "seconds"),
    "computed": (
        lambda entry: _seconds(entry["epoch_processor_seconds"]),
        "processor seconds an epoch, of all cores",
    ),
    "1st epoch": (
        lambda entry: _seconds(entry["first_epoch_seconds"]),
        "seconds, with compilation",
    ),
    "1st step": (
        lambda entry: _seconds(entry["first_step_after_seconds"]),
        "seconds after the start of the process",
    ),
    "memory": (lambda entry: _bytes(entry["host_bytes"]), "most in use, GiB"),
    "on device": (
        lambda entry: _bytes(entry["device_bytes"]),
        "most in use of the accelerator's, GiB",
    ),
    "parameters": (lambda entry: f"{entry['parameters']:,}", ""),
    "steps": (
        lambda entry: str(entry["feeding"]["steps_per_execution"]),
        "steps in one dispatch, as `fit` chose",
    ),
    "data": (lambda entry: entry["feeding"]["data"], "where they lie"),
    "loss": (lambda entry: _loss(entry["losses"][-1]), "of the last epoch"),
}
# Columns that are left out where the table would be too wide, these first.
_MATTER_LESS = (
    "data",
    "steps",
    "parameters",
    "computed",
    "1st step",
    "from–to",
    "on device",
    "memory",
    "1st epoch",
    "epoch",
)


def _parts(results):
    """What configurations are told apart by, those measured, and who failed and why."""
    entries = results["configurations"]
    told = [
        name
        for name, label in _LABELS.items()
        if name == "model" or len({*map(label, entries)}) > 1
    ]
    measured = [entry for entry in entries if entry["rounds"]]
    measured.sort(key=lambda entry: -entry["pictures_a_second"])
    failed = [
        f"{_said(entry, told)}: {entry['error'] or 'not measured'}"
        for entry in entries
        if entry["error"] or not entry["rounds"]
    ]
    return told, measured, failed


def _said(entry, told):
    """A configuration in words."""
    return " ".join(
        _WORDS.get(name, "{}").format(_LABELS[name](entry)) for name in told
    )


def _figures(measured):
    """The columns that say something."""
    figures = dict(_FIGURES)
    if all(entry["device_bytes"] is None for entry in measured):
        del figures["on device"]
    if all(entry["spread"][0] == entry["spread"][1] for entry in measured):
        del figures["from–to"]
    return figures


def _rows(told, measured, figures):
    """Cells of the table, its head first."""
    rows = [[*map(_HEADS.get, told), *figures]]
    for entry in measured:
        labels = [_LABELS[name](entry) for name in told]
        rows.append([*labels, *(show(entry) for show, _ in figures.values())])
    return rows


def _heading(results, told):
    """What all configurations have in common, and where they were measured."""
    found = results["environment"]
    devices = {e["device"] for e in results["configurations"] if e["rounds"]}
    cards = ", ".join(sorted(devices - {"cpu"})) or found["processor"]
    rounds = f"{results['rounds']} round{'s' * (results['rounds'] > 1)}"
    return (
        f"{_common(results, told)}; {rounds} of {results['epochs']} "
        f"epoch{'s' * (results['epochs'] > 1)}. {cards}; {found['machine']}."
    )


def _common(results, told):
    entries = results["configurations"]
    common = [
        form.format(_LABELS[name](entries[0]))
        for name, form in (
            ("image_size", "{} pixels"),
            ("batch_size", "batch {}"),
            ("precision", "{}"),
            ("backend", "{}"),
            ("devices", "{} devices"),
        )
        if name not in told and (name, _LABELS[name](entries[0])) != ("devices", "1")
    ]
    first = f"{entries[0]['pictures']:,} pictures of {results['data']}"
    return ", ".join([first, *common])


def _legend(figures, measured):
    """What the columns mean."""
    meanings = {head: meaning for head, (_, meaning) in figures.items() if meaning}
    if any(map(_starred, measured)):
        meanings["*"] = "of the only epoch, with compilation"
    return "; ".join(f"{head}: {meaning}" for head, meaning in meanings.items()) + "."


def _starred(entry):
    """Marks a speed that compilation is a part of."""
    return "*" * (len(entry["losses"]) == 1)


def _seconds(seconds):
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:#.3g}"


def _bytes(count):
    return "–" if count is None else f"{count / 2**30:.2f}"


def _loss(loss):
    return "not finite" if loss is None else f"{loss:,.5g}"
