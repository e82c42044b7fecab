"""What PictoBench's scenes have in common: drawings by style, things on squares, and samples that say everything known about them.

A bench scene is a :class:`~diptych.data.pictograms.scenes.Scene` whose things were placed on purpose. Its sample's ``meta`` has, as plain
JSON, ``boxes`` (left, top, right, bottom in 0…1, tight), ``regions`` (what each thing is called), ``colours``, ``style``, ``split``, and
what the set's protocol asks for. Everything is drawn from a ``random.Random`` of seed, set, split and number: the same pixels anywhere.
Shapes: H height, W width.
"""

from __future__ import annotations

import functools
import io
import json
import random
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from diptych.core.rng import seed_for
from diptych.core.types import Sample
from diptych.data import pictograms
from diptych.data.pictograms import scene_drawings as drawings
from diptych.data.pictograms.scene_drawings import Box, pick, shuffled, whole
from diptych.data.pictograms.scene_words import Named
from diptych.data.pictograms.scenes import Scene, SceneConfig, Thing

SIZE = 64
WHITE = (255, 255, 255)
# twelve things that look like nothing else here and are drawn in every test style
NAMES = ("dog", "cat", "banana", "pizza", "automobile", "bicycle", "airplane", "house", "guitar", "key", "carrot", "butterfly")
TRIES = 2000
Row = tuple[int, str]  # label of a concept, id of one drawing of it


def stream(seed: int, *names: object) -> random.Random:
    """The random numbers of one scene or one list of scenes."""
    return random.Random(seed_for(seed, "pictobench", *names))


@functools.cache
def by_style(split: str, labels: frozenset[int] | None = None) -> dict[str, tuple[Row, ...]]:
    """The drawings of a split by style, in order of concept: of every thing with a short plain name, or of all of ``labels``.

    With ``labels`` only the styles that have a drawing of each of them.
    """
    wanted = drawings.things() if labels is None else labels
    found = {style: tuple(row for row in rows if row[0] in wanted) for style, rows in drawings.pool(split).by_style.items()}
    return {style: rows for style, rows in found.items() if labels is None or {label for label, _ in rows} == labels}


def labels_of(names: Sequence[str]) -> tuple[int, ...]:
    """The labels of concepts by name."""
    known = {concept.name: label for label, concept in enumerate(pictograms.concepts())}
    return tuple(known[name] for name in names)


def two_of(draw: random.Random, rows: Sequence[Row]) -> tuple[Row, Row]:
    """Drawings of two different concepts."""
    first = pick(draw, rows)
    return first, pick(draw, [row for row in rows if row[0] != first[0]])


def thing(split: str, row: Row, square: Box, colour: str | None = None) -> Thing:
    """A drawing in the middle of a square, its longer side that of the square, tinted where a colour is given."""
    left, top, right, bottom = square
    pixels_HW4 = drawings.resized(split, row[1], right - left)
    pixels_HW4 = pixels_HW4 if colour is None else drawings.tinted(pixels_HW4, colour)
    x, y = left + (right - left - pixels_HW4.shape[1]) // 2, top + (bottom - top - pixels_HW4.shape[0]) // 2
    return Thing(Named(row[0], colour), (x, y, x + pixels_HW4.shape[1], y + pixels_HW4.shape[0]), pixels_HW4)


def square_at(draw: random.Random, side: int) -> Box:
    """A square of ``side`` pixels somewhere inside the canvas."""
    x, y = whole(draw, 0, SIZE - side), whole(draw, 0, SIZE - side)
    return x, y, x + side, y + side


def scene(style: str, things: Sequence[Thing], background: tuple[int, int, int] = WHITE) -> Scene:
    """Things on a plain ground."""
    return Scene(SceneConfig(size=SIZE, background=background), style, tuple(things), ())


def png(pixels_HW3: np.ndarray) -> bytes:
    """Pixels as PNG (lossless)."""
    file = io.BytesIO()
    Image.fromarray(pixels_HW3).save(file, "PNG", compress_level=3)
    return file.getvalue()


def sample(identity: str, split: str, made: Scene, captions: Sequence[str], image: bytes | None = None, **more: Any) -> Sample:
    """A scene as a sample; ``label`` and ``concept`` of ``more`` become the sample's own, the rest is added to its ``meta``.

    Args:
        image: the picture where it is not the scene's own.
    """
    label, concept = more.pop("label", None), more.pop("concept", None)
    meta = {
        "boxes": [[edge / made.config.size for edge in thing.box] for thing in made.things],
        "regions": [thing.named.bare for thing in made.things],
        "colours": [thing.named.colour for thing in made.things],
        "style": made.style,
        "split": split,
        **more,
    }
    return Sample(identity, made.png() if image is None else image, tuple(captions), label, concept, meta)


def encode_mask(mask_HW: np.ndarray) -> dict[str, Any]:
    """A mask as COCO's uncompressed run lengths: columns one after another, the first run is of zeros."""
    flat = np.asarray(mask_HW, bool).T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"size": list(mask_HW.shape), "counts": [0, *counts] if flat[0] else counts}


def decode_mask(told: Mapping[str, Any]) -> np.ndarray:
    """bool ``(H, W)`` of what :func:`encode_mask` made. Raises ``ValueError`` where the runs do not fill the size."""
    height, width = (int(side) for side in told["size"])
    counts = np.asarray(told["counts"], np.int64)
    if (counts < 0).any() or counts.sum() != height * width:
        raise ValueError(f"runs of {int(counts.sum())} pixels for a mask of {height} × {width}")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def decks(draw: random.Random, items: Sequence[Any], hands: Sequence[int], count: int) -> list[list[Any]]:
    """``count`` shuffled decks, each dealt into hands of the given sizes, so that every item is dealt equally often."""
    found = []
    for _ in range(count):
        deck, at = shuffled(draw, items), 0
        for size in hands:
            found.append(deck[at : at + size])
            at += size
    return found


def write(folder: Path, samples: Sequence[Sample], classes: Sequence[str] = (), per_shard: int = 1024) -> list[Path]:
    """Samples as tars in the webdataset layout: ``KEY.png``, ``KEY.json`` and, with classes, ``KEY.cls`` beside ``classnames.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    if classes:
        (folder / "classnames.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    paths = []
    for start in range(0, len(samples), per_shard):
        path = folder / f"{start // per_shard:04d}.tar"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for one in samples[start : start + per_shard]:
                members = {"png": one.image, "json": json.dumps({"captions": one.captions, **one.meta}, ensure_ascii=False).encode()}
                if classes and one.label is not None:
                    members["cls"] = str(one.label).encode()
                for suffix, data in members.items():
                    assert isinstance(data, bytes)
                    member = tarfile.TarInfo(f"{one.id}.{suffix}")
                    member.size, member.mode, member.mtime = len(data), 0o644, 0
                    tar.addfile(member, io.BytesIO(data))
        paths.append(path)
    return paths
