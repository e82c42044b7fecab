"""From a checked figure, of one model or of a model and its baseline, to what the templates place: drawings, cells, tables of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from diptych.evaluate.report import svg, words
from diptych.evaluate.report.figures import AnyFigure, Bars, Heat, Lines, Pictures, Row, Slope

TABLE_ROWS = 40
NARROW = 8  # columns of a heat map that fit beside another figure
WIDEST = 11  # columns of a heat map in the usual size of type


@dataclass(frozen=True, slots=True)
class Panel:
    """What one model has in a figure.

    Args:
        name: of the model; "" where there is only one.
        drawing: an SVG, where the kind is drawn; ``said``: what it says in a sentence, where the kind is a table.
        rows: cells of a heat map, or items of a list of pictures.
        head: column titles of the table of numbers; ``table`` are its rows.
    """

    name: str = ""
    drawing: Markup | None = None
    rows: Sequence[Any] = ()
    head: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()
    said: str = ""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure ready for the page: ``kind`` is ``"chart"``, ``"bars"``, ``"heat"`` or ``"pictures"``."""

    kind: str
    title: str
    about: str
    panels: Sequence[Panel]
    legend: Sequence[tuple[str, str]] = ()
    more: dict[str, Any] = field(default_factory=dict)


def draw(figure: AnyFigure, names: tuple[str, str], other: AnyFigure | None = None) -> Drawn:
    """``figure`` of the first of ``names``, beside ``other`` of the second, which has the same kind, or alone."""
    both = [figure] if other is None else [figure, other]
    labels = [""] if other is None else list(names)
    if isinstance(figure, Bars):
        return _bars(figure, [one for one in both if isinstance(one, Bars)], labels)
    if isinstance(figure, Pictures):
        panels = [Panel(name, rows=one.items) for name, one in zip(labels, both, strict=True) if isinstance(one, Pictures)]
        return Drawn("pictures", figure.title, figure.about, panels, more={"pairs": figure.has_pairs()})
    if isinstance(figure, Heat):
        return _heat(figure, [one for one in both if isinstance(one, Heat)], labels)
    if isinstance(figure, Slope):
        return _slope(figure, [one for one in both if isinstance(one, Slope)], labels)
    return _lines(figure, [one for one in both if isinstance(one, Lines)], labels)


def _style(percent: bool) -> Callable[[float], str]:
    return words.percent if percent else words.plain


def _lines(figure: Lines, both: Sequence[Lines], labels: Sequence[str]) -> Drawn:
    percent = all(one.percent() for one in both)
    shown, across = _style(percent), svg.share if figure.x_share else svg.number
    sets = [
        [svg.Line(s.name, s.points, svg.styles(place), s.low or (), s.high or ()) for place, s in enumerate(one.series)] for one in both
    ]
    panels = []
    for place, (name, lines) in enumerate(zip(labels, sets, strict=True)):
        ends = [(line.name, *(f"{shown(y)} at {across(x)}" for x, y in (line.points[0], line.points[-1]))) for line in lines]
        said = "; ".join(f"{each}: from {first} to {last}" for each, first, last in ends)
        drawing = svg.line_chart(
            lines, f"{figure.title}{f' ({name})' if name else ''}: {figure.y} over {figure.x}. {said}.", figure.x,
            y_label=figure.y, y_from_zero=percent and not figure.log, percent=percent, x_percent=figure.x_share, diagonal=figure.diagonal,
            log=figure.log, like=[line for i, others in enumerate(sets) if i != place for line in others],
        )  # fmt: skip
        rows = [
            [line.name, across(x), shown(y), words.span(shown(line.low[i]), shown(line.high[i])) if line.low else ""]
            for line in lines
            for i, (x, y) in list(enumerate(line.points))[:: math.ceil(len(line.points) / TABLE_ROWS)]
        ]
        width = 4 if any(row[3] for row in rows) else 3
        head = ("Curve", figure.x, figure.y, "Band")[:width]
        panels.append(Panel(name, drawing, head=head, table=[row[:width] for row in rows]))
    legend = [(line.style, line.name) for line in sets[0]] if len(sets[0]) > 1 else []
    if figure.diagonal:
        legend.append(("chance", "y = x"))
    return Drawn("chart", figure.title, figure.about, panels, legend)


