"""Small SVG drawings: line charts and interval marks. Colours and type come from the page's style sheet."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 16, 44
POINTS = 160
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: ``(x, y)`` points in order, its name, and the style class that draws it (``"one"``, ``"two"``, ``"chance"``)."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str = "one"


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


def line_chart(lines: Sequence[Line], title: str, x_label: str, *, y_from_zero: bool = False, percent: bool = False) -> Markup:
    """A chart with axes, grid and a hover title at every point; what y is stands in the caption.

    Args:
        lines: each with at least one finite point.
        title: read out by screen readers.
        percent: y runs from 0 to 1 and is shown in percent.
    """
    lines = [Line(line.name, thin([p for p in line.points if math.isfinite(p[0]) and math.isfinite(p[1])]), line.style) for line in lines]
    lines = [line for line in lines if line.points]
    if not lines:
        return Markup("")
    xs, ys = zip(*(point for line in lines for point in line.points), strict=True)
    x0, x1 = min(xs), max(xs)
    y0, y1 = (0.0 if y_from_zero else min(ys)), max(ys)
    x1, y1 = (x1 if x1 > x0 else x0 + 1), (y1 if y1 > y0 else y0 + 1)
    y1 += 0.06 * (y1 - y0)
    y0 = y0 if y_from_zero else y0 - 0.06 * (y1 - y0)

    def place(x: float, y: float) -> tuple[float, float]:
        across, down = (x - x0) / (x1 - x0), (y1 - y) / (y1 - y0)
        return round(LEFT + across * (WIDTH - LEFT - RIGHT), 1), round(TOP + down * (HEIGHT - TOP - BOTTOM), 1)

    shown = (lambda y: f"{number(100 * y)}%") if percent else number
    body = [_axes(place, ticks(x0, x1), ticks(y0, y1), shown, x_label)]
    body += [_curve(line, place, x_label, shown) for line in lines]
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, title, Markup("").join(body)
    )


def _axes(place, xticks: list[float], yticks: list[float], shown, x_label: str) -> Markup:
    parts = []
    for y in yticks:
        py = place(0, y)[1]
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, WIDTH - RIGHT, py, py))
        parts.append(Markup('<text class="tick" x="{}" y="{}" text-anchor="end" dy="4">{}</text>').format(LEFT - 7, py, shown(y)))
    for x in xticks:
        px = place(x, 0)[0]
        parts.append(Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(px, HEIGHT - BOTTOM + 17, number(x)))
    base = HEIGHT - BOTTOM
    parts.append(Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, WIDTH - RIGHT, base, base))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(Markup('<text class="label" x="{}" y="{}" text-anchor="middle">{}</text>').format(middle, HEIGHT - 6, x_label))
    return Markup("").join(parts)


def _curve(line: Line, place, x_label: str, shown) -> Markup:
    placed = [place(x, y) for x, y in line.points]
    path = "M" + "L".join(f"{x} {y}" for x, y in placed)
    parts = [Markup('<path class="curve {}" d="{}"/>').format(line.style, path)]
    for (x, y), (px, py) in zip(line.points, placed, strict=True):
        label = f"{line.name}: {shown(y)} at {number(x)} {x_label}"
        size = 3 if len(placed) <= 40 and line.style != "chance" else 0
        dot = Markup('<circle class="dot {}" cx="{}" cy="{}" r="{}"/>').format(line.style, px, py, size) if size else Markup("")
        parts.append(Markup('<g>{}<circle class="hit" cx="{}" cy="{}" r="7"><title>{}</title></circle></g>').format(dot, px, py, label))
    return Markup("").join(parts)


def interval_mark(value: float, low: float, high: float, chance: float | None, text: str, *, top: float = 1.0) -> Markup:
    """A bar from 0 to the value with its interval as a whisker and chance as a tick, on a scale from 0 to ``top``; stretches to its box."""

    def at(x: float) -> float:
        return round(100 * min(max(x / top, 0.0), 1.0), 2)

    tick = Markup("") if chance is None else Markup('<line class="tick-chance" x1="{x}" x2="{x}" y1="0" y2="14"/>').format(x=at(chance))
    return Markup(
        '<svg class="mark" viewBox="0 0 100 14" preserveAspectRatio="none" role="img" aria-label="{text}"><title>{text}</title>'
        '<rect class="track" x="0" y="3" width="100" height="8"/><rect class="bar" x="0" y="3" width="{value}" height="8"/>'
        '<line class="whisker" x1="{low}" x2="{high}" y1="7" y2="7"/><line class="end" x1="{low}" x2="{low}" y1="4" y2="10"/>'
        '<line class="end" x1="{high}" x2="{high}" y1="4" y2="10"/>'
        "{tick}</svg>"
    ).format(text=text, value=at(value), low=at(low), high=at(high), tick=tick)


def plain(text: object) -> str:
    """Text without control characters, which HTML does not allow; for captions that nobody vouches for."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))
