"""Small SVG drawings: line charts and interval marks. Colours and type come from the page's style sheet."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 16, 44
POINTS = 160
Place = Callable[[float, float], tuple[float, float]]
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Line:
    """One curve.

    Args:
        name: read out, and shown at its points.
        points: ``(x, y)`` in order.
        style: the classes that draw it: of :func:`styles`, or ``"chance"``.
        low: the lower bounds of a band, one a point; () where there is none. ``high``: the upper ones.
    """

    name: str
    points: Sequence[tuple[float, float]]
    style: str = "s0"
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def number(value: float) -> str:
    """A short, readable number: ``0.053``, ``5.25``, ``12.5k``, ``3M``."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            step = 1e3 if unit == "k" else size
            return f"{value / step:.4g}{unit}"
    return f"{value:.4g}" if abs(value) < 100 else f"{value:,.0f}"


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values from at or above ``low`` to at or below ``high``: multiples of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def thin(points: Sequence[tuple[float, float]], limit: int = POINTS) -> list[tuple[float, float]]:
    """At most ``limit`` points: means of equal runs of neighbours."""
    if len(points) <= limit:
        return list(points)
    edges = [round(i * len(points) / limit) for i in range(limit + 1)]
    runs = [points[a:b] for a, b in pairwise(edges)]
    return [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]


Box = tuple[float, float, float, float]  # x from, x to, y from, y to


