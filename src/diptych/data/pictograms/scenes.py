"""Scenes put together from the embedded drawings, with everything known about them: boxes, masks, colours, relations, false captions.

A scene is a pure function of its :class:`SceneConfig`, its split and a seed: the same pixels wherever it is made, and the same bytes with
the same Pillow. ``diptych.data.open("scenes/train")`` gives scenes as an ordinary data set that makes each picture when it is asked for.
Styles, concepts and drawings keep to the splits of the corpus, so that a model trained on ``train`` has seen no drawing of the others.
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator

from diptych.core.errors import UsageError, nearest
from diptych.core.rng import seed_for
from diptych.core.types import Sample
from diptych.data import pictograms
from diptych.data.pictograms import scene_drawings as drawings
from diptych.data.pictograms import scene_words as words
from diptych.data.pictograms.scene_drawings import COLOURS, Box, pick
from diptych.data.pictograms.scene_words import Named
from diptych.data.sources.base import Dataset, digest

SPLITS = ("train", "validation", "style", "unseen")
COUNTS = {"train": 8192, "validation": 512, "style": 1024, "unseen": 512}
VERSION = "1"
TRIES = 1000


class SceneConfig(BaseModel):
    """How scenes are made.

    Args:
        size: side of the square canvas in pixels.
        count: fewest and most things in a scene.
        sides: range of a thing's longer side, as a share of the canvas; smaller where they would not fit.
        background: colour of the canvas.
        tint: share of scenes whose things are tinted, each in another colour of :data:`COLOURS`; the other scenes keep their colours.
        combinations: which pairs of concept and colour occur: ``"all"``, or one of the two sides of a fixed division, of which
            ``"unseen"`` has about one pair in five.
        same: share of scenes in which all things are one drawing, to be counted.
        grid: cells a side that things keep to, one thing a cell; None scatters them.
        concepts: names of the concepts that occur; None takes every thing with a short plain name. A name must say no colour.
        words: the captions: ``"relations"`` (and the names alone), ``"names"``, or ``"long"`` (more than 40 words).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    size: int = Field(default=64, ge=32, le=512)
    count: tuple[int, int] = (2, 4)
    sides: tuple[float, float] = (0.25, 0.5)
    background: tuple[int, int, int] = (255, 255, 255)
    tint: float = Field(default=0.5, ge=0.0, le=1.0)
    combinations: Literal["all", "seen", "unseen"] = "all"
    same: float = Field(default=0.0, ge=0.0, le=1.0)
    grid: int | None = Field(default=None, ge=2, le=4)
    concepts: tuple[str, ...] | None = None
    words: Literal["relations", "names", "long"] = "relations"

    @model_validator(mode="after")
    def _fits(self) -> SceneConfig:
        low, high = self.count
        if not 1 <= low <= high <= (9 if self.grid is None else self.grid**2) or (low == 1 and self.same < 1.0):
            raise ValueError("count must be (low, high) with 1 <= low <= high <= 9 and the cells there are; 1 only with same=1")
        if self.tint > 0 and self.same < 1 and high > len(COLOURS) - 2:
            raise ValueError(f"at most {len(COLOURS) - 2} things can have colours of their own")
        if not 0.0 < self.sides[0] <= self.sides[1] <= 0.9:
            raise ValueError("sides must be (low, high) with 0 < low <= high <= 0.9")
        if not all(0 <= level <= 255 for level in self.background):
            raise ValueError("background must be three levels from 0 to 255")
        return self


