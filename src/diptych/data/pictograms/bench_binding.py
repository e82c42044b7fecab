"""PictoBench's choices between captions: whose colour, who stands where, how many.

Each scene is made twice (or seven times), so that every caption that is offered is right for one picture of its pair and wrong for the
other: whoever reads only the captions is right exactly as often as chance. ``meta`` has ``choices``, ``answer`` (an index), ``pair``,
``group`` (the kind).
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from diptych.core.types import Sample
from diptych.data.pictograms import scene_drawings as drawings
from diptych.data.pictograms.bench_scenes import SIZE, TRIES, by_style, sample, scene, square_at, stream, thing, two_of
from diptych.data.pictograms.scene_drawings import COLOURS, Box, pick, shuffled, whole
from diptych.data.pictograms.scene_words import PHRASES, Named, holds, names_only, relations

MOST = 6  # things in a picture to be counted


def attributes(split: str, pairs: int, seed: int = 0) -> list[Sample]:
    """Two things in two colours: ``"a red car and a blue house"`` against the colours exchanged; 2 pictures a pair."""
    styles, made = by_style(split), []
    for number in range(pairs):
        draw = stream(seed, "attributes", split, number)
        style = pick(draw, sorted(styles))
        rows, colours = two_of(draw, styles[style]), shuffled(draw, sorted(COLOURS))[:2]
        squares = drawings.scattered(draw, SIZE, (0.38, 0.5), 2)
        orders = colours, colours[::-1]
        choices = [names_only([Named(row[0], colour) for row, colour in zip(rows, order, strict=True)]) for order in orders]
        for answer, order in enumerate(orders):
            things = [thing(split, *each) for each in zip(rows, squares, order, strict=True)]
            told = {"choices": choices, "answer": answer, "pair": f"{number:04d}"}
            made.append(sample(f"{number:04d}-{answer}", split, scene(style, things), [choices[answer]], **told))
    return made


def relation_pairs(split: str, pairs: int, seed: int = 0) -> list[Sample]:
    """Two things and one of six relations: ``"a dog above a key"`` against ``"a key above a dog"``; ``pairs`` of each relation."""
    styles, made = by_style(split), []
    for number in range(pairs * len(PHRASES)):
        kind = list(PHRASES)[number % len(PHRASES)]
        draw = stream(seed, "relations", split, number)
        style = pick(draw, sorted(styles))
        for rows, squares in _candidates(draw, kind, styles[style]):
            variants = [[thing(split, *each) for each in zip(rows, order, strict=True)] for order in (squares, (squares[1], squares[0]))]
            if holds(kind, variants[0][0].box, variants[0][1].box) and holds(kind, variants[1][1].box, variants[1][0].box):
                break
        else:
            raise RuntimeError(f"no two drawings of style {style} stand {PHRASES[kind]} each other in {TRIES} tries")
        names = [Named(row[0], None) for row in rows]
        choices = [relations(names, [(a, kind, 1 - a)]) for a in (0, 1)]
        for answer, things in enumerate(variants):
            told = {"choices": choices, "answer": answer, "pair": f"{number:04d}", "group": kind}
            made.append(sample(f"{number:04d}-{answer}", split, scene(style, things), [choices[answer]], **told))
    return made


def _candidates(draw: random.Random, kind: str, rows: tuple[tuple[int, str], ...]) -> Iterator[tuple[tuple, tuple[Box, Box]]]:
    """Two drawings and two squares of which the first stands in the relation to the second."""
    for _ in range(TRIES):
        if kind in ("bigger", "smaller"):
            big, small = square_at(draw, whole(draw, 34, 40)), square_at(draw, whole(draw, 16, 19))
            if _apart(big, small):
                yield two_of(draw, rows), (big, small) if kind == "bigger" else (small, big)
            continue
        side = whole(draw, 24, 30)
        first, cross = whole(draw, 0, SIZE - 2 * side - 2), whole(draw, 6, SIZE - side - 6)
        second = whole(draw, first + side + 2, SIZE - side)
        low, high = (_square(kind, along, cross + whole(draw, -6, 6), side) for along in (first, second))
        yield two_of(draw, rows), (low, high) if kind in ("left", "above") else (high, low)


def _square(kind: str, along: int, across: int, side: int) -> Box:
    x, y = (along, across) if kind in ("left", "right") else (across, along)
    return x, y, x + side, y + side


def _apart(a: Box, b: Box) -> bool:
    return a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]


def counting(split: str, rounds: int, seed: int = 0) -> list[Sample]:
    """None to six drawings of one thing among as many of another as make six; ``7 * rounds`` pictures, seven captions to choose from.

    There are always six things of like sizes, so the amount of ink says nothing.
    """
    styles, made = by_style(split), []
    for number in range(rounds):
        draw = stream(seed, "counting", split, number)
        style = pick(draw, sorted(styles))
        asked, other = two_of(draw, styles[style])
        choices = [f"no drawings of {Named(asked[0], None).one}"]
        choices += [names_only([Named(asked[0], None)] * count) for count in range(1, MOST + 1)]
        for answer in range(MOST + 1):
            squares = drawings.in_cells(draw, SIZE, (0.25, 0.32), MOST, 3)
            things = [thing(split, asked if i < answer else other, square) for i, square in enumerate(squares)]
            told = {"choices": choices, "answer": answer, "pair": f"{number:04d}", "group": str(answer), "ordered": True}
            made.append(sample(f"{number:04d}-{answer}", split, scene(style, things), [choices[answer]], **told))
    return made
