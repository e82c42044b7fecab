"""PictoBench's traps: a ground that goes with the class in training and not in the test, and colours that belong to the other thing."""

from __future__ import annotations

import random
from collections.abc import Sequence

from diptych.core.types import Sample
from diptych.data.pictograms import scene_drawings as drawings
from diptych.data.pictograms.bench_scenes import NAMES, SIZE, by_style, labels_of, sample, scene, square_at, stream, thing
from diptych.data.pictograms.scene_drawings import COLOURS, pick, shuffled, whole
from diptych.data.pictograms.scene_words import Named

GROUNDS = {"green": (120, 200, 110), "blue": (120, 170, 235)}
# the ground that a thing goes with in training: six of twelve each
HOME = dict(zip(NAMES, ("green", "green", "blue", "blue", "green", "green", "blue", "green", "blue", "blue", "green", "blue"), strict=True))
EXCEPTIONS = 20  # one training picture in twenty has the other ground
CLASSES = NAMES
# the colour that a thing is known for
KNOWN = {
    "lemon": "yellow", "banana": "yellow", "pineapple": "yellow", "tomato": "red", "cherries": "red", "hot pepper": "red", "crab": "red",
    "cucumber": "green", "frog": "green", "crocodile": "green", "cactus": "green", "eggplant": "purple", "grapes": "purple",
    "spouting whale": "blue", "jeans": "blue", "wolf": "grey", "rhinoceros": "grey", "shark": "grey",
}  # fmt: skip


def backgrounds(split: str, copies: int, seed: int = 0, exceptions: int = EXCEPTIONS) -> list[Sample]:
    """One thing on a green or a blue ground.

    In a test split every picture is made on both grounds. In ``train`` each thing stands on its own ground but for
    one picture in ``exceptions`` (2: the ground says nothing about the class).

    ``meta``: ``background``, ``backgrounds`` (all there are), ``home`` (the ground of the class in training), ``group`` (``"common"`` on
    that ground, ``"counter"`` on the other), ``drawing`` (pictures of one drawing share it).

    Args:
        copies: how often each drawing is placed.
    """
    styles, made, number = by_style(split, frozenset(labels_of(NAMES))), [], 0
    for index, name in enumerate(NAMES):
        label, home = labels_of([name])[0], HOME[name]
        other = next(ground for ground in GROUNDS if ground != home)
        for style in sorted(styles):
            row = (label, dict(styles[style])[label])
            for copy in range(copies):
                draw = stream(seed, "backgrounds", split, name, style, copy)
                placed = thing(split, row, square_at(draw, whole(draw, 36, 52)))
                number += 1
                grounds = (home, other) if split != "train" else (other if number % exceptions == 0 else home,)
                for ground in grounds:
                    told = {"background": ground, "backgrounds": list(GROUNDS), "home": home, "drawing": row[1]}
                    told |= {"group": "common" if ground == home else "counter", "label": index, "concept": row[1]}
                    caption = f"{placed.named.one} on a {ground} background"
                    identity = f"{index:02d}-{style}-{copy}-{ground}"
                    made.append(sample(identity, split, scene(style, [placed], GROUNDS[ground]), [caption], **told))
    return made


def associations(split: str, rounds: int, seed: int = 0) -> list[Sample]:
    """Two things in two colours, and the question which colour the first one has.

    ``meta``: ``choices`` (``"a yellow lemon"`` in each of six colours), ``answer``, ``other`` (the index of the other thing's colour; null
    where there is one thing), ``asked``, ``group``:

    - ``known``: both things in the colour that they are known for, which is not the same;
    - ``free``: in any two different colours. Of each asked thing both its own and the other's colours are all six, equally often, so
      nobody who knows only the question is right, or names the other's colour, more often than one time in six;
    - ``alone``: one thing, in each of the six colours.

    Args:
        rounds: six pictures of each of eighteen things in each part a round.
    """
    made, palette = [], sorted(COLOURS)
    for turn in range(rounds):
        for asked in KNOWN:
            draw = stream(seed, "associations", split, turn, asked)
            shift = whole(draw, 1, len(palette) - 1)
            different = shuffled(draw, [name for name in KNOWN if KNOWN[name] != KNOWN[asked]])
            others = shuffled(draw, [name for name in KNOWN if name != asked])
            for number, colour in enumerate(palette):
                second = palette[(number + shift) % len(palette)]
                for group, names, colours in (
                    ("known", (asked, different[number]), (KNOWN[asked], KNOWN[different[number]])),
                    ("free", (asked, others[number]), (colour, second)),
                    ("alone", (asked,), (colour,)),
                ):
                    identity = f"{turn:02d}-{asked.replace(' ', '-')}-{group}-{number}"
                    made.append(_question(identity, split, draw, names, colours, group))
    return made


def _question(identity: str, split: str, draw: random.Random, names: Sequence[str], colours: Sequence[str], group: str) -> Sample:
    """One picture and what is asked of its first thing."""
    styles, palette, labels = by_style(split, frozenset(labels_of(tuple(KNOWN)))), sorted(COLOURS), labels_of(names)
    style = pick(draw, sorted(styles))
    identities = dict(styles[style])
    squares = drawings.scattered(draw, SIZE, (0.38, 0.5), len(names))
    things = [thing(split, (i, identities[i]), s, c) for i, s, c in zip(labels, squares, colours, strict=True)]
    told = {
        "choices": [Named(labels[0], colour).one for colour in palette],
        "answer": palette.index(colours[0]),
        "other": palette.index(colours[1]) if len(colours) > 1 else None,
        "asked": names[0],
        "group": group,
    }
    return sample(identity, split, scene(style, things), [things[0].named.one], **told)
