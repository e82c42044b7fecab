"""Numbers as sentences that somebody reads who has never seen the project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diptych.core.types import Record

METRICS: Mapping[str, tuple[str, str]] = {
    "top1": ("Top-1", "the right name comes first"),
    "top5": ("Top-5", "the right name is among the first five"),
    "mean_per_class": ("Mean per class", "top-1, every class counting the same"),
    **{f"text_to_image_r@{k}": (f"Text → image, recall at {k}", f"the right picture is among the first {k}") for k in (5, 10)},
    **{f"image_to_text_r@{k}": (f"Image → text, recall at {k}", f"a right caption is among the first {k}") for k in (5, 10)},
    "text_to_image_r@1": ("Text → image, recall at 1", "the right picture comes first"),
    "image_to_text_r@1": ("Image → text, recall at 1", "a right caption comes first"),
}
KINDS = ("gain", "retention")
WORDS = {"5": "five", "10": "ten"}


def split(metric: str) -> tuple[str, str, str]:
    """``"top1[food]"`` → ``("top1", "food", "")``; ``"top1.gain"`` → ``("top1", "", "gain")``."""
    if metric.endswith("]") and "[" in metric:
        name, _, part = metric[:-1].partition("[")
        return name, part, ""
    name, _, kind = metric.rpartition(".")
    return (name, "", kind) if kind in KINDS else (metric, "", "")


def title(metric: str) -> str:
    """How people write a metric's name."""
    return METRICS.get(metric, (metric.replace("_", " "), ""))[0]


def meaning(metric: str) -> str:
    """What one hit is, in words; "" for a metric that this page has no words for."""
    return METRICS.get(metric, ("", ""))[1]


def percent(value: float) -> str:
    """``"32.1%"``, with the digits that tell something: ``"0.07%"``, ``"80%"``."""
    share = 100 * value
    if share in (0, 100):
        return f"{share:.0f}%"
    if share >= 99.95:
        return ">99.9%"
    return f"{share:.1f}%" if abs(share) >= 9.95 else f"{share:.2f}%" if abs(share) >= 0.1 else f"{share:.2g}%"


def points(value: float) -> str:
    """A difference of shares in percentage points, always with its sign."""
    return f"{100 * value:+.1f}".replace("-", "−")


def between(record: Record) -> str:
    """The interval as ``"30.9–33.3%"``, never broken over two lines."""
    low, high = (percent(bound).removesuffix("%") for bound in record.interval)
    return f"{low}\N{WORD JOINER}–\N{WORD JOINER}{high}%"


def times_chance(record: Record) -> str:
    """``"426×"``, or "" where chance is nothing."""
    if record.chance <= 0:
        return ""
    ratio = record.value / record.chance
    return f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.1f}×"


def standing(record: Record) -> str:
    """Where the interval lies: ``"above"``, ``"below"`` or ``"at"`` chance."""
    low, high = record.interval
    return "above" if low > record.chance else "below" if high < record.chance else "at"


def verdict(record: Record, classes: int | None) -> str:
    """One sentence that sets a main number beside chance."""
    value, chance = percent(record.value), percent(record.chance)
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
