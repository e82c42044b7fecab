"""The figures a protocol gives the page: plain dicts in its ``section()["figures"]``, checked here, drawn by :mod:`.drawing`.

Every figure has ``"kind"`` and ``"title"``, and may have ``"about"`` (a sentence on how to read it) and ``"share"``: whether its numbers
are shown in per cent (left out: they are where all of them lie between 0 and 1). All numbers are finite. A ``?`` marks what may be left
out:

    {"kind": "lines", "title", "x", "y", "series": [{"name", "points": [[x, y], …], "low"?: [y, …], "high"?: [y, …]}],
     "diagonal"?: true, "log"?: true, "x_share"?: true}
    {"kind": "bars", "title", "rows": [{"name", "value", "low"?, "high"?, "chance"?}]}
    {"kind": "heat", "title", "rows": [name, …], "columns": [name, …], "values": [[number or None, …], …]}
    {"kind": "slope", "title", "left", "right", "series": [{"name", "from", "to"}]}
    {"kind": "pictures", "title", "items": [{"picture", "other"?, "text", "answer"?, "note"?}]}

- lines: curves over a number. ``x`` and ``y`` name the axes. ``low`` and ``high`` are a band, one bound a point. ``diagonal`` draws
  y = x (a reliability diagram), ``log`` makes the x axis logarithmic (shots, sizes), ``x_share`` shows x in per cent.
- bars: one number a row, in the order given; ``chance`` is a tick.
- heat: ``values[row][column]``; None (or NaN) is an empty cell. Numbers stand in the cells; below 0 the colour changes.
- slope: the same things measured twice: ``left`` and ``right`` name the two sides (known styles, unseen styles).
- pictures: ``picture`` and ``other`` are names that :class:`diptych.evaluate.details.Thumbs` gave, or None; ``text`` stands below;
  ``answer`` is what the model took it for; ``note`` is small print.

Limits: 12 series, 2,000 points a series, 120 bars, 64 × 64 cells, 48 pictures. Long texts are cut. A figure that does not have its form is
left out and the page says which and why, so a protocol's test should call :func:`parse`, which raises.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError, model_validator

LONGEST = 240


def _short(text: object) -> object:
    return text[: LONGEST - 1] + "…" if isinstance(text, str) and len(text) > LONGEST else text


def _nothing(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


Text = Annotated[str, BeforeValidator(_short)]
Cell = Annotated[FiniteFloat | None, BeforeValidator(_nothing)]


class Form(BaseModel):
    """What all forms have in common: nothing is added, nothing is changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class Figure(Form):
    """Title, how to read it, and whether its numbers are shares."""

    title: Text
    about: Text = ""
    share: bool | None = None

    def numbers(self) -> list[float]:
        """The numbers that are shown."""
        return []

    def percent(self) -> bool:
        """Whether the numbers are shown in per cent."""
        return all(0 <= value <= 1 for value in self.numbers()) if self.share is None else self.share


class Series(Form):
    """One curve, with a band or without."""

    name: Text
    points: Annotated[list[tuple[FiniteFloat, FiniteFloat]], Field(min_length=1, max_length=2000)]
    low: list[FiniteFloat] | None = None
    high: list[FiniteFloat] | None = None

    @model_validator(mode="after")
    def _band(self) -> Self:
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high come together")
        if self.low is not None and self.high is not None and not len(self.low) == len(self.high) == len(self.points):
            raise ValueError("low and high need one number a point")
        return self


class Lines(Figure):
    """Curves over a number."""

    kind: Literal["lines"]
    x: Text
    y: Text
    series: Annotated[list[Series], Field(min_length=1, max_length=12)]
    diagonal: bool = False
    log: bool = False
    x_share: bool = False

    def numbers(self) -> list[float]:
        return [y for one in self.series for ys in ([y for _, y in one.points], one.low or [], one.high or []) for y in ys]

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if self.log and any(x <= 0 for one in self.series for x, _ in one.points):
            raise ValueError("a logarithmic axis needs every x above 0")
        return self


class Row(Form):
    """One bar."""

    name: Text
    value: FiniteFloat
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    chance: FiniteFloat | None = None


class Bars(Figure):
    """One number a row."""

    kind: Literal["bars"]
    rows: Annotated[list[Row], Field(min_length=1, max_length=120)]

    def numbers(self) -> list[float]:
        return [number for row in self.rows for number in (row.value, row.low, row.high, row.chance) if number is not None]


class Heat(Figure):
    """A table of numbers, coloured."""

    kind: Literal["heat"]
    rows: Annotated[list[Text], Field(min_length=1, max_length=64)]
    columns: Annotated[list[Text], Field(min_length=1, max_length=64)]
    values: list[list[Cell]]

    def numbers(self) -> list[float]:
        return [value for row in self.values for value in row if value is not None]

    @model_validator(mode="after")
    def _shape(self) -> Self:
        if len(self.values) != len(self.rows) or any(len(row) != len(self.columns) for row in self.values):
            raise ValueError(f"values must be {len(self.rows)} rows of {len(self.columns)} numbers")
        return self


class Pair(Form):
    """One thing, measured twice."""

    name: Text
    before: Annotated[FiniteFloat, Field(alias="from")]
    after: Annotated[FiniteFloat, Field(alias="to")]


class Slope(Figure):
    """The same things measured twice."""

    kind: Literal["slope"]
    left: Text
    right: Text
    series: Annotated[list[Pair], Field(min_length=1, max_length=12)]

    def numbers(self) -> list[float]:
        return [number for one in self.series for number in (one.before, one.after)]


class Item(Form):
    """One picture, or two."""

    picture: str | None
    other: str | None = None
    text: Text
    answer: Text = ""
    note: Text = ""


class Pictures(Figure):
    """Pictures with words below."""

    kind: Literal["pictures"]
    items: Annotated[list[Item], Field(max_length=48)]

    def has_pairs(self) -> bool:
        """Some item has two pictures."""
        return any("other" in item.model_fields_set for item in self.items)


AnyFigure = Lines | Bars | Heat | Slope | Pictures
_ADAPTER: TypeAdapter[AnyFigure] = TypeAdapter(Annotated[AnyFigure, Field(discriminator="kind")])


def parse(figure: Mapping[str, Any]) -> AnyFigure:
    """A figure in its form. Raises :class:`ValueError` that names each place that is wrong."""
    try:
        return _ADAPTER.validate_python(figure)
    except ValidationError as error:
        raise ValueError("; ".join(_said(each) for each in error.errors()[:3])) from error


def read(found: object) -> tuple[list[AnyFigure], list[str]]:
    """The figures that have their form, and one line for each that has not."""
    figures, wrong = [], []
    if not isinstance(found, Iterable) or isinstance(found, (str, bytes, Mapping)):
        return [], ["its figures are no list"]
    for number, each in enumerate(found, 1):
        try:
            figures.append(parse(each))
        except ValueError as error:
            title = each.get("title") if isinstance(each, Mapping) else None
            wrong.append(f"figure {_short(str(title)) if title else number} is left out: {_short(str(error))}")
    return figures, wrong


def _said(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"][1:]) or "kind"
    return f"{place}: {error['msg']}" if error["loc"] else str(error["msg"])
