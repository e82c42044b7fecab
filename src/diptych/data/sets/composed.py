"""Composed queries on tinted drawings: a picture and some words ask for one other picture.

Each of :data:`THINGS` drawings (twemoji, a style never trained on) is tinted in each of the scenes' six colours and laid alone on white, at
a place and size of its own. Every picture asks two questions of the same gallery, each with exactly one right answer: with a colour's name
for the same thing in that colour, and with a thing's name for that thing in the same colour. The picture alone cannot know the answer, nor
can the words: "blue" fits every blue thing, "a house" every house. The questions stand in ``meta["composed"]``, a list of
``{"words", "target" (an id), "kind"}``.
"""

from __future__ import annotations

import functools
import random
from typing import TYPE_CHECKING

from diptych.core.rng import seed_for
from diptych.data.sets.base import EvalSet

if TYPE_CHECKING:
    from diptych.core.types import Sample
    from diptych.data.pictograms.scene_words import Named
    from diptych.data.pictograms.scenes import SceneConfig

VERSION = "1"
THINGS = 48
STYLE, SPLIT = "twemoji", "style"
SIDES = (0.5, 0.8)


def _config() -> SceneConfig:
    from diptych.data.pictograms.scenes import SceneConfig

    return SceneConfig(count=(1, 1), same=1.0, tint=1.0, sides=SIDES)


@functools.cache
def _chosen() -> tuple[tuple[int, str], ...]:
    """Labels and drawings of the things, by a fixed draw from those that scenes may hold."""
    from diptych.data.pictograms import scene_drawings as drawings

    known = [row for row in drawings.pool(SPLIT).by_style[STYLE] if row[0] in drawings.things()]
    return tuple(sorted(drawings.shuffled(random.Random(seed_for(0, "composed")), known)[:THINGS]))


def _picture(named: Named, identity: str, draw: random.Random) -> bytes:
    from diptych.data.pictograms import scene_drawings as drawings
    from diptych.data.pictograms.scenes import Scene, Thing

    config = _config()
    side = round(config.size * (SIDES[0] + draw.random() * (SIDES[1] - SIDES[0])))
    pixels = drawings.tinted(drawings.resized(SPLIT, identity, side), str(named.colour))
    x, y = (drawings.whole(draw, 0, config.size - pixels.shape[axis]) for axis in (1, 0))
    return Scene(config, STYLE, (Thing(named, (x, y, x + pixels.shape[1], y + pixels.shape[0]), pixels),), ()).png()


@functools.cache
def _samples() -> tuple[Sample, ...]:
    from diptych.core.types import Sample
    from diptych.data import pictograms
    from diptych.data.pictograms.scene_drawings import COLOURS, pick
    from diptych.data.pictograms.scene_words import Named

    table, made = pictograms.concepts(), []
    for label, identity in _chosen():
        for colour in COLOURS:
            draw = random.Random(seed_for(0, "composed", label, colour))
            named = Named(label, colour)
            image = _picture(named, identity, draw)
            other_colour = pick(draw, [each for each in COLOURS if each != colour])
            other_label = pick(draw, [each for each, _ in _chosen() if each != label])
            asked = [
                {"words": other_colour, "target": _name(label, other_colour), "kind": "colour"},
                {"words": Named(other_label, None).one, "target": _name(other_label, colour), "kind": "thing"},
            ]
            meta = {"composed": asked, "colour": colour, "style": STYLE, "split": SPLIT}
            made.append(Sample(_name(label, colour), image, (named.one,), concept=table[label].id, meta=meta))
    return tuple(sorted(made, key=lambda sample: sample.id))


def _name(label: int, colour: str) -> str:
    return f"{label:04d}-{colour}"


SET = EvalSet(
    name="scenes/composed",
    version=VERSION,
    about="a picture and a word ask for another picture: this thing in another colour, another thing in this colour",
    read_samples=_samples,
    read_classes=tuple,
    tasks=("composed_retrieval",),
    metric="composed_r@1",
    read_chance=lambda: 1 / (len(_samples()) - 1),
    sealed=True,
)
