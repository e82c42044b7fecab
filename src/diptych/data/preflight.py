"""A look at a dataset before anything is trained on it: what ``diptych inspect`` prints and every training start runs."""

from __future__ import annotations

import hashlib
import io
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diptych.core.errors import DiptychError, UsageError
from diptych.core.rng import generator
from diptych.data.decode import decode
from diptych.data.open import open as open_data
from diptych.data.sources.base import BrokenSample, Dataset

SHOWN = 3
HOPELESS = 50
THUMB = 192
EDGES = (0, 1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
TOKENS_A_WORD = 1.35
CAPTION_SHARE = 0.35
EXACT, FILLED, ESTIMATED = "exact", "captions that fill the context", "estimated from words"


@dataclass(frozen=True, slots=True)
class Shown:
    """One decoded sample: id, captions, uint8 ``(H, W, 3)`` with sides up to 192 pixels."""

    id: str
    captions: tuple[str, ...]
    image_HWC: np.ndarray


@dataclass(slots=True)
class Preflight:
    """What was found. Shares are of what was checked; ``complete`` says whether that is everything.

    Args:
        checked_captions, checked_images: how many samples' words were read, and pictures decoded.
        caption_words: how many captions have at least that many words (and fewer than the next key's).
        cut: share of captions that the context cuts; None without captions. ``cut_by`` says how that is known.
        repeated_captions: captions that another sample had already; ``repeated_images`` likewise, byte for byte.
        broken: ``(id, why)``.
        image_sides: smallest, median and largest of the pictures' shorter sides, in pixels.
        readers: ranks × workers.
        warnings: what a person should look at.
    """

    path: str
    kind: str
    description: str
    samples: int
    shards: int
    readers: int
    columns: dict[str, str]
    classes: int
    split: str | None
    splits: tuple[str, ...]
    context: int
    checked_captions: int = 0
    checked_images: int = 0
    complete: bool = True
    captions: int = 0
    caption_words: dict[int, int] = field(default_factory=dict)
    mean_words: float = 0.0
    cut: float | None = None
    cut_by: str = EXACT
    repeated_captions: int = 0
    repeated_images: int = 0
    repeated_examples: list[tuple[str, str]] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)
    image_sides: tuple[int, int, int] | None = None
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; of the samples shown, ids and captions."""
        row = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "shown"}
        row["shown"] = [{"id": one.id, "captions": list(one.captions)} for one in self.shown]
        row["broken"] = [{"id": name, "why": why} for name, why in self.broken]
        row["caption_words"] = {str(edge): count for edge, count in self.caption_words.items()}
        for name in ("splits", "image_sides", "repeated_examples"):
            row[name] = [list(x) if isinstance(x, tuple) else x for x in row[name]] if row[name] is not None else None
        return row


def inspect(
    dataset: Dataset | str | Path,
    tokenize: Callable[[list[str]], torch.Tensor] | None = None,
    context: int = 77,
    world: int = 1,
    workers: int = 1,
    *,
    shards: str = "note",
    seconds: float = 4.0,
) -> Preflight:
    """Look at a dataset for about ``seconds``; where that is too short for all of it, at a random part, and say so.

    Args:
        dataset: an opened dataset or what :func:`diptych.data.open` takes.
        tokenize: the model's tokenizer; with its ``cut`` method the share of cut captions is exact.
        context: the text tower's length in tokens.
        world, workers: ranks, and reading workers a rank.
        shards: ``"note"``: fewer tars than readers is worth a line, since they are read in place at any place;
            ``"error"``: it raises, for tars that are to be streamed by other tools too.
        seconds: time to spend on words and pictures together, besides opening.

    Raises:
        UsageError: an empty set, an unknown ``shards``, or too few shards under ``"error"``.
        DiptychError: nothing that was looked at can be decoded.
    """
    if shards not in ("note", "error"):
        raise UsageError(f"shards={shards!r}", "no such choice", "Give 'note' or 'error'")
    start = time.monotonic()
    data = dataset if isinstance(dataset, Dataset) else open_data(dataset)
    if len(data) == 0:
        raise UsageError(data.path, "the set is empty", "Check the path, the split and the columns")
    found = Preflight(
        data.path, data.kind, data.describe(), len(data), data.shards, world * workers, dict(data.columns),
        len(data.classes or ()), data.split, data.splits, context, notes=list(data.notes),
    )  # fmt: skip
    _check_shards(found, shards)
    order: list[int] = torch.randperm(len(data), generator=generator(0, "preflight", len(data))).tolist()
    begun = time.monotonic()
    _look_at_words(found, data, order, tokenize, begun + CAPTION_SHARE * seconds)
    _look_at_images(found, data, order, begun + seconds)
    found.complete = found.checked_images == found.checked_captions == len(data)
    found.broken = sorted(set(found.broken))
    found.seconds = round(time.monotonic() - start, 3)
    _warn(found)
    return found


def _check_shards(found: Preflight, shards: str) -> None:
    """Tars against ranks × workers."""
    if "tars" not in found.kind or found.shards >= found.readers:
        return
    why = f"{found.shards} tars for {found.readers} readers (ranks × workers)"
    if shards == "error":
        raise UsageError(found.path, why, f"Write at least {found.readers} tars, or start fewer ranks or workers")
    found.notes.append(f"{why}: tars are read in place, so every reader still has work")


def _look_at_words(found: Preflight, data: Dataset, order: list[int], tokenize: Callable[..., Any] | None, until: float) -> None:
    """Lengths, repeats and cuts of captions, until the time is up."""
    seen: Counter[str] = Counter()
    lengths: Counter[int] = Counter()
    bare = cut = words = 0
    for count, index in enumerate(order, 1):
        try:
            captions = data.captions(index)
        except BrokenSample as error:
            found.broken.append((data.ids[index], error.why))
            captions = ()
        bare += not captions
        distinct = set(captions)
        found.repeated_captions += sum(caption in seen for caption in distinct)
        seen.update(distinct)
        for caption in captions:
            size = len(caption.split())
            words += size
            lengths[max(edge for edge in EDGES if edge <= size)] += 1
        cut += _count_cut(found, captions, tokenize)
        found.captions += len(captions)
        found.checked_captions = count
        if time.monotonic() > until:
            break
    found.caption_words = {edge: lengths[edge] for edge in EDGES if lengths[edge]}
    if found.captions:
        found.mean_words = round(words / found.captions, 2)
        found.cut = cut / found.captions
    if bare:
        found.warnings.append(f"{bare:,} of {found.checked_captions:,} samples have no caption")


def _count_cut(found: Preflight, captions: Sequence[str], tokenize: Callable[..., Any] | None) -> int:
    """How many captions the context cuts; notes in ``cut_by`` how that is known."""
    if not captions:
        return 0
    if tokenize is None:
        found.cut_by = ESTIMATED
        return sum(len(caption.split()) * TOKENS_A_WORD + 2 > found.context for caption in captions)
    exact = getattr(tokenize, "cut", None)
    if exact is not None:
        return sum(exact(list(captions)))
    found.cut_by = FILLED
    text_BL = tokenize(list(captions))
    return int((text_BL[:, -1] != 0).sum()) if text_BL.shape[1] >= found.context else 0


def _look_at_images(found: Preflight, data: Dataset, order: list[int], until: float) -> None:
    """Decode, measure and compare pictures, until the time is up; keep the first few that can be shown."""
    hashes: dict[bytes, str] = {}
    sides: list[int] = []
    for count, index in enumerate(order, 1):
        try:
            sample = data[index]
            raw = sample.image if isinstance(sample.image, bytes) else _file(sample.image, sample.id)
            show = len(found.shown) < SHOWN
            pixels = decode(raw, reduce_to=None if show else (32, 32))
        except BrokenSample as error:
            found.broken.append((data.ids[index], error.why))
        else:
            digest = hashlib.blake2b(raw, digest_size=16).digest()
            if digest in hashes:
                found.repeated_images += 1
                found.repeated_examples += [(hashes[digest], sample.id)] if len(found.repeated_examples) < 5 else []
            hashes.setdefault(digest, sample.id)
            sides.append(_short_side(raw))
            if show:
                found.shown.append(Shown(sample.id, sample.captions, _thumb(pixels)))
        found.checked_images = count
        if (time.monotonic() > until and found.shown) or (count >= HOPELESS and not found.shown):
            break
    if not sides:
        name, why = found.broken[-1]
        raise DiptychError(
            found.path, f"none of {found.checked_images} pictures can be read; {name}: {why}", "Check the image column or files"
        )
    found.image_sides = (min(sides), int(np.median(sides)), max(sides))


def _file(path: Path, name: str) -> bytes:
    """A picture's bytes, through the decoder's guards when they are decoded."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BrokenSample(name, f"cannot be read ({error.strerror})") from error


def _short_side(raw: bytes) -> int:
    """The shorter side in pixels, from the header of a picture that decoded."""
    with Image.open(io.BytesIO(raw)) as image:
        return min(image.size)


def _thumb(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(pixels)
    image.thumbnail((THUMB, THUMB))
    return np.array(image)


def _warn(found: Preflight) -> None:
    """What a person should look at, from the figures."""
    if found.broken:
        share = len(found.broken) / max(1, found.checked_images)
        name, why = found.broken[0]
        found.warnings.append(f"{len(found.broken):,} of {found.checked_images:,} samples cannot be read ({share:.1%}), e.g. {name}: {why}")
    if found.cut and found.cut >= 0.01:
        found.warnings.append(f"{found.cut:.1%} of captions are longer than the context of {found.context} tokens ({found.cut_by})")
    if found.repeated_images:
        one, other = found.repeated_examples[0]
        found.warnings.append(f"byte-for-byte copies of other pictures: {found.repeated_images:,}, e.g. {other} of {one}")
    if found.captions and found.repeated_captions > found.captions / 2 and not found.classes:
        found.warnings.append(f"{found.repeated_captions:,} of {found.captions:,} captions repeat; equal captions count as positives")
