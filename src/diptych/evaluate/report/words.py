"""Numbers as words that somebody reads who has never seen the project."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from types import ModuleType

from diptych.core.types import Record
from diptych.evaluate import suite
from diptych.evaluate.outcome import About
from diptych.evaluate.report import svg

KINDS = ("gain", "retention")
FEWEST = 5  # units that a difference has to rest on
WORDS = {"5": "five", "10": "ten"}
JOINED = "\N{WORD JOINER}–\N{WORD JOINER}"


def split(metric: str) -> tuple[str, str, str]:
    """``"top1[food]"`` → ``("top1", "food", "")``; ``"top1.gain"`` → ``("top1", "", "gain")``."""
    if metric.endswith("]") and "[" in metric:
        name, _, part = metric[:-1].partition("[")
        return name, part, ""
    name, _, kind = metric.rpartition(".")
    return (name, "", kind) if kind in KINDS else (metric, "", "")


@functools.cache
def protocols() -> Mapping[str, ModuleType]:
    """Every protocol by its id, in the order in which they are shown."""
    return {module.CARD.id: module for module in suite.modules()}


def aspect(protocol: str) -> str:
    """The heading under which a protocol stands."""
    module = protocols().get(protocol)
    return module.ASPECT if module is not None else capital(protocol.replace("_", " "))


def name(protocol: str) -> str:
    """What a protocol is called."""
    module = protocols().get(protocol)
    return module.CARD.name if module is not None else protocol


def about(record: Record) -> About:
    """How the record's metric is read (its part or kind aside); its bare name where no protocol knows it."""
    metric = split(record.metric)[0]
    module = protocols().get(record.protocol)
    return (module.ABOUT if module else {}).get(metric, About(metric.replace("_", " ")))


def title(record: Record) -> str:
    """How people write the metric's name."""
    return about(record).title


def meaning(record: Record) -> str:
    """What one unit of it is, in words; "" for a metric that this page has no words for."""
    return about(record).meaning


def percent(value: float | None) -> str:
    """``"32.1%"``, with the digits that tell something: ``"0.07%"``, ``"80%"``; a dash for nothing."""
    if value is None:
        return "–"
    share = 100 * value
    if share in (0, 100):
        return f"{share:.0f}%"
    if 99.95 <= share < 100:
        return ">99.9%"
    return minus(f"{share:.1f}%" if abs(share) >= 9.95 else f"{share:.2f}%" if abs(share) >= 0.1 else f"{share:.2g}%")


def minus(text: str) -> str:
    """With a true minus sign."""
    return text.replace("-", "−")


def plain(value: float) -> str:
    """A number that is no share, with three digits that tell something: ``"1.60"``, ``"152"``, ``"12.5k"``."""
    if abs(value) >= 1000 or value == round(value):
        return minus(svg.number(value))
    return minus(f"{value:#.3g}".removesuffix("."))


def value_of(value: float | None, record: Record) -> str:
    """A number of the record's metric as people write it: per cent for shares, a plain number for others, a dash for nothing."""
    return percent(value) if value is None or about(record).share else plain(value)


def shown(record: Record) -> str:
    """The record's value as people write it."""
    return value_of(record.value, record)


def between(record: Record) -> str:
    """The interval as ``"30.9–33.3%"``, never broken over two lines; ``"−1.20 to 3.40"`` where a bound is below 0."""
    low, high = (value_of(bound, record) for bound in record.interval)
    return span(low, high)


def span(low: str, high: str) -> str:
    """Two numbers as an interval; a sign of per cent stands once."""
    if low.startswith("−") or high.startswith("−"):
        return f"{low} to {high}"
    return f"{low.removesuffix('%') if high.endswith('%') else low}{JOINED}{high}"


def part(name: str) -> str:
    """How people write the name of a part: no underscores."""
    return name.replace("_", " ")


def change(value: float, record: Record) -> str:
    """A difference in percentage points, or in the metric's own unit; always with its sign."""
    return minus(f"{100 * value:+.1f}" if about(record).share else f"{value:+.3g}")