@dataclass(frozen=True, slots=True)
class Thing:
    """One drawing in a scene: how it is named, its box in pixels (tight round alpha > 0), its own pixels."""

    named: Named
    box: Box
    pixels_HW4: np.ndarray


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene before it is a picture.

    Args:
        facts: ``(i, relation, j)``: thing i stands so to thing j.
    """

    config: SceneConfig
    style: str
    things: tuple[Thing, ...]
    facts: tuple[tuple[int, str, int], ...]

    def pixels(self) -> np.ndarray:
        """uint8 ``(H, W, 3)``; things laid on the ground in their order."""
        size = self.config.size
        canvas = np.empty((size, size, 3), np.float32)
        canvas[:] = self.config.background
        for thing in self.things:
            left, top, right, bottom = thing.box
            alpha_HW1 = thing.pixels_HW4[..., 3:].astype(np.float32) / 255
            part = canvas[top:bottom, left:right]
            part += alpha_HW1 * (thing.pixels_HW4[..., :3] - part)
        return canvas.round().astype(np.uint8)

    def png(self) -> bytes:
        """The picture as PNG (lossless)."""
        file = io.BytesIO()
        Image.fromarray(self.pixels()).save(file, "PNG", compress_level=3)
        return file.getvalue()

    def mask(self) -> np.ndarray:
        """int64 ``(H, W)``: 0 is ground, k the k-th thing (from 1) wherever its alpha is above 0."""
        mask_HW = np.zeros((self.config.size, self.config.size), np.int64)
        for number, thing in enumerate(self.things, start=1):
            left, top, right, bottom = thing.box
            mask_HW[top:bottom, left:right][thing.pixels_HW4[..., 3] > 0] = number
        return mask_HW

    def caption(self, form: str, named: Sequence[Named] | None = None) -> str:
        """One caption; ``named`` says other names than the true ones."""
        named = named or [thing.named for thing in self.things]
        if form == "long":
            return words.long_caption(named, [thing.box for thing in self.things][: len(named)], self.facts, self.config.size)
        return words.relations(named, self.facts) if form == "relations" and len(set(named)) > 1 else words.names_only(named)

    def captions(self) -> tuple[str, ...]:
        """The captions of the config's form, the one that ``swapped`` falsifies first."""
        told = (self.caption(self.config.words), self.caption("names")) if self.config.words == "relations" else ()
        return tuple(dict.fromkeys(told)) or (self.caption(self.config.words),)

    def false(self) -> tuple[str | None, str | None]:
        """Which swap and the first caption after it, false of the picture; None where names in another order stay true."""
        named = [thing.named for thing in self.things]
        kind, other = words.swapped(named, self.config.count)
        if kind == "order" and self.config.words == "names":
            return None, None
        form = "names" if kind == "count" else self.config.words
        return kind, self.caption(form, other)


def compose(config: SceneConfig, split: str, seed: int) -> Scene:
    """The scene of ``seed``. Raises :class:`UsageError` where the split has too few concepts for the config."""
    draw = random.Random(seed_for(seed, "scene", split))
    by_style = _usable(config, split)
    style = pick(draw, sorted(by_style))
    count = drawings.whole(draw, *config.count)
    alike, tint = draw.random() < config.same, draw.random() < config.tint
    chosen = _choose(draw, config, by_style[style], 1 if alike else count, tint) * (count if alike else 1)
    room = (config.size, config.sides, count)
    squares = drawings.scattered(draw, *room) if config.grid is None else drawings.in_cells(draw, *room, config.grid)
    things = []
    for (named, identity), (left, top, right, bottom) in zip(chosen, squares, strict=True):
        pixels = drawings.resized(split, identity, right - left)
        pixels = pixels if named.colour is None else drawings.tinted(pixels, named.colour)
        x, y = left + (right - left - pixels.shape[1]) // 2, top + (bottom - top - pixels.shape[0]) // 2
        things.append(Thing(named, (x, y, x + pixels.shape[1], y + pixels.shape[0]), pixels))
    facts = words.facts_of(draw, [thing.box for thing in things]) if count > 1 else []
    return Scene(config, style, tuple(things), tuple(facts))


_USABLE: dict[tuple[str, Any, str], dict[str, list[tuple[int, str]]]] = {}


def _usable(config: SceneConfig, split: str) -> dict[str, list[tuple[int, str]]]:
    """By style, the drawings that a config may use; styles with too few concepts are left out."""
    key = (split, config.concepts, config.combinations if config.tint else "all")
    if key not in _USABLE:
        if split not in SPLITS:
            raise UsageError(f"split {split!r} of scenes", "no such split", nearest(split, SPLITS))
        table = pictograms.concepts()
        known = {table[label].name for label in drawings.things(named=config.concepts is not None)}
        for name in set(config.concepts or ()) - known:
            raise UsageError(f"concept {name!r} of scenes", "no thing has this name", nearest(name, known))
        wanted = known if config.concepts is None else set(config.concepts)
        named = {i for i in drawings.things(named=True) if table[i].name in wanted}
        fit = {i for i in named if key[2] != "unseen" or drawings.unseen_colours(table[i].id)}
        _USABLE[key] = {s: [row for row in rows if row[0] in fit] for s, rows in drawings.pool(split).by_style.items()}
    enough = {style: rows for style, rows in _USABLE[key].items() if len(rows) > config.count[1]}
    if not enough:
        raise UsageError("scenes", f"no style of split {split!r} has more than {config.count[1]} of these concepts", "Name more concepts")
    return enough


def _choose(draw: random.Random, config: SceneConfig, rows: Sequence[tuple[int, str]], count: int, tint: bool) -> list[tuple[Named, str]]:
    """``count`` different concepts, each with a drawing and, in a tinted scene, with a colour that no other has."""
    chosen: list[tuple[Named, str]] = []
    for _ in range(TRIES):
        if len(chosen) == count:
            return chosen
        label, identity = pick(draw, rows)
        if any(named.label == label for named, _ in chosen):
            continue
        colour = None
        if tint:
            kept = drawings.unseen_colours(pictograms.concepts()[label].id)
            allowed = {"all": set(COLOURS), "seen": set(COLOURS) - kept, "unseen": set(kept)}[config.combinations]
            free = sorted(allowed - {named.colour for named, _ in chosen})
            if not free:
                continue
            colour = pick(draw, free)
        chosen.append((Named(label, colour), identity))
    why = f"these concepts give no {count} different ones with {config.combinations} colours of their own"
    raise UsageError("scenes", why, "Name more concepts, or allow other combinations")


