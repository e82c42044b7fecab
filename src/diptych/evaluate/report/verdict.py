"""The verdict: three sentences made from records by rules. How good; where it breaks; how sure it is and what it lost.

A sentence says only what was measured, and what was not. A record counts as broken where its interval holds or lies beyond chance; a fall
from one set (or group) to another counts where the two intervals do not touch, and is measured between chance and perfect, so that sets of
different numbers of classes can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diptych.core.types import Record
from diptych.evaluate.report import words

FALLS = 2  # as many are told, of different protocols
FEWEST = 10  # units that a group needs to be named as the weakest


def sentences(
    records: Sequence[Record], classes: Mapping[str, int], baseline: str = "", others: Mapping[str, Sequence[Record]] | None = None
) -> list[str]:
    """Three sentences on one model.

    Args:
        records: of the model, in the order in which they were measured.
        classes: how many classes each set has, by its name.
        baseline: what gains are against; "" where it is not known.
        others: the records of other models in the same folder, by name.
    """
    main = words.main_records(records)
    return [good(main, classes), broken(main, records), sure(main, records, baseline, others or {})]


def good(main: Sequence[Record], classes: Mapping[str, int]) -> str:
    """The first number, and the first of another protocol that guessing can be set beside."""
    if not main:
        return "Nothing was measured."
    first = next((record for record in main if words.standing(record)), main[0])
    said = [words.statement(first, classes.get(first.set))]
    second = next((r for r in main if r.protocol != first.protocol and words.standing(r) and words.about(r).share), None)
    if second is not None:
        said.append(words.statement(second, classes.get(second.set)))
    tail = ""
    if words.standing(first) == "at":
        tail = ", and the first of them may be chance" if second is not None else ", which may be chance"
    elif words.standing(first) == "worse":
        tail = ", and the first of them is worse than guessing" if second is not None else ", which is worse than guessing"
    return words.capital("; ".join(said)) + tail + "."


def broken(main: Sequence[Record], records: Sequence[Record]) -> str:
    """What cannot be told from guessing; else, and of the rest, the largest fall."""
    judged = [record for record in main if words.standing(record)]
    if not judged:
        return "Where it breaks cannot be said: none of these numbers has a chance level."
    lost = [record for record in judged if words.standing(record) != "better"]
    parts = []
    if lost:
        named = [f"{words.title(r)} on {r.set} ({words.shown(r)}, guessing {words.value_of(r.chance, r)})" for r in lost]
        parts.append(f"it does no better than guessing at {words.listed(named)}")
    parts += [_told(*fall) for fall in falls(main, records)[:FALLS]]
    if parts:
        return words.capital(f"{'it breaks here: ' if lost else 'it is weakest here: '}{'; '.join(parts)}.")
    if len(judged) == 1:
        return "Nothing that was measured breaks it: the one number beside chance is clearly better."
    return f"Nothing that was measured breaks it: all {len(judged)} numbers beside chance are clearly better."


def _told(reference: Record, low: Record) -> str:
    """A fall as half a sentence."""
    part = words.part(words.split(low.metric)[1])
    first = f"{words.title(reference)} falls from {words.shown(reference)}"
    if part:
        return f"{first} on {reference.set} to {words.shown(low)} on the group “{part}”"
    return f"{first} on {reference.set} to {words.measured(low)} on {low.set}"


def falls(main: Sequence[Record], records: Sequence[Record]) -> list[tuple[Record, Record]]:
    """Each protocol's first number beside the same metric on its other sets and groups: the pair that clearly differs most, if any does.

    The largest fall of any protocol comes first.
    """
    found: list[tuple[float, Record, Record]] = []
    for reference in {record.protocol: record for record in reversed(main)}.values():
        about = words.about(reference)
        if words.standing(reference) != "better" or not about.share or about.better != "higher":
            continue
        lows = [record for record in records if _comparable(reference, record)]
        if lows:
            low = min(lows, key=_reach)
            found.append((_reach(low) / _reach(reference), reference, low))
    return [(reference, low) for _, reference, low in sorted(found, key=lambda each: each[0])]


def _comparable(reference: Record, record: Record) -> bool:
    """The same metric, clearly lower: on a group of the set, or on another set that is not said already to be no better than guessing."""
    name, part, kind = words.split(record.metric)
    same = (record.protocol, name, kind) == (reference.protocol, reference.metric, "")
    elsewhere = record.set == reference.set if part else words.standing(record) == "better"
    return same and elsewhere and record.n >= FEWEST and record.interval[1] < reference.interval[0]


def _reach(record: Record) -> float:
    chance = record.chance or 0.0
    return (record.value - chance) / (1 - chance)


def sure(main: Sequence[Record], records: Sequence[Record], baseline: str, others: Mapping[str, Sequence[Record]]) -> str:
    """Its calibration error, and what it gained and lost against its parent; or that they were not measured."""
    error = next((r for r in records if words.split(r.metric)[0].partition("@")[0] == "ece" and not words.split(r.metric)[2]), None)
    if error is None:
        first = "how far its confidence can be believed was not measured (--suite full)"
    else:
        off = f"{words.title(error)} on {error.set}, 95% interval {words.between(error)}"
        first = f"its confidence is off by {100 * error.value:.1f} points on average ({off})"
    return words.capital(f"{first}; {against(main, records, baseline, others)}.")


def against(main: Sequence[Record], records: Sequence[Record], baseline: str, others: Mapping[str, Sequence[Record]]) -> str:
    """What was gained and lost against the parent, paired; half a sentence."""
    gains = [record for record in records if words.split(record.metric)[2] == "gain" and words.about(record).better != "neither"]
    if not gains:
        beside = _beside(main, others)
        return beside or "what it lost against a parent was not measured (--baseline MODEL)"
    first = gains[0]
    up, down = ([gain for gain in gains if words.direction(gain) == way] for way in ("up", "down"))
    name = f"its baseline {baseline}" if baseline else "its baseline"
    unit = " points" if words.about(first).share else ""
    said = f"against {name}, {words.title(first)} on {first.set} differs by {words.change(first.value, first)}{unit}"
    said += f" (95% interval {words.changes(first)}{'' if words.direction(first) != 'even' else ', which may be chance'})"
    kept = next(
        (
            r
            for r in records
            if (r.set, r.protocol, r.metric) == (first.set, first.protocol, first.metric.removesuffix("gain") + "retention")
        ),
        None,
    )
    if kept is not None:
        said += f" and {words.percent(kept.value)} of what the baseline got right is still right"
    if len(gains) > 1:
        said += f"; of {len(gains)} paired differences {len(up)} are clearly better and {len(down)} clearly worse"
        worst = min((gain for gain in down if words.about(gain).share), key=lambda gain: -abs(gain.value), default=None)
        said += f", the worst {words.title(worst)} on {worst.set} ({words.change(worst.value, worst)} points)" if worst else ""
    return said


def _beside(main: Sequence[Record], others: Mapping[str, Sequence[Record]]) -> str:
    """The same main number of another model in the folder, which is no paired comparison."""
    for name, records in others.items():
        for record in main:
            theirs = next((r for r in records if (r.set, r.protocol, r.metric) == (record.set, record.protocol, record.metric)), None)
            if theirs is not None:
                beside = f"beside it {name} has {words.measured(theirs)} on {record.set} ({words.title(record)})"
                return f"{beside}, not compared item by item (--baseline MODEL)"
    return ""
