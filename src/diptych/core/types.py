"""The only types that cross folders.

Shape suffixes, here and everywhere: B rows of this rank, N rows of all ranks, C channels, H height, W width, L text
length, T tokens, D embedding width, K classes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture with its words, not yet decoded.

    Args:
        id: unique within its set, the same in every layout that holds it (the file's stem or the shard's key).
        image: encoded bytes, or the path of a file with them.
        captions: zero or more captions.
        label: class index, where the set has classes.
        concept: samples with an equal, non-None concept are positives of one another.
        meta: anything else (style, language, url …), plain JSON values.
    """

    id: str
    image: bytes | Path
    captions: tuple[str, ...] = ()
    label: int | None = None
    concept: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a loader yields and a step consumes.

    Args:
        image_BCHW: uint8 RGB at the model's size.
        text_BL: token ids, padded; cropped to the longest caption of the batch where the text tower is causal.
        ids: B sample ids.
        concept_B: int64; equal values are positives. Unique per row where nothing is known.
        drawn: what the random transforms drew, by name, each with B rows.
        captions: the B captions that ``text_BL`` was made of; ``()`` where the batch has no words.
        extra: what the objective asked for beside the pair, by name, each with B rows: ``"view.0"`` (another augmented view, uint8),
            ``"text.…"`` (token ids (B, L) or (B, R, L)), ``"boxes"`` (B, R, 4), other numbers.
    """

    image_BCHW: Tensor
    text_BL: Tensor
    ids: tuple[str, ...]
    concept_B: Tensor
    drawn: Mapping[str, Tensor] = field(default_factory=dict)
    captions: tuple[str, ...] = ()
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: Any) -> Batch:
        """The same batch with its tensors on ``device`` (asynchronously where the memory is pinned)."""
        move = {name: getattr(self, name).to(device, non_blocking=True) for name in ("image_BCHW", "text_BL", "concept_B")}
        return replace(self, **move)


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one sample in one step: what a rewriter and a maker of further material see.

    Args:
        caption: the caption that was picked.
        captions: all of the sample's.
        label, concept, meta: as in :class:`Sample`.
    """

    id: str
    caption: str
    captions: tuple[str, ...]
    label: int | None = None
    concept: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


Rewriter = Callable[[Words, random.Random], str]
Maker = Callable[[Words, random.Random], str | tuple[str, ...] | list[Any]]


@dataclass(frozen=True, slots=True)
class Pairs:
    """What an objective on pairs sees: this rank's rows against the columns of all ranks. It never knows its rank.

    Args:
        image_BD, text_BD: this rank's unit rows.
        image_ND, text_ND: all ranks' unit rows (the same tensors on one rank).
        offset: row 0 of this rank is column ``offset``.
        scale: multiplies similarities (already exponentiated), a scalar tensor.
        bias: added to scaled similarities, a scalar tensor, or None.
        concept_B, concept_N: int64; equal values are positives. Row i is always a positive of column offset + i.
        taps: what the objective asked for, by name, each with this rank's rows.
        columns: those of the taps that its ``COLUMNS`` names, of all ranks (the same tensors on one rank).
        state: what is not per row (queues, prototypes, thresholds); ``"progress"`` is the share of the budget that is spent.
    """

    image_BD: Tensor
    text_BD: Tensor
    image_ND: Tensor
    text_ND: Tensor
    offset: int
    scale: Tensor
    bias: Tensor | None
    concept_B: Tensor
    concept_N: Tensor
    taps: Mapping[str, Tensor] = field(default_factory=dict)
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loss:
    """What is minimised, apart from what is only logged.

    Args:
        total: scalar; the mean over this rank's rows, so that averaging ranks gives the value of one rank.
        terms: the summands of ``total``, by name.
        report: detached values for the log only (accuracy in the batch …).
    """

    total: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    report: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tokens:
    """An image as tokens between the seams of a tower.

    Args:
        x_BTD: tokens, prefix (class, register) tokens first.
        prefix: how many prefix tokens.
        grid: rows and columns of the patch grid before any were dropped or merged.
        size_BT: how many original patches each token stands for; None means one each.
        kept_BT: original index of each patch token; None means all, in order.
        proportional: a token of n patches draws the attention of n (``log(size)`` is added to the logits).
    """

    x_BTD: Tensor
    prefix: int
    grid: tuple[int, int]
    size_BT: Tensor | None = None
    kept_BT: Tensor | None = None
    proportional: bool = True


class TokenMethod(Protocol):
    """Fewer tokens in, or fewer left after block i; composes with any tower that has blocks."""

    def after_embed(self, tokens: Tokens) -> Tokens: ...

    def after_block(self, index: int, tokens: Tokens) -> Tokens: ...


@dataclass(frozen=True, slots=True)
class Middle:
    """What a block shows between its attention and its MLP.

    Args:
        index, depth: which block of how many.
        keys_BTK: each token's key, averaged over the heads; None where the method does not use ``"keys"``.
        class_BT: attention of the class token to every token, itself included, averaged over the heads; None where the method does
            not use ``"class_attention"``.
    """

    index: int
    depth: int
    keys_BTK: Tensor | None = None
    class_BT: Tensor | None = None


@runtime_checkable
class MiddleMethod(TokenMethod, Protocol):
    """A token method that works between attention and MLP.

    Attributes:
        uses: out of ``"keys"`` and ``"class_attention"``, what it looks at in the blocks where it acts.
    """

    uses: frozenset[str]

    def acts(self, index: int, depth: int) -> bool: ...

    def between(self, tokens: Tokens, middle: Middle) -> Tokens: ...


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Everything that turns decoded RGB into a tower's input; it travels with the model.

    Args:
        size: height and width in pixels.
        mean, std: per channel, on pixels scaled to 0–1.
        resize: ``"squash"`` to size; ``"crop"`` (shortest side to size, centre crop); ``"pad"`` (longest side, padded).
        interpolation: ``"bicubic"`` or ``"bilinear"`` (antialiased, as Pillow computes them).
        fill: RGB laid under transparent pixels and beside padded ones.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: str = "crop"
    interpolation: str = "bicubic"
    fill: tuple[int, int, int] = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Record:
    """One measured number: the JSON line of ``--json`` and of every report.

    Args:
        interval: 95 % bootstrap interval ``(low, high)``.
        n: how many units (images, captions, concepts) were resampled.
        chance: what guessing gives; None where guessing has no meaning.
    """

    protocol: str
    set: str
    metric: str
    value: float
    interval: tuple[float, float]
    n: int
    chance: float | None
    seed: int
    model: str
    command: str
    version: str = "1"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; a NaN is an error, since a number that is not one must not be published."""
        row = {name: getattr(self, name) for name in self.__dataclass_fields__}
        row["interval"] = list(self.interval)
        if not all(map(math.isfinite, (self.value, *self.interval, self.chance or 0.0))):
            raise ValueError(f"{self.protocol}/{self.set}/{self.metric} is not finite: {row}")
        return row
