"""Tables of scores in a terminal: of one model, and of several side by side."""

from __future__ import annotations

import math

from keras_ae.evaluation import scores

# What every score of a table depends on, and is said once.
_COMMON = ("data", "pictures", "digest", "image_shape", "binarized")
# What is said as a number of them.
_COUNTED = ("pictures", "samples", "codes", "factors", "training_pictures")


def heading(path, found):
    """What a listing of scores is of, and how it is read."""
    about = found.scores[0].depends_on
    shape = " x ".join(map(str, about["image_shape"]))
    binarized = ", binarised" if about["binarized"] else ""
    return (
        f"\n{found.model} of {path}, scored on {about['data']}: "
        f"{about['pictures']:,} pictures of {shape}{binarized}\n"
        "↑ higher is better, ↓ lower is better, ± standard error"
    )


def listing(found):
    """The scores as lines: name, value, which is better, what it is."""
    values = [_value(score) for score in found.scores]
    width = max(len(score.name) for score in found.scores)
    wide = max(map(len, values))
    lines, group = [], None
    for score, value in zip(found.scores, values, strict=True):
        if score.group != group:
            group = score.group
            lines += ["", _group_line(found, group)]
        better, text = score.meaning
        arrow = {"higher": "↑", "lower": "↓"}.get(better, " ")
        name = score.name.replace("_", " ")
        lines.append(f"  {name:{width}}  {value:>{wide}} {arrow}  {text}".rstrip())
    if found.left_out:
        lines += ["", "Left out"]
        lines += [
            f"  {name.replace('_', ' '):{width}}  {why}"
            for name, why in found.left_out.items()
        ]
    return "\n".join(lines)


def _group_line(found, group):
    """A group's name and what all of its scores depend on beside the pictures."""
    bases = [score.depends_on for score in found.scores if score.group == group]
    said = {key: found.scores[0].depends_on[key] for key in _COMMON}
    shared = {
        key: value
        for key, value in bases[0].items()
        if key not in ("digest", "training_digest")
        and value != said.get(key)
        and all(basis.get(key) == value for basis in bases)
    }
    details = ", ".join(_detail(key, value) for key, value in shared.items())
    return f"{group} ({details})" if details else group


def _detail(key, value):
    what = key.replace("_", " ")
    if key in _COUNTED:
        return f"{value:,} {what}"
    return f"{value}" if key in ("model", "measure", "data") else f"{what} {value}"


def _value(score):
    """The figure, to the digits that its error leaves."""
    value, error = score.value, score.error
    if not error or error < 1e-6 * abs(value):
        whole = float(value).is_integer() and abs(value) < 1e6
        return f"{value:,.0f}" if whole else f"{value:,.5g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:,.{digits}f} ± {error:,.{digits}f}"


def side_by_side(evaluations):
    """Lines of the table of a comparison; none where nothing is known."""
    if not evaluations:
        return []
    rows, apart = scores.side_by_side(evaluations)
    lines = []
    names = [*evaluations]
    table = [["", *names]]
    for row in rows:
        cells = [
            _value(row.scores[name]) + (" *" if name in row.best else "  ")
            if name in row.scores
            else "–  "
            for name in names
        ]
        table.append([row.name.replace("_", " "), *cells])
    widths = [
        max(len(line[column]) for line in table) for column in range(len(table[0]))
    ]
    group = None
    for line, row in zip(table, [None, *rows], strict=True):
        if row is not None and row.group != group:
            group = row.group
            lines += ["", group]
        cells = [
            f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True)
        ]
        lines.append(f"  {line[0]:{widths[0]}}  {'  '.join(cells)}".rstrip())
    if any(row.best for row in rows):
        lines += ["", "* the best of its row, or within the errors of it"]
    if apart:
        lines += ["", "Not comparable"]
        lines += [
            f"  {name.replace('_', ' ')}: {reason}" for name, reason in apart.items()
        ]
    return lines
