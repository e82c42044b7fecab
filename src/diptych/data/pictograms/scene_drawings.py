"""What a scene is put together from: the drawings of one split by style, decoded once, and their colours and places.

Shapes: H height, W width, 4 channels RGBA with straight alpha. Every draw comes from a ``random.Random`` through ``random()`` alone,
whose stream is the same in every version of Python.
"""

from __future__ import annotations

import functools
import io
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from diptych.core.rng import seed_for
from diptych.data import pictograms

# six colours that nobody mixes up
COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (220, 30, 35),
    "yellow": (245, 210, 25),
    "green": (35, 155, 60),
    "blue": (35, 85, 225),
    "purple": (145, 45, 200),
    "grey": (128, 128, 128),
}
GROUPS = ("animals-nature", "food-drink", "travel-places", "activities", "objects")
# drawings that fill their square like a picture of their own, and clock faces: only where they are asked for by name
NO_THINGS = frozenset({"time", "sky-weather", "place-geographic", "place-other"})
COLOUR_WORDS = frozenset({*COLOURS, *("orange", "pink", "brown", "black", "white", "gray", "light", "dark", "gold", "golden", "silver")})
MOST_WORDS = 3
UNSEEN_SHARE = 5  # one pair of concept and colour in five is kept for "unseen" combinations
Item = TypeVar("Item")
Box = tuple[int, int, int, int]


def whole(draw: random.Random, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``, both included."""
    return low + int(draw.random() * (high - low + 1))


def pick(draw: random.Random, choices: Sequence[Item]) -> Item:
    """One of ``choices``."""
    return choices[int(draw.random() * len(choices))]


def shuffled(draw: random.Random, items: Sequence[Item]) -> list[Item]:
    """The items in a random order."""
    return [items[i] for i in sorted(range(len(items)), key=[draw.random() for _ in items].__getitem__)]


@functools.cache
def things(named: bool = False) -> frozenset[int]:
    """Labels of concepts that scenes hold, with a short plain name that says no colour; with ``named`` also those held only by name."""
    kept = set()
    for label, concept in enumerate(pictograms.concepts()):
        words = re.split(r"[ -]", concept.name.lower())
        plain = re.fullmatch(r"[A-Za-z’' -]+", concept.name) is not None and len(concept.name.split()) <= MOST_WORDS
        if plain and concept.group in GROUPS and not COLOUR_WORDS & set(words) and (named or concept.subgroup not in NO_THINGS):
            kept.add(label)
    return frozenset(kept)


@functools.cache
def unseen_colours(concept: str) -> frozenset[str]:
    """The colours that this concept has only in ``combinations="unseen"``: about one in five, by a hash of both."""
    return frozenset(colour for colour in COLOURS if seed_for(0, "combination", concept, colour) % UNSEEN_SHARE == 0)


@dataclass(frozen=True, slots=True)
class Pool:
    """The drawings of one split: for each style, in order of label, ``(label, id of the sample)``."""

    by_style: Mapping[str, tuple[tuple[int, str], ...]]
    files: Mapping[str, bytes]


@functools.cache
def pool(split: str) -> Pool:
    """The drawings of ``split`` that scenes may hold, read once."""
    styles: dict[str, list[tuple[int, str]]] = {}
    files = {}
    for sample in pictograms.samples(split):
        if sample.label in things(named=True) and isinstance(sample.image, bytes):
            styles.setdefault(str(sample.meta["style"]), []).append((sample.label, sample.id))
            files[sample.id] = sample.image
    return Pool({style: tuple(sorted(rows)) for style, rows in sorted(styles.items())}, files)


@functools.cache
def drawing(split: str, identity: str) -> Image.Image:
    """One drawing, decoded and cut to where it is not transparent, colours multiplied by alpha (mode ``RGBa``)."""
    image = Image.open(io.BytesIO(pool(split).files[identity])).convert("RGBA")
    return image.crop(_bounds(np.asarray(image)[..., 3])).convert("RGBa")


def _bounds(alpha_HW: np.ndarray) -> Box:
    """The smallest box with all that is not transparent: left, top, right, bottom, the last two just outside."""
    down, across = np.flatnonzero(alpha_HW.any(axis=1)), np.flatnonzero(alpha_HW.any(axis=0))
    return int(across[0]), int(down[0]), int(across[-1]) + 1, int(down[-1]) + 1


def resized(split: str, identity: str, side: int) -> np.ndarray:
    """The drawing with its longer side ``side`` pixels, cut to what is not transparent: uint8 ``(H, W, 4)``."""
    image = drawing(split, identity)
    factor = side / max(image.size)
    shape = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    pixels_HW4 = np.asarray(image.resize(shape, Image.Resampling.BOX if factor < 1 else Image.Resampling.BILINEAR).convert("RGBA"))
    left, top, right, bottom = _bounds(pixels_HW4[..., 3])
    return pixels_HW4[top:bottom, left:right]


def tinted(pixels_HW4: np.ndarray, colour: str) -> np.ndarray:
    """The drawing in shades of one colour: its darkest part a dark shade, its lightest a light one; alpha stays."""
    rgb, alpha_HW = pixels_HW4[..., :3].astype(np.float32), pixels_HW4[..., 3]
    light_HW = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    solid = light_HW[alpha_HW > alpha_HW.max() // 2]
    low, high = float(solid.min()), float(solid.max())
    t_HW1 = (np.clip((light_HW - low) / (high - low), 0, 1) if high - low > 8 else np.full_like(light_HW, 0.5))[..., None]
    middle = np.array(COLOURS[colour], np.float32)
    dark, pale = 0.5 * middle, middle + 0.45 * (255 - middle)
    shades = np.where(t_HW1 < 0.5, dark + 2 * t_HW1 * (middle - dark), middle + (2 * t_HW1 - 1) * (pale - middle))
    return np.concatenate([shades.round().astype(np.uint8), alpha_HW[..., None]], axis=-1)


def scattered(draw: random.Random, size: int, sides: tuple[float, float], count: int) -> list[Box]:
    """``count`` squares inside the canvas that do not touch; all become smaller until they fit."""
    room = 1.0
    while True:
        squares: list[Box] = []
        for _ in range(count):
            side = max(4, round(size * room * (sides[0] + draw.random() * (sides[1] - sides[0]))))
            for _ in range(8):
                x, y = whole(draw, 0, size - side), whole(draw, 0, size - side)
                if all(x >= r + 1 or y >= b + 1 or x + side + 1 <= left or y + side + 1 <= top for left, top, r, b in squares):
                    squares.append((x, y, x + side, y + side))
                    break
        if len(squares) == count:
            return squares
        room *= 0.93


def in_cells(draw: random.Random, size: int, sides: tuple[float, float], count: int, grid: int) -> list[Box]:
    """``count`` squares in as many cells of a ``grid`` × ``grid`` division, no square across a line."""
    cell = size // grid
    squares = []
    for at in shuffled(draw, range(grid * grid))[:count]:
        side = min(cell - 1, max(4, round(size * (sides[0] + draw.random() * (sides[1] - sides[0])))))
        x, y = cell * (at % grid) + whole(draw, 0, cell - 1 - side), cell * (at // grid) + whole(draw, 0, cell - 1 - side)
        squares.append((x, y, x + side, y + side))
    return squares


def json_ready(value: Any) -> Any:
    """Tuples as lists, all the way down, as JSON reads them back."""
    return [json_ready(v) for v in value] if isinstance(value, (list, tuple)) else value
