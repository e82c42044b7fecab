"""One batch to unit rows: what is wrapped for many ranks, and what is exact and faster than the plain way.

Three savings that change no number: texts cropped to the longest of the batch where the tower allows it, equal captions
encoded once, and, where the text tower is frozen, each caption encoded once in the whole run.

Shapes: B rows, U different captions, L text length, W a tower's width, D the joint width.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.types import Batch, TokenMethod

GROUP_COST = 32  # tokens' worth of time that one more pass over the text tower's weights and gradients takes on a CPU
CACHE_BYTES = 1 << 28  # frozen-text rows kept at most: 256 MiB, 175,000 captions of width 384


@dataclass(frozen=True, slots=True)
class Inputs:
    """A batch, or a part of one, ready for the towers.

    Args:
        image_BCHW: uint8 RGB.
        text_U: token ids (U, L), or pooled rows (U, W) of a frozen text tower.
        index_B: which row of ``text_U`` belongs to each image.
    """

    image_BCHW: Tensor
    text_U: Tensor
    index_B: Tensor


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
        taps: what the objective's card asks for, by name.
        frozen_text: the text tower never changes, so that ``Inputs.text_U`` holds its pooled rows.
        bf16: compute in bfloat16 by autocast.

    Attributes:
        grouped: encode captions in groups of like length, which pays on a CPU.
    """

    def __init__(
        self, model: Any, tokens: TokenMethod | None = None, taps: Set[str] = frozenset(), frozen_text: bool = False, bf16: bool = False
    ) -> None:
        super().__init__()
        self.model, self.tokens, self.frozen_text, self.bf16 = model, tokens, frozen_text, bf16
        self.grouped = False
        self.image_taps = frozenset(tap for tap in taps if tap.startswith("image."))
        self.text_taps = frozenset(tap for tap in taps if tap.startswith("text."))

    def forward(self, image_BCHW: Tensor, text_U: Tensor, index_B: Tensor) -> Encoded:
        with torch.autocast(image_BCHW.device.type, torch.bfloat16, enabled=self.bf16):
            image_BD, taps = self._image(image_BCHW)
            text_UD, text_taps = self._text(text_U)
        taps |= {name: value[index_B] for name, value in text_taps.items()}
        return Encoded(image_BD.float(), text_UD.float()[index_B], self.model.scale, self.model.bias, taps)

    def _image(self, image_BCHW: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        model = self.model
        pooled_BW, taps = model.image(model.normalise(image_BCHW), tokens=self.tokens, taps=self.image_taps)
        return F.normalize(model.image_projection(pooled_BW), dim=-1), dict(taps)

    def _text(self, text_U: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        pooled_UW, taps = (text_U, {}) if self.frozen_text else self._pooled(text_U)
        return F.normalize(self.model.text_projection(pooled_UW), dim=-1), dict(taps)

    def _pooled(self, ids_UL: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Captions of like length together, each group cropped to its longest; in one go where somebody taps the tokens."""
        tower = self.model.text
        if self.text_taps or not self.grouped:
            return tower(ids_UL, taps=self.text_taps)
        length_U = ((ids_UL != tower.pad_id) * torch.arange(1, ids_UL.shape[1] + 1)).amax(dim=1)
        groups = length_groups(length_U)
        rows_ULD = tower.token(ids_UL)  # one look-up, since each one's gradient is as large as the whole table
        lengths = [int(length_U[group[-1]]) for group in groups]
        pooled = [tower.encode(ids_UL[g, :n], rows_ULD[g, :n])[0] for g, n in zip(groups, lengths, strict=True)]
        return torch.cat(pooled)[torch.cat(groups).argsort()], {}


def inputs_of(batch: Batch, model: Any, cache: TextCache | None, device: torch.device) -> Inputs:
    """A CPU batch (or a part) on the device, its captions cropped, made unique and, where frozen, already encoded."""
    unique_UL, index_B = unique_rows(batch.text_BL)
    if cache is not None:
        text_U = cache(unique_UL, device)
    else:
        text_U = (crop(unique_UL, model.text.pad_id) if model.text.crops else unique_UL).to(device, non_blocking=True)
    return Inputs(batch.image_BCHW.to(device, non_blocking=True), text_U, index_B.to(device, non_blocking=True))