def _slope(figure: Slope, both: Sequence[Slope], labels: Sequence[str]) -> Drawn:
    shown = _style(all(one.percent() for one in both))
    panels = []
    for name, one in zip(labels, both, strict=True):
        said = "; ".join(f"{pair.name} {shown(pair.before)} to {shown(pair.after)}" for pair in one.series)
        label = f"{one.title}{f' ({name})' if name else ''}, from {one.left} to {one.right}: {said}."
        like = [number for other in both for number in other.numbers()]
        drawing = svg.slope_chart([(pair.name, pair.before, pair.after) for pair in one.series], label, one.left, one.right, shown, like)
        table = [[pair.name, shown(pair.before), shown(pair.after)] for pair in one.series]
        panels.append(Panel(name, drawing, head=("", one.left, one.right), table=table))
    return Drawn("chart", figure.title, figure.about, panels)


def scale(numbers: Sequence[float]) -> tuple[float, float]:
    """``(from, to)`` of a scale of bars: it starts at 0 or below, and ends at a round number at or above the largest."""
    low, high = min(0.0, *numbers), max(0.0, *numbers)
    high = high if high > low else low + 1
    steps = svg.ticks(low, high, 4)
    step = steps[1] - steps[0] if len(steps) > 1 else high - low
    high = high if math.isclose(steps[-1], high) else steps[-1] + step
    low = low if math.isclose(steps[0], low) or not low else steps[0] - step
    return low, min(high, 1.0) if max(numbers) <= 1 else high


def _bars(figure: Bars, both: Sequence[Bars], labels: Sequence[str]) -> Drawn:
    percent = all(one.percent() for one in both)
    shown = _style(percent)
    bottom, top = scale([number for one in both for number in one.numbers()])

    def cell(row: Row | None) -> dict[str, Any] | None:
        if row is None:
            return None
        between = None if row.low is None or row.high is None else (row.low, row.high)
        said = shown(row.value) + (f", {shown(between[0])} to {shown(between[1])}" if between else "")
        said += "" if row.chance is None else f", chance {shown(row.chance)}"
        mark = svg.interval_mark(row.value, between, row.chance, said, top=top, bottom=bottom)
        return {
            "mark": mark,
            "value": shown(row.value),
            "between": f"{words.span(shown(between[0]), shown(between[1]))}" if between else "",
        }

    theirs = [{row.name: row for row in one.rows} for one in both[1:]]
    rows = [(row.name, [cell(row), *(cell(found.get(row.name)) for found in theirs)]) for row in figure.rows]
    more = {
        "rows": rows,
        "labels": labels,
        "scale": f"{shown(bottom)} to {shown(top)}",
        "bands": any(c and c["between"] for _, cs in rows for c in cs),
    }
    return Drawn("bars", figure.title, figure.about, (), more=more)


def _heat(figure: Heat, both: Sequence[Heat], labels: Sequence[str]) -> Drawn:
    percent = all(one.percent() for one in both)
    numbers = [number for one in both for number in one.numbers()] or [0.0]
    # colour begins at 0, or where the numbers begin when they are all far from it
    most = max(map(abs, numbers)) or 1.0
    low = 0.0 if min(numbers) <= 0.5 * most else min(numbers)
    span = (most - low) or 1.0
    crowded = len(figure.columns) > WIDEST

    def cell(value: float | None) -> tuple[str, int, str]:
        if value is None:
            return "", 0, "none"
        text = f"{100 * value:.0f}" if percent else words.minus(f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}")
        strength = round(100 * max(0.0, (abs(value) - low) / span))
        return text, strength, "below" if value < 0 else "above"

    panels = []
    for name, one in zip(labels, both, strict=True):
        rows = [(row, [cell(value) for value in values]) for row, values in zip(one.rows, one.values, strict=True)]
        table = [[row, *(text for text, _, _ in cells)] for row, cells in rows]
        known = [
            (value, row, column)
            for row, values in zip(one.rows, one.values, strict=True)
            for column, value in zip(one.columns, values, strict=True)
            if value is not None
        ]
        said = (
            "".join(
                f"{word} {_style(percent)(found[0])} at {found[1]}, {found[2]}. "
                for word, found in (("lowest", min(known)), ("highest", max(known)))
            )
            if known
            else ""
        )
        panels.append(Panel(name, rows=rows, head=one.columns, table=table, said=said))
    return Drawn(
        "heat", figure.title, figure.about, panels, more={"percent": percent, "crowded": crowded, "wide": len(figure.columns) > NARROW}
    )