def box(lines: Sequence[Line], *, y_from_zero: bool = False, square: bool = False) -> Box:
    """The axes' ranges that hold ``lines`` and their bands; ``square``: x and y have one range, from 0 to 1 where that holds them."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for y in (*(y for _, y in line.points), *line.low, *line.high)]
    x0, x1 = min(xs), max(xs)
    y0, y1 = (min(0.0, *ys) if y_from_zero else min(ys)), max(ys)
    if square:
        low, high = min(0.0, x0, y0), max(x1, y1)
        high = 1.0 if high <= 1 else high
        return low, high, low, high
    x1, y1 = (x1 if x1 > x0 else x0 + 1), (y1 if y1 > y0 else y0 + 1)
    y1 += 0.06 * (y1 - y0)
    return x0, x1, (y0 if y_from_zero else y0 - 0.06 * (y1 - y0)), y1


def line_chart(
    lines: Sequence[Line],
    title: str,
    x_label: str,
    *,
    y_label: str = "",
    y_from_zero: bool = False,
    percent: bool = False,
    x_percent: bool = False,
    diagonal: bool = False,
    log: bool = False,
    like: Sequence[Line] = (),
) -> Markup:
    """A chart with axes, grid and hover titles; "" where no line has a finite point.

    Args:
        title: read out by screen readers.
        y_label: above the axis; else what y is stands in the caption.
        percent: y is shown in per cent; ``x_percent``: x is.
        diagonal: y = x is drawn, on axes of one range.
        log: the x axis is logarithmic; every x is above 0.
        like: lines that are not drawn here, but that the axes hold too, so that two charts can be compared.
    """
    lines, like = ([line for each in found if (line := _finite(each)).points] for found in (lines, like))
    if not lines:
        return Markup("")
    x0, x1, y0, y1 = box([*lines, *like], y_from_zero=y_from_zero, square=diagonal)
    bend = math.log if log else float
    top = TOP + (12 if y_label else 0)

    def place(x: float, y: float) -> tuple[float, float]:
        across, down = (bend(x) - bend(x0)) / (bend(x1) - bend(x0)), (y1 - y) / (y1 - y0)
        return round(LEFT + across * (WIDTH - LEFT - RIGHT), 1), round(top + down * (HEIGHT - top - BOTTOM), 1)

    shown, across = share if percent else number, share if x_percent else number
    xticks = _log_ticks(lines) if log else ticks(x0, x1)
    body = [_axes(place, [(x, across(x)) for x in xticks], [(y, shown(y)) for y in ticks(y0, y1)], x_label, y_label)]
    if diagonal:
        (ax, ay), (bx, by) = place(x0, x0), place(x1, x1)
        body.append(Markup('<path class="curve chance" d="M{} {}L{} {}"/>').format(ax, ay, bx, by))
    body += [_curve(line, place, lambda x: f"{across(x)} {x_label}", shown) for line in lines]
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, title, Markup("").join(body)
    )


def share(value: float) -> str:
    """A tick or point in per cent."""
    return f"{number(100 * value)}%"


def _finite(line: Line) -> Line:
    """Thinned and without points that are not finite; a line with a band keeps every so many points, band and all."""
    if not line.low:
        return Line(line.name, thin([p for p in line.points if all(map(math.isfinite, p))]), line.style)
    step = math.ceil(len(line.points) / POINTS)
    return Line(line.name, line.points[::step], line.style, line.low[::step], line.high[::step])


def _log_ticks(lines: Sequence[Line]) -> list[float]:
    """The x values themselves, where they are few; else powers of ten."""
    xs = sorted({x for line in lines for x, _ in line.points})
    if len(xs) <= 8:
        return xs
    return [10.0**i for i in range(math.ceil(math.log10(xs[0]) - 1e-9), math.floor(math.log10(xs[-1]) + 1e-9) + 1)] or [xs[0], xs[-1]]


def _axes(place: Place, xticks: Sequence[tuple[float, str]], yticks: Sequence[tuple[float, str]], x_label: str, y_label: str) -> Markup:
    parts = []
    for y, shown in yticks:
        py = place(xticks[0][0], y)[1]
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, WIDTH - RIGHT, py, py))
        parts.append(Markup('<text class="tick" x="{}" y="{}" text-anchor="end" dy="4">{}</text>').format(LEFT - 7, py, shown))
    for x, shown in xticks:
        px = place(x, yticks[0][0])[0]
        parts.append(Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(px, HEIGHT - BOTTOM + 17, shown))
    base = HEIGHT - BOTTOM
    parts.append(Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, WIDTH - RIGHT, base, base))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(Markup('<text class="label" x="{}" y="{}" text-anchor="middle">{}</text>').format(middle, HEIGHT - 6, x_label))
    if y_label:
        parts.append(Markup('<text class="label" x="0" y="12">{}</text>').format(y_label))
    return Markup("").join(parts)


def _curve(line: Line, place: Place, across: Callable[[float], str], shown: Callable[[float], str]) -> Markup:
    placed = [place(x, y) for x, y in line.points]
    parts = []
    if line.low:
        upper = [place(x, y) for (x, _), y in zip(line.points, line.high, strict=True)]
        lower = [place(x, y) for (x, _), y in zip(line.points, line.low, strict=True)]
        edge = "L".join(f"{x} {y}" for x, y in [*upper, *reversed(lower)])
        parts.append(Markup('<path class="band {}" d="M{}Z"/>').format(line.style, edge))
    parts.append(Markup('<path class="curve {}" d="{}"/>').format(line.style, "M" + "L".join(f"{x} {y}" for x, y in placed)))
    marked, step = len(placed) <= 40 and line.style != "chance", math.ceil(len(placed) / 60)
    for (x, y), (px, py) in list(zip(line.points, placed, strict=True))[::step]:
        dot = marker(line.style, px, py) if marked else Markup("")
        label = f"{line.name}: {shown(y)} at {across(x)}"
        parts.append(Markup('<g>{}<circle class="hit" cx="{}" cy="{}" r="7"><title>{}</title></circle></g>').format(dot, px, py, label))
    return Markup("").join(parts)


def marker(style: str, x: float, y: float) -> Markup:
    """A small mark at a point; its form tells series apart where colour does not."""
    forms = {
        "s1": "m-3-3h6v6h-6z",
        "s2": "m0-4l4 7h-8z",
        "s3": "m0-4.5l4 4.5l-4 4.5l-4-4.5z",
        "s4": "m0 4l4-7h-8z",
        "s5": "m-4-1.2h8v2.4h-8z",
    }
    form = forms.get(style.split()[0])
    if form is None:
        return Markup('<circle class="dot {}" cx="{}" cy="{}" r="3"/>').format(style, x, y)
    return Markup('<path class="dot {}" d="M{} {}{}"/>').format(style, x, y, form)


def slope_chart(
    pairs: Sequence[tuple[str, float, float]], title: str, left: str, right: str, shown: Callable[[float], str], like: Sequence[float] = ()
) -> Markup:
    """Lines from a left to a right scale, ``(name, from, to)`` each; names stand at the right, numbers at both ends.

    The scale is that of the numbers, and of ``like`` where two charts are to be compared.
    """
    height = max(200, 74 + 24 * len(pairs))
    values = [value for _, a, b in pairs for value in (a, b)]
    low, high = min([*values, *like]), max([*values, *like])
    high = high if high > low else low + 1
    x0, x1 = 62, 262

    def down(value: float) -> float:
        return round(38 + (high - value) / (high - low) * (height - 38 - 16), 1)

    heads = [
        Markup(
            '<text class="label" x="{}" y="16" text-anchor="middle">{}</text><line class="axis" x1="{x}" x2="{x}" y1="28" y2="{}"/>'
        ).format(x, text, height - 8, x=x)
        for x, text in ((x0, left), (x1, right))
    ]
    parts = []
    for place, (name, a, b) in enumerate(pairs):
        style = styles(place)
        label = f"{name}: {shown(a)} → {shown(b)}"
        parts.append(Markup('<g><title>{}</title><path class="curve {}" d="M{} {}L{} {}"/>').format(label, style, x0, down(a), x1, down(b)))
        parts.append(marker(style, x0, down(a)) + marker(style, x1, down(b)) + Markup("</g>"))
    for x, anchor, texts in (
        (x0 - 9, "end", [(down(a), shown(a)) for _, a, _ in pairs]),
        (x1 + 9, "start", [(down(b), f"{shown(b)}  {name if len(name) <= 24 else name[:23] + '…'}") for name, _, b in pairs]),
    ):
        for y, text in apart(texts, 15, 38, height - 12):
            parts.append(Markup('<text class="tick" x="{}" y="{}" dy="4" text-anchor="{}">{}</text>').format(x, y, anchor, text))
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, title, Markup("").join([*heads, *parts])
    )


def apart(texts: Sequence[tuple[float, str]], gap: float, low: float, high: float) -> list[tuple[float, str]]:
    """``(y, text)`` moved so that neighbours are at least ``gap`` apart, from top to bottom, inside ``low`` to ``high`` where they fit."""
    order = sorted(texts)
    ys = [y for y, _ in order]
    for i in range(1, len(ys)):
        ys[i] = max(ys[i], ys[i - 1] + gap)
    if ys and ys[-1] > high:
        ys[-1] = high
        for i in range(len(ys) - 2, -1, -1):
            ys[i] = min(ys[i], ys[i + 1] - gap)
    if ys and ys[0] < low:
        ys = [max(y, low + gap * i) for i, y in enumerate(ys)]
    return [(round(y, 1), text) for y, (_, text) in zip(ys, order, strict=True)]


def styles(place: int) -> str:
    """The classes of the series at ``place``: six colours with a mark each, then again with dashes."""
    return f"s{place % 6}{' again' if place >= 6 else ''}"


def interval_mark(
    value: float, interval: tuple[float, float] | None, chance: float | None, text: str, *, top: float = 1.0, bottom: float = 0.0
) -> Markup:
    """A bar from 0 to the value, its interval as a whisker, chance as a tick, on a scale from ``bottom`` to ``top``; it fills its box."""

    def at(x: float) -> float:
        return round(100 * min(max((x - bottom) / (top - bottom), 0.0), 1.0), 2)

    def upright(name: str, x: float, y1: int, y2: int) -> Markup:
        return Markup('<line class="{}" x1="{x}" x2="{x}" y1="{}" y2="{}"/>').format(name, y1, y2, x=at(x))

    start, end = sorted((at(0), at(value)))
    parts = [Markup('<rect class="bar" x="{}" y="3" width="{}" height="8"/>').format(start, round(end - start, 2))]
    if interval is not None:
        low, high = interval
        parts.append(Markup('<line class="whisker" x1="{}" x2="{}" y1="7" y2="7"/>').format(at(low), at(high)))
        parts += [upright("end", low, 4, 10), upright("end", high, 4, 10)]
    if chance is not None:
        parts.append(upright("tick-chance", chance, 0, 14))
    return Markup(
        '<svg class="mark" viewBox="0 0 100 14" preserveAspectRatio="none" role="img" aria-label="{text}"><title>{text}</title>'
        '<rect class="track" x="0" y="3" width="100" height="8"/>{parts}</svg>'
    ).format(text=text, parts=Markup("").join(parts))


def plain(text: object) -> str:
    """Text without control characters, which HTML does not allow; for captions that nobody vouches for."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))
