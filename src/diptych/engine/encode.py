"""One batch to unit rows: what is wrapped for many ranks, and what is exact and faster than the plain way.

Three savings that change no number: texts cropped to the longest of the batch where the tower allows it, equal captions
encoded once, and, where the text tower is frozen, each caption encoded once in the whole run.

Shapes: B rows, U different captions, L text length, W a tower's width, D the joint width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.types import Batch, TokenMethod
from diptych.engine.objective import Objective
from diptych.towers.see import See

GROUP_COST = 32  # tokens' worth of time that one more pass over the text tower's weights and gradients takes on a CPU
PAIRS_ONLY = Objective("none", nn.Identity())
CACHE_BYTES = 1 << 28  # frozen-text rows kept at most: 256 MiB, 175,000 captions of width 384


@dataclass(frozen=True, slots=True)
class Inputs:
    """A batch, or a part of one, ready for the towers.

    Args:
        image_BCHW: uint8 RGB.
        text_U: token ids (U, L), or pooled rows (U, W) of a frozen text tower.
        index_B: which row of ``text_U`` belongs to each image.
        extra: the loader's further material; texts in it are ids, or pooled rows of a frozen text tower.
    """

    image_BCHW: Tensor
    text_U: Tensor
    index_B: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Unit rows with what the objective needs beside them."""

    image_BD: Tensor
    text_BD: Tensor
    scale: Tensor
    bias: Tensor | None
    taps: Mapping[str, Tensor] = field(default_factory=dict)


