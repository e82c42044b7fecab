"""What is said of a scene: relations that hold between boxes, captions short and long, and captions that are false.

A thing is known by its region text (``"red car"``); boxes are (left, top, right, bottom), y grows downwards.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from diptych.data import pictograms
from diptych.data.pictograms.scene_drawings import Box, pick

BIGGER = 1.7  # how many times the other's area a thing must have to be called bigger
PHRASES = {
    "left": "to the left of",
    "right": "to the right of",
    "above": "above",
    "below": "below",
    "bigger": "bigger than",
    "smaller": "smaller than",
}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, slots=True)
class Named:
    """How one thing is named: its concept's label and its colour, where it was tinted."""

    label: int
    colour: str | None

    @property
    def bare(self) -> str:
        """``"red car"``."""
        name = pictograms.concepts()[self.label].name
        return name if self.colour is None else f"{self.colour} {name}"

    @property
    def one(self) -> str:
        """``"a red car"``; a plural stays without article."""
        concept, words = pictograms.concepts()[self.label], self.bare
        counted = not {f"a {concept.name}", f"an {concept.name}"}.isdisjoint(concept.captions)
        return f"{'an' if words[0] in 'aeiouAEIOU' else 'a'} {words}" if counted else words


def holds(relation: str, a: Box, b: Box) -> bool:
    """Whether box ``a`` stands in ``relation`` to box ``b``; a relation of places asks that nothing of them overlaps along its axis."""
    ahead = {"left": a[2] <= b[0], "right": b[2] <= a[0], "above": a[3] <= b[1], "below": b[3] <= a[1]}
    if relation in ahead:
        return ahead[relation]
    first, second = (b, a) if relation == "smaller" else (a, b)
    return _area(first) >= BIGGER * _area(second)


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def relate(draw: random.Random, boxes: Sequence[Box], subject: int, other: int) -> tuple[int, str, int]:
    """One relation that holds; boxes that do not overlap always have one."""
    true = [relation for relation in PHRASES if holds(relation, boxes[subject], boxes[other])]
    return subject, pick(draw, true), other


def facts_of(draw: random.Random, boxes: Sequence[Box]) -> list[tuple[int, str, int]]:
    """Thing 0 to thing 1, then each further thing to the one before it."""
    pairs = [(0, 1), *((k, k - 1) for k in range(2, len(boxes)))]
    return [relate(draw, boxes, a, b) for a, b in pairs]


def names_only(things: Sequence[Named]) -> str:
    """``"a red car, a dog and a blue house"``; ``"three drawings of a car"`` where all are the same."""
    if len(set(things)) == 1:
        return f"{NUMBERS[len(things)]} {'drawing' if len(things) == 1 else 'drawings'} of {things[0].one}"
    words = [thing.one for thing in things]
    return f"{', '.join(words[:-1])} and {words[-1]}"


def relations(things: Sequence[Named], facts: Sequence[tuple[int, str, int]]) -> str:
    """``"a red car to the left of a blue house, and a dog above the blue house"``."""
    said: set[int] = set()
    parts = []
    for a, relation, b in facts:
        subject, other = (f"the {things[i].bare}" if i in said else things[i].one for i in (a, b))
        parts.append(f"{subject} {PHRASES[relation]} {other}")
        said |= {a, b}
    return ", and ".join(parts)


def place_of(box: Box, size: int) -> str:
    """Which ninth of the canvas the middle of a box lies in, in words."""
    column, row = (min(2, 3 * (box[i] + box[i + 2]) // (2 * size)) for i in (0, 1))
    if column == row == 1:
        return "in the middle"
    if row == 1:
        return "near the left edge" if column == 0 else "near the right edge"
    side = ("left ", "", "right ")[column]
    edge = ("upper", "", "lower")[row]
    return f"in the {edge} {side}corner" if side else f"near the {edge} edge"


def long_caption(things: Sequence[Named], boxes: Sequence[Box], facts: Sequence[tuple[int, str, int]], size: int) -> str:
    """More than 40 words: a common opening, then every thing with its size and place, then the relations."""
    count = NUMBERS[len(things)]
    said = [
        f"This picture was put together from {count} separate drawings that were laid on a plain background, each of them in its own place "
        "and none of them hiding another"
    ]
    for thing, box in zip(things, boxes, strict=True):
        side = max(box[2] - box[0], box[3] - box[1]) / size
        much = "small" if side < 0.3 else "large" if side > 0.42 else "of middle size"
        said.append(f"One drawing shows {thing.one}, which is {much} and lies {place_of(box, size)} of the picture")
    if len(set(things)) > 1:
        said += [f"The {things[a].bare} is {PHRASES[relation]} the {things[b].bare}" for a, relation, b in facts]
    return f"{'. '.join(said)}."


def swapped(things: Sequence[Named], counts: tuple[int, int]) -> tuple[str, list[Named]]:
    """What to say so that it is false: the kind of swap and the things as they are named then.

    ``"colours"``: the colours of the first two exchanged; ``"order"``: the first two exchanged; ``"count"``: one thing fewer or more.

    Args:
        counts: fewest and most things that a false count claims.
    """
    if len(set(things)) == 1:
        step = 1 if things[0].label % 2 else -1
        return "count", [things[0]] * (len(things) + (step if counts[0] <= len(things) + step <= counts[1] else -step))
    first, second = things[0], things[1]
    if first.colour is not None:
        return "colours", [replace(first, colour=second.colour), replace(second, colour=first.colour), *things[2:]]
    return "order", [second, first, *things[2:]]