def changes(record: Record) -> str:
    """The interval of a difference: ``"+1.2 to +3.4"``."""
    low, high = record.interval
    return f"{change(low, record)} to {change(high, record)}"


def direction(gain: Record) -> str:
    """``"up"`` where the whole interval of a difference is for the better, ``"down"`` for the worse, ``"even"`` where it holds 0.

    Fewer than :data:`FEWEST` units tell nothing: their resamples agree too easily.
    """
    if gain.n < FEWEST:
        return "even"
    sign = {"higher": 1, "lower": -1, "neither": 0}[about(gain).better]
    low, high = sorted((sign * gain.interval[0], sign * gain.interval[1]))
    return "up" if low > 0 else "down" if high < 0 else "even"


def times_chance(record: Record) -> str:
    """``"426×"``, or "" where chance is nothing or less is better."""
    if not record.chance or record.chance <= 0 or not about(record).share or about(record).better != "higher":
        return ""
    ratio = record.value / record.chance
    return f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.1f}×"


def standing(record: Record) -> str:
    """Where the interval lies: ``"better"`` or ``"worse"`` than chance, or ``"at"`` it; ``""`` where there is no chance level."""
    low, high = record.interval
    sense = about(record).better
    if record.chance is None or sense == "neither" or (sense == "lower" and record.chance == 0):  # a loss of nothing is no guess
        return ""
    above, below = ("better", "worse") if sense == "higher" else ("worse", "better")
    return above if low > record.chance else below if high < record.chance else "at"


def measured(record: Record) -> str:
    """``"44.1% (95% interval 42.0–46.1%, guessing 0.07%)"``."""
    guessing = "" if record.chance is None else f", guessing {value_of(record.chance, record)}"
    return f"{shown(record)} (95% interval {between(record)}{guessing})"


def statement(record: Record, classes: int | None = None) -> str:
    """What a number says, as the start of a sentence: ``"Shown a picture and 12 names, it picks the right name 50.0% …"``."""
    at = record.metric.rpartition("@")[2]
    place = "first" if at == "1" else f"among the first {WORDS.get(at, at)}"
    if record.metric == "top1":
        among = f" and {classes:,} names" if classes else ""
        first = f"shown a picture{among}, it picks the right name"
    elif record.metric.startswith("text_to_image_r@"):
        first = f"asked with a caption, it puts the right picture {place}"
    elif record.metric.startswith("image_to_text_r@"):
        first = f"asked with a picture, it puts a right caption {place}"
    else:
        return f"{title(record)} is {measured(record)}"
    return f"{first} {shown(record)} of the time ({measured(record).partition(' (')[2]}"


def capital(sentence: str) -> str:
    """With a capital letter in front."""
    return sentence[:1].upper() + sentence[1:]


def listed(parts: Sequence[str], most: int = 3) -> str:
    """``"a, b and c"``; of more than ``most`` the first, and how many others."""
    rest = len(parts) - most
    shown = [*parts[:most], f"{rest} more"] if rest > 0 else list(parts)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else ""


def main_records(records: Sequence[Record]) -> list[Record]:
    """Of each set and protocol the first number, which is its main one; in the order of the protocols, then of the records."""
    chosen: dict[tuple[str, str], Record] = {}
    for record in records:
        _, part, kind = split(record.metric)
        if not part and not kind:
            chosen.setdefault((record.set, record.protocol), record)
    order = {name: place for place, name in enumerate(protocols())}
    return sorted(chosen.values(), key=lambda record: order.get(record.protocol, len(order)))


def heads(records: Sequence[Record], limit: int = 4) -> list[Record]:
    """The numbers for the top of the page: one of each aspect in turn, shares that guessing can be set beside."""
    found: dict[str, list[Record]] = {}
    for record in main_records(records):
        if about(record).share and standing(record):
            found.setdefault(aspect(record.protocol), []).append(record)
    turns = [rows[turn] for turn in range(limit) for rows in found.values() if turn < len(rows)]
    chosen = turns[:limit]
    return [record for rows in found.values() for record in rows if record in chosen]
