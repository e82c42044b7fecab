"""Numbers as sentences that somebody reads who has never seen the project."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from diptych.core.types import Record
from diptych.evaluate import suite
from diptych.evaluate.outcome import About
from diptych.evaluate.report import svg

KINDS = ("gain", "retention")
WORDS = {"5": "five", "10": "ten"}


def split(metric: str) -> tuple[str, str, str]:
    """``"top1[food]"`` → ``("top1", "food", "")``; ``"top1.gain"`` → ``("top1", "", "gain")``."""
    if metric.endswith("]") and "[" in metric:
        name, _, part = metric[:-1].partition("[")
        return name, part, ""
    name, _, kind = metric.rpartition(".")
    return (name, "", kind) if kind in KINDS else (metric, "", "")


@functools.cache
def known() -> Mapping[str, About]:
    """How each metric is read, from the protocols' own ``ABOUT``."""
    return {name: about for module in suite.modules() for name, about in module.ABOUT.items()}


def about(metric: str) -> About:
    """How ``metric`` is read (its part or kind aside); its bare name where no protocol knows it."""
    name = split(metric)[0]
    return known().get(name, About(name.replace("_", " ")))


def title(metric: str) -> str:
    """How people write a metric's name."""
    return about(metric).title


def meaning(metric: str) -> str:
    """What one hit is, in words; "" for a metric that this page has no words for."""
    return about(metric).meaning


def percent(value: float | None) -> str:
    """``"32.1%"``, with the digits that tell something: ``"0.07%"``, ``"80%"``; a dash for nothing."""
    if value is None:
        return "–"
    share = 100 * value
    if share in (0, 100):
        return f"{share:.0f}%"
    if share >= 99.95:
        return ">99.9%"
    return f"{share:.1f}%" if abs(share) >= 9.95 else f"{share:.2f}%" if abs(share) >= 0.1 else f"{share:.2g}%"


def points(value: float) -> str:
    """A difference of shares in percentage points, always with its sign."""
    return f"{100 * value:+.1f}".replace("-", "−")


def shown(record: Record) -> str:
    """The value as people write it: per cent for shares, a plain number for others."""
    return percent(record.value) if about(record.metric).share else svg.number(record.value)


def between(record: Record) -> str:
    """The interval as ``"30.9–33.3%"``, never broken over two lines."""
    if not about(record.metric).share:
        low, high = map(svg.number, record.interval)
        return f"{low}\N{WORD JOINER}–\N{WORD JOINER}{high}"
    low, high = (percent(bound).removesuffix("%") for bound in record.interval)
    return f"{low}\N{WORD JOINER}–\N{WORD JOINER}{high}%"


def times_chance(record: Record) -> str:
    """``"426×"``, or "" where chance is nothing."""
    if not record.chance or record.chance <= 0 or not about(record.metric).share:
        return ""
    ratio = record.value / record.chance
    return f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.1f}×"


def standing(record: Record) -> str:
    """Where the interval lies: ``"above"``, ``"below"`` or ``"at"`` chance; ``""`` where there is no chance level."""
    low, high = record.interval
    if record.chance is None:
        return ""
    return "above" if low > record.chance else "below" if high < record.chance else "at"


def verdict(record: Record, classes: int | None) -> str:
    """One sentence that sets a main number beside chance."""
    if record.chance is None:
        return f"{title(record.metric)} is {shown(record)} (95% interval {between(record)})."
    value, chance = shown(record), percent(record.chance)
    at = record.metric.rpartition("@")[2]
    place = "first" if at == "1" else f"among the first {WORDS.get(at, at)}"
    if record.metric == "top1":
        among = f" and {classes:,} names" if classes else ""
        first = f"Shown a picture{among}, the model picks the right name {value} of the time"
    elif record.metric.startswith("text_to_image_r@"):
        first = f"Asked with a caption, it puts the right picture {place} {value} of the time"
    elif record.metric.startswith("image_to_text_r@"):
        first = f"Asked with a picture, it puts a right caption {place} {value} of the time"
    else:
        first = f"{title(record.metric)} is {value}"
    tail = {"above": "", "below": ", which is better", "at": ", which the interval does not rule out"}[standing(record)]
    return f"{first} (95% interval {between(record)}). Guessing would be right {chance} of the time{tail}."


def compared(gain: Record, retention: Record | None) -> str:
    """One sentence on what was gained and kept against the baseline."""
    low, high = (points(bound) for bound in gain.interval)
    sure = "" if gain.interval[0] > 0 or gain.interval[1] < 0 else ", which may be chance"
    first = f"Against the baseline this is {points(gain.value)} points (95% interval {low} to {high}{sure})"
    return f"{first}; {percent(retention.value)} of what the baseline got right is still right." if retention else f"{first}."


def main_records(records: Sequence[Record], limit: int = 4) -> list[Record]:
    """The numbers for the top of the page: of each set and protocol the first, retrieval at 10 rather than at 1."""
    chosen: dict[tuple[str, str], Record] = {}
    for record in records:
        _, part, kind = split(record.metric)
        key = (record.set, record.protocol)
        if part or kind:
            continue
        if key not in chosen or record.metric == "text_to_image_r@10":
            chosen[key] = record
    order = sorted(chosen.values(), key=lambda record: record.protocol != "zero_shot")
    named = [r for r in order if r.protocol == "zero_shot"]
    others = [r for r in order if r.protocol != "zero_shot"]
    room = max(limit - min(len(others), 2), limit - len(others))
    return [*named[:room], *others][:limit]
