"""PictoBench's scenes with places: what a box shows, where a thing is, how many and how big, what is damaged.

Boxes, masks and levels are those that the picture was made with. Masks are in COCO's uncompressed run lengths.
Shapes: H height, W width.
"""

from __future__ import annotations

import random

import numpy as np

from diptych.core.types import Sample
from diptych.data import pictograms
from diptych.data.pictograms import scene_drawings as drawings
from diptych.data.pictograms.bench_scenes import (
    NAMES,
    SIZE,
    TRIES,
    by_style,
    decks,
    encode_mask,
    labels_of,
    png,
    sample,
    scene,
    square_at,
    stream,
    thing,
)
from diptych.data.pictograms.scene_drawings import Box, pick, whole
from diptych.data.pictograms.scene_words import Named, names_only

HANDS = (2, 3, 2, 3, 2)  # how a deck of twelve is dealt into scenes
SIDES = (10, 17, 24, 32, 42, 54)  # pixels: six sizes to be put in order
DAMAGES = ("hole", "blot", "turned")
CLASSES = NAMES


def regions(split: str, count: int, seed: int = 0) -> list[Sample]:
    """Two or three of twelve things in each picture, every thing equally often; ``5 * count`` pictures.

    ``meta``: ``masks`` beside the boxes, one a thing.
    """
    styles, made = by_style(split, frozenset(labels_of(NAMES))), []
    draw = stream(seed, "regions", split)
    for number, hand in enumerate(decks(draw, labels_of(NAMES), HANDS, count)):
        style = pick(draw, sorted(styles))
        identities = dict(styles[style])
        squares = drawings.scattered(draw, SIZE, (0.35, 0.5), len(hand))
        drawn = scene(style, [thing(split, (label, identities[label]), square) for label, square in zip(hand, squares, strict=True)])
        mask_HW = drawn.mask()
        masks = [encode_mask(mask_HW == k) for k in range(1, len(hand) + 1)]
        names = names_only([one.named for one in drawn.things])
        made.append(sample(f"{number:04d}", split, drawn, [names], masks=masks))
    return made


def ordering(split: str, lists: int, seed: int = 0) -> list[Sample]:
    """``lists`` lists of six pictures of one drawing in six numbers (1 to 6), and as many in six sizes; ``12 * lists`` pictures.

    ``meta``: ``list``, ``level`` (the number, or the longer side in pixels), ``group`` (``"count"`` or ``"size"``), and in words the two
    ends, ``low`` and ``high``.
    """
    styles, made = by_style(split), []
    for number in range(2 * lists):
        draw = stream(seed, "ordering", split, number)
        style = pick(draw, sorted(styles))
        row = pick(draw, styles[style])
        named, kind = Named(row[0], None), ("count", "size")[number % 2]
        bare = Named(row[0], None).bare
        low, high = (
            (f"one drawing of {named.one}", f"many drawings of {named.one}") if kind == "count" else (f"a tiny {bare}", f"a huge {bare}")
        )
        for step in range(len(SIDES)):
            squares = drawings.in_cells(draw, SIZE, (0.25, 0.32), step + 1, 3) if kind == "count" else [square_at(draw, SIDES[step])]
            drawn = scene(style, [thing(split, row, square) for square in squares])
            told = {"list": f"{number:04d}", "level": step + 1 if kind == "count" else SIDES[step], "low": low, "high": high}
            made.append(sample(f"{number:04d}-{step}", split, drawn, [named.one], group=kind, **told))
    return made


def anomalies(split: str, pairs: int, seed: int = 0) -> list[Sample]:
    """A drawing as it is and damaged in one place, two pictures a pair; the same things whatever the split.

    ``meta``: ``damaged``, ``name`` (``"a dog"``), ``damage`` (the mask of all pixels that differ), ``group`` (the kind of damage: a square
    ``hole`` down to the ground, a dark ``blot``, a square ``turned`` by half), ``pair``.
    """
    styles, made = by_style(split), []
    common = sorted(
        {label for rows in by_style("style").values() for label, _ in rows} & {i for rows in by_style("train").values() for i, _ in rows}
    )
    for number in range(pairs):
        label = pick(stream(seed, "anomalies", number), common)
        draw = stream(seed, "anomalies", split, number)
        kind = DAMAGES[number % len(DAMAGES)]
        for _ in range(TRIES):
            style = pick(draw, [s for s in sorted(styles) if label in dict(styles[s])])
            whole_one = scene(style, [thing(split, (label, dict(styles[style])[label]), square_at(draw, whole(draw, 50, 58)))])
            before_HW3 = whole_one.pixels()
            after_HW3, place = damaged(draw, before_HW3, whole_one.mask() > 0, kind)
            differs_HW = (before_HW3 != after_HW3).any(-1)
            if differs_HW.sum() >= 0.4 * (place[2] - place[0]) * (place[3] - place[1]):
                break
        else:
            raise RuntimeError(f"no damage of kind {kind} shows on label {label} in {TRIES} tries")
        name = Named(label, None).one
        for bad, image in enumerate((before_HW3, after_HW3)):
            told = {"damaged": bool(bad), "name": name, "damage": encode_mask(differs_HW & bool(bad)), "pair": f"{number:04d}"}
            told |= {"group": kind, "concept": pictograms.concepts()[label].id}
            made.append(sample(f"{number:04d}-{bad}", split, whole_one, [name], png(image), **told))
    return made


def damaged(draw: random.Random, image_HW3: np.ndarray, solid_HW: np.ndarray, kind: str) -> tuple[np.ndarray, Box]:
    """A copy with a square of 14 to 20 pixels damaged, its middle on the drawing, and the square."""
    side = whole(draw, 14, 20)
    rows, columns = np.nonzero(solid_HW)
    at = whole(draw, 0, len(rows) - 1)
    top, left = (min(max(int(middle[at]) - side // 2, 0), SIZE - side) for middle in (rows, columns))
    made_HW3 = image_HW3.copy()
    part = made_HW3[top : top + side, left : left + side]
    if kind == "hole":
        part[:] = 255
    elif kind == "turned":
        part[:] = part[::-1, ::-1].copy()
    else:
        y, x = np.mgrid[:side, :side] - (side - 1) / 2
        part[x**2 + y**2 <= (side / 2) ** 2] = (40, 30, 30)
    return made_HW3, (left, top, left + side, top + side)