class Scenes(Dataset):
    """Scenes as a data set; each picture is made when it is read.

    Samples have a PNG, the captions of the config, and ``meta``: ``boxes`` (left, top, right, bottom in 0…1, tight), ``regions``
    (``"red car"``), ``labels`` (indices into ``pictograms.concepts()``), ``groups``, ``colours`` (or null), ``facts``, ``swapped`` (the
    first caption made false; null where that is impossible) and ``swap`` (``"colours"``, ``"order"`` or ``"count"``), ``style``, ``split``,
    ``seed``, ``config`` (what differs from the defaults).

    Args:
        split: whose drawings: ``train``, ``validation``, ``style`` (unseen styles) or ``unseen`` (unseen concepts in unseen styles).
        count: how many scenes; None takes the split's default.
        seed: another seed gives other scenes.
    """

    def __init__(self, split: str = "train", count: int | None = None, config: SceneConfig | None = None, seed: int = 0) -> None:
        super().__init__(f"scenes/{split}", "scenes made on the fly")
        self.config, self.seed, self.scene_split = config or SceneConfig(), seed, split
        _usable(self.config, split)
        self.ids = [f"{i:07d}" for i in range(COUNTS[split] if count is None else count)]
        self.sealed = split in ("style", "unseen")

    def scene(self, index: int) -> Scene:
        """The scene at ``index``."""
        return compose(self.config, self.scene_split, self._seed(index))

    def _seed(self, index: int) -> int:
        return seed_for(self.seed, index) % 2**53

    def captions(self, index: int) -> tuple[str, ...]:
        return self.scene(index).captions()

    def sample(self, index: int) -> Sample:
        scene, size = self.scene(index), self.config.size
        kind, false = scene.false()
        table = pictograms.concepts()
        meta = {
            "boxes": [[edge / size for edge in thing.box] for thing in scene.things],
            "regions": [thing.named.bare for thing in scene.things],
            "labels": [thing.named.label for thing in scene.things],
            "groups": [table[thing.named.label].group for thing in scene.things],
            "colours": [thing.named.colour for thing in scene.things],
            "facts": drawings.json_ready(scene.facts),
            "swapped": false,
            "swap": kind,
            "style": scene.style,
            "split": self.scene_split,
            "seed": self._seed(index),
            "config": self.config.model_dump(mode="json", exclude_defaults=True),
        }
        return Sample(self.ids[index], scene.png(), scene.captions(), meta=meta)

    def fingerprint(self) -> str:
        return digest([self.kind, VERSION, self.scene_split, str(self.seed), str(len(self)), self.config.model_dump_json()])

    def write(self, folder: str | Path, per_shard: int = 2048) -> list[Path]:
        """Write all scenes as tars in the webdataset layout (``KEY.png`` and ``KEY.json``), which any reader of tars reads."""
        from diptych.data.pictograms.making import shards

        folder = Path(folder)
        cut = [range(start, min(start + per_shard, len(self))) for start in range(0, len(self), per_shard)]
        paths = [folder / f"{number:04d}.tar" for number in range(len(cut))]
        for path, part in zip(paths, cut, strict=True):
            samples = [self.sample(i) for i in part]
            rows = [(s.id, s.image, {"captions": list(s.captions), **s.meta}) for s in samples if isinstance(s.image, bytes)]
            shards.write(path, rows, "png")
        return paths


def mask(sample: Sample) -> np.ndarray:
    """The label of every pixel of a scene, made again from its ``meta``: 0 is ground, k the k-th thing of ``regions``, from 1."""
    meta = sample.meta
    return compose(SceneConfig.model_validate(meta["config"]), meta["split"], meta["seed"]).mask()


def patch_labels(mask_HW: np.ndarray, patch: int) -> np.ndarray:
    """The label that most pixels of each patch have, ``(H / patch, W / patch)``; the ground where it is as many as the best thing."""
    rows, columns = mask_HW.shape[0] // patch, mask_HW.shape[1] // patch
    cut = mask_HW[: rows * patch, : columns * patch].reshape(rows, patch, columns, patch).transpose(0, 2, 1, 3).reshape(rows, columns, -1)
    votes = np.stack([(cut == label).sum(-1) for label in range(int(mask_HW.max()) + 1)])
    return votes.argmax(0)
