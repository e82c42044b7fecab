"""A comparison of models as one self-contained page."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from diptych import __version__
from diptych.evaluate.report import svg

if TYPE_CHECKING:
    from diptych.evaluate.compare import Cell, Comparison, Row, Standing
    from diptych.evaluate.likeness import Likeness

HERE = files("diptych.evaluate.report")


def render(made: Comparison) -> str:
    """The page as text."""
    script = (HERE / "script.js").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"number": svg.number, "plain": svg.plain, "value": value, "signed": signed, "bounds": bounds}
    environment.filters |= {"places": places, "rank_of": rank_of, "likeness": likeness, "likeness_bounds": likeness_bounds}
    environment.globals |= {"direction": direction, "marker": lambda model: _marker(made.models.index(model))}
    return environment.from_string((HERE / "compare.html.j2").read_text(encoding="utf-8")).render(
        made=made,
        statement=statement(made),
        charts=charts(made),
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        when=datetime.now(UTC).strftime("%-d %B %Y, %H:%M UTC"),
        version=__version__,
    )


def statement(made: Comparison) -> str:
    """What can be said of the differences, all of them at once."""
    clear = [(row, cell) for row in made.rows for cell in row.cells if direction(row, cell)]
    better = sum(direction(row, cell) == "up" for row, cell in clear)
    told = f"Of {made.comparisons} differences to {made.reference}, {better} are better and {len(clear) - better} worse"
    told += ", all of these together with 95% confidence" if clear else ""
    rest = made.comparisons - len(clear)
    told += f"; {rest} cannot be told from none." if rest else "."
    best = [one for one in made.standings if one.rank_interval is not None and one.rank_interval[0] == 1]
    if len(best) == 1:
        return f"{told} {best[0].model} has the best average on 95% of the resamples or more."
    return f"{told} The best average could be that of {', '.join(one.model for one in best)}." if best else told


def direction(row: Row, cell: Cell) -> str:
    """``"up"`` or ``"down"`` where the difference to the reference is real, better or worse; else ``""``."""
    if cell.together is None or cell.together[0] <= 0 <= cell.together[1] or row.better == "neither":
        return ""
    return "up" if (cell.together[0] > 0) == (row.better == "higher") else "down"


def charts(made: Comparison) -> list[tuple[str, Markup]]:
    """The average against milliseconds and against parameters, for the models where both are known."""

    def drawn(title: str, label: str, costs: dict[str, float | None]) -> list[tuple[str, Markup]]:
        lines = [
            svg.Line(one.model, [(cost, one.average)], svg.styles(made.models.index(one.model)))
            for one in made.standings
            if one.average is not None and (cost := costs[one.model])
        ]
        many = len({line.points[0][0] for line in lines}) > 1
        return [(title, svg.line_chart(lines, title, label, percent=True, log=many))] if len(lines) > 1 else []

    def cost(read: str) -> dict[str, float | None]:
        return {one.model: getattr(one, read) for one in made.standings}

    return [
        *drawn("Average against time", "milliseconds a picture", cost("milliseconds")),
        *drawn("Average against size", "parameters", cost("parameters")),
    ]


def _marker(place: int) -> Markup:
    mark = Markup('<svg class="stroke" viewBox="0 0 26 10" aria-hidden="true">{}</svg>')
    return mark.format(svg.marker(svg.styles(place), 13, 5))


def value(number: float, share: bool) -> str:
    """A share in per cent, any other number as it is."""
    return f"{100 * number:.1f}%" if share else f"{number:.4g}"


def signed(number: float, share: bool) -> str:
    """A difference with its sign; of shares in points."""
    text = f"{100 * number:+.1f} pt" if share else f"{number:+.4g}"
    return text.replace("-", "−")


def bounds(pair: tuple[float, float], share: bool) -> str:
    """An interval as ``low … high``."""
    low, high = (f"{100 * end:.1f}" if share else f"{end:.4g}" for end in pair)
    return f"{low} … {high}{'%' if share else ''}".replace("-", "−")


def places(pair: tuple[float, float]) -> str:
    """An interval of ranks: ``1`` or ``1–3``."""
    low, high = (f"{end:g}" for end in pair)
    return low if low == high else f"{low}–{high}"


def rank_of(row: Row, cell: Cell) -> str:
    """``2``, with its interval where resamples leave it open: ``2 (1–3)``; a dash where no value is better than another."""
    if row.better == "neither":
        return "–"
    rank = f"{cell.rank:g}"
    return rank if places(cell.rank_interval) == rank else f"{rank} ({places(cell.rank_interval)})"


def likeness(one: Likeness) -> str:
    """A CKA with two digits."""
    return f"{one.value:.2f}".replace("-", "−")


def likeness_bounds(one: Likeness) -> str:
    """Its interval."""
    return f"{one.interval[0]:.2f} … {one.interval[1]:.2f}".replace("-", "−")


def standing_rows(standings: tuple[Standing, ...]) -> list[tuple[str, ...]]:
    """The standing as rows of text: model, average, interval, rank, its interval, milliseconds, parameters."""
    return [
        (
            one.model,
            "" if one.average is None else value(one.average, True),
            "" if one.interval is None else bounds(one.interval, True),
            "" if one.rank is None else f"{one.rank:g}",
            "" if one.rank_interval is None else places(one.rank_interval),
            "" if one.milliseconds is None else svg.number(one.milliseconds),
            "" if one.parameters is None else svg.number(one.parameters),
        )
        for one in standings
    ]