def unique_rows(ids_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Different rows in order of first appearance, (U, L), and the index that gives all rows back, (B,)."""
    seen: dict[bytes, int] = {}
    rows = ids_BL.numpy()
    index = [seen.setdefault(row.tobytes(), len(seen)) for row in rows]
    first = torch.empty(len(seen), dtype=torch.long)
    index_B = torch.tensor(index)
    first[index_B.flip(0)] = torch.arange(len(index) - 1, -1, -1)
    return ids_BL[first], index_B


def crop(ids_BL: Tensor, pad_id: int) -> Tensor:
    """Without the columns at the end that are padding in every row."""
    columns_L = (ids_BL != pad_id).any(dim=0).nonzero()
    return ids_BL[:, : int(columns_L[-1]) + 1] if len(columns_L) else ids_BL[:, :1]


def length_groups(length_U: Tensor) -> list[Tensor]:
    """Indices of captions in groups of like length, shortest first, so that the work is least.

    A caption's tokens do not see the padding, so that groups cropped to their own longest give the same rows for less work
    than one. The work of a group is its captions times its longest, and :data:`GROUP_COST` tokens more for its own pass
    over the tower's weights. Exact dynamic programme over the different lengths.
    """
    lengths, counts = length_U.unique(return_counts=True)
    ends = [0, *counts.cumsum(0).tolist()]
    best, cut = [0.0], [0]
    for j, length in enumerate(lengths.tolist(), start=1):
        costs = [best[i] + GROUP_COST + length * (ends[j] - ends[i]) for i in range(j)]
        cut.append(min(range(j), key=costs.__getitem__))
        best.append(costs[cut[-1]])
    order, groups, j = length_U.argsort(stable=True), [], len(lengths)
    while j:
        groups.insert(0, order[ends[cut[j]] : ends[j]])
        j = cut[j]
    return groups


class TextCache:
    """Pooled rows of a frozen text tower, by token ids; the oldest make room when ``limit`` bytes are full.

    Exact: a frozen tower in evaluation mode gives a caption the same row at every step.
    """

    def __init__(self, tower: Any, limit: int = CACHE_BYTES, chunk: int = 256) -> None:
        self.tower, self.chunk = tower, chunk
        self.slots = max(1, limit // (4 * tower.width))
        self._slot: dict[bytes, int] = {}
        self._owner: list[bytes] = []
        self._next = 0
        self._rows: Tensor | None = None
        self.hits = self.misses = 0

    @torch.no_grad()
    def __call__(self, ids_UL: Tensor, device: torch.device) -> Tensor:
        """Pooled rows (U, W) on ``device`` of different captions ``ids_UL``."""
        keys = [row.tobytes().rstrip(b"\0") + len(row).to_bytes(2, "big") for row in ids_UL.numpy()]
        missing = [i for i, key in enumerate(keys) if key not in self._slot]
        self.misses, self.hits = self.misses + len(missing), self.hits + len(keys) - len(missing)
        known = [i for i, key in enumerate(keys) if key in self._slot]
        rows_UW = torch.empty(len(keys), self.tower.width, device=device)
        if known:
            assert self._rows is not None  # a key is only known once rows are stored
            rows_UW[known] = self._rows[[self._slot[keys[i]] for i in known]]
        if missing:
            fresh = self._encode(ids_UL[missing], device)
            rows_UW[missing] = fresh
            self._store([keys[i] for i in missing], fresh)
        return rows_UW

    def _encode(self, ids_UL: Tensor, device: torch.device) -> Tensor:
        """Sorted by length, in chunks, each cropped."""
        length_U = (ids_UL != self.tower.pad_id).sum(1)
        order = length_U.argsort(stable=True)
        rows_UW = torch.empty(len(ids_UL), self.tower.width, device=device)
        for part in order.split(self.chunk):
            ids = ids_UL[part]
            ids = crop(ids, self.tower.pad_id) if self.tower.crops else ids
            rows_UW[part] = self.tower(ids.to(device))[0].float()
        return rows_UW

    def _store(self, keys: list[bytes], rows: Tensor) -> None:
        wanted = min(self.slots, self._next + len(keys))
        have = 0 if self._rows is None else len(self._rows)
        if have < wanted:
            grown = torch.empty(min(self.slots, max(wanted, 2 * have, 1024)), rows.shape[1], device=rows.device)
            if self._rows is not None:
                grown[:have] = self._rows
            self._rows = grown
        assert self._rows is not None  # grown above
        for key, row in zip(keys, rows, strict=True):
            slot = self._next % self.slots
            if self._next >= self.slots:
                del self._slot[self._owner[slot]]
                self._owner[slot] = key
            else:
                self._owner.append(key)
            self._slot[key] = slot
            self._rows[slot] = row
            self._next += 1


class Encoder(nn.Module):
    """The model's forward as a step needs it: :class:`Inputs` to :class:`Encoded`. This is what ranks wrap.

    Args:
        model: a dual encoder.
        tokens: a token method for training, or None.
        objective: says which rows and taps are wanted, and computes further rows by its ``rows``.
        frozen_text: the text tower never changes, so that ``Inputs.text_U`` holds its pooled rows.
        bf16: compute in bfloat16 by autocast.
        draw: random numbers of the objective, seeded by the step.

    Attributes:
        grouped: encode captions in groups of like length, which pays on a CPU.
        ema, teacher: the model's average and its first state, where they are needed.
        progress: share of the budget that is spent.
        until: the share after which the token method rests.
    """

    def __init__(
        self,
        model: Any,
        tokens: TokenMethod | None = None,
        objective: Objective = PAIRS_ONLY,
        frozen_text: bool = False,
        bf16: bool = False,
        draw: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.model, self.tokens, self.frozen_text, self.bf16 = model, tokens, frozen_text, bf16
        self.grouped, self.progress, self.until = False, 0.0, 1.0
        self.draw = torch.Generator(model.device) if draw is None else draw
        # Held in a tuple: neither the objective's heads nor the copies are parameters of what ranks wrap.
        self._aside: tuple[Objective, Any, Any] = (objective, None, None)
        self.image_taps = frozenset(tap for tap in objective.taps if tap.startswith("image."))
        self.text_taps = frozenset(tap for tap in objective.taps if tap.startswith("text."))
        self.inner_taps = self.text_taps - {"text.pooled"}

    def beside(self, ema: Any, teacher: Any) -> None:
        """Give the copies of the model that the objective or the token method looks at."""
        self._aside = (self._aside[0], ema, teacher)

    def forward(self, image_BCHW: Tensor, text_U: Tensor, index_B: Tensor, extra: Mapping[str, Tensor] | None = None) -> Encoded:
        objective, ema, teacher = self._aside
        none_B1 = torch.zeros(len(image_BCHW), 1, device=image_BCHW.device)
        text_BL = None if self.frozen_text or not text_U.numel() else text_U[index_B]
        tokens = self.tokens if self.progress < self.until else None
        see = See(self.model, image_BCHW, text_BL, self.draw, extra or {}, {}, none_B1, none_B1, ema, teacher, tokens)
        see = replace(see, progress=self.progress, frozen_text=self.frozen_text)
        taps: dict[str, Tensor] = {}
        with torch.autocast(image_BCHW.device.type, torch.bfloat16, enabled=self.bf16):
            if (look := getattr(tokens, "look", None)) is not None:
                look(see)
            if "image" in objective.uses:
                image_BD, taps = self._image(image_BCHW, tokens)
                see = replace(see, image_BD=image_BD.float())
            if "text" in objective.uses:
                text_UD, text_taps = self._text(text_U)
                taps |= {name: value[index_B] for name, value in text_taps.items()}
                see = replace(see, text_BD=text_UD.float()[index_B])
            if objective.rows is not None:
                taps = {name: _wide(value) for name, value in objective.rows(replace(see, taps=taps)).items()}
        return Encoded(see.image_BD, see.text_BD, self.model.scale, self.model.bias, taps)  # type: ignore[arg-type]

    def _image(self, image_BCHW: Tensor, tokens: TokenMethod | None) -> tuple[Tensor, dict[str, Tensor]]:
        model = self.model
        pooled_BW, taps = model.image(model.normalise(image_BCHW), tokens=tokens, taps=self.image_taps - {"image.pooled"})
        taps = dict(taps)
        if "image.pooled" in self.image_taps:
            taps["image.pooled"] = pooled_BW
        return F.normalize(model.image_projection(pooled_BW), dim=-1), taps

    def _text(self, text_U: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        pooled_UW, taps = (text_U, {}) if self.frozen_text else self._pooled(text_U)
        taps = dict(taps) | ({"text.pooled": pooled_UW} if "text.pooled" in self.text_taps else {})
        return F.normalize(self.model.text_projection(pooled_UW), dim=-1), taps

    def _pooled(self, ids_UL: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Captions of like length together, each group cropped to its longest; in one go where somebody taps the tokens."""
        tower = self.model.text
        if self.inner_taps or not self.grouped:
            return tower(ids_UL, taps=self.inner_taps)
        length_U = ((ids_UL != tower.pad_id) * torch.arange(1, ids_UL.shape[1] + 1)).amax(dim=1)
        groups = length_groups(length_U)
        rows_ULD = tower.token(ids_UL)  # one look-up, since each one's gradient is as large as the whole table
        lengths = [int(length_U[group[-1]]) for group in groups]
        pooled = [tower.encode(ids_UL[g, :n], rows_ULD[g, :n])[0] for g, n in zip(groups, lengths, strict=True)]
        return torch.cat(pooled)[torch.cat(groups).argsort()], {}


def _wide(value: Tensor) -> Tensor:
    """float32 where autocast made it narrower."""
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value


def inputs_of(batch: Batch, model: Any, cache: TextCache | None, device: torch.device, text: bool = True, crops: bool = True) -> Inputs:
    """A CPU batch (or a part) on the device, its captions cropped, made unique and, where frozen, already encoded.

    Args:
        text: whether the captions' rows are wanted.
        crops: whether texts may be cropped to the longest of the part.
    """

    def ready(ids_UL: Tensor) -> Tensor:
        if cache is not None:
            return cache(ids_UL, device)
        return (crop(ids_UL, model.text.pad_id) if crops and model.text.crops else ids_UL).to(device, non_blocking=True)

    unique_UL, index_B = unique_rows(batch.text_BL) if text else (batch.text_BL[:0], torch.zeros(len(batch), dtype=torch.long))
    extra = {}
    for name, value in batch.extra.items():
        if name.startswith("text."):
            flat = value.flatten(0, -2)
            again_UL, again_B = unique_rows(flat) if cache is not None else (flat, None)
            rows = ready(again_UL)
            extra[name] = (rows if again_B is None else rows[again_B.to(device)]).unflatten(0, value.shape[:-1])
        else:
            extra[name] = value.to(device, non_blocking=True)
    text_U = ready(unique_UL) if text else unique_UL.to(device)
    return Inputs(batch.image_BCHW.to(device, non_blocking=True), text_U, index_B.to(device, non_blocking=True), extra)
