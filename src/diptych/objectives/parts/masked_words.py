"""Masked language modelling with a picture: words are hidden, and found again from the other words and the picture's patches.

Shapes: B rows, L text length, M hidden words a row, T patches, W width of the text tower, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.errors import UsageError


def words_of(ids_BL: Tensor, model: Any) -> Tensor:
    """Which places hold a word: neither padding nor the tokens that begin and end every text, (B, L)."""
    word_BL = ids_BL != model.text.pad_id
    for mark in model.tokenizer.frame:
        if mark is not None:
            word_BL = word_BL & (ids_BL != mark)
    return word_BL


def mask_id(model: Any) -> int:
    """The id that hides a word: ``[MASK]`` where the vocabulary has one, else an id of the table that no text uses, else the last merge.

    Byte-pair merges stand in the order of their frequency, so that the last one is the rarest.
    """
    tokenizer = model.tokenizer
    if (found := tokenizer.id_of("[MASK]")) is not None:
        return found
    rows = table_of(model).num_embeddings
    marks = [mark for mark in (*tokenizer.frame, tokenizer.pad_id) if mark]
    return rows - 1 if rows > tokenizer.vocab else min(marks, default=rows) - 1


def table_of(model: Any) -> nn.Embedding:
    """The text tower's table of token rows. Raises :class:`UsageError` where it has none."""
    for module in model.text.modules():
        if isinstance(module, nn.Embedding):
            return module
    raise UsageError("masked language modelling", "the text tower has no table of tokens", "Set the weight of masked words to 0")


def hide(ids_BL: Tensor, word_BL: Tensor, count: int, mask: int, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Ids with ``count`` words hidden, the places (B, M) and whether each place holds a word (a short text has fewer)."""
    noise_BL = torch.rand(ids_BL.shape, generator=draw, device=ids_BL.device) + word_BL
    place_BM = noise_BL.topk(min(count, ids_BL.shape[1]), dim=1).indices
    real_BM = word_BL.gather(1, place_BM)
    return ids_BL.scatter(1, place_BM, torch.where(real_BM, mask, ids_BL.gather(1, place_BM))), place_BM, real_BM


class Fusion(nn.Module):
    """One block: text states look at the patches, then an MLP; both before a norm and added."""

    def __init__(self, width: int, image_width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.look = nn.MultiheadAttention(width, heads, kdim=image_width, vdim=image_width, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x_BMW: Tensor, patch_BTD: Tensor) -> Tensor:
        """States of the hidden words after a look at the picture."""
        x_BMW = x_BMW + self.look(self.norm(x_BMW), patch_BTD, patch_BTD, need_weights=False)[0]
        return x_BMW + self.mlp(self.norm_mlp(x_BMW))


class MaskedWords(nn.Module):
    """The fusion blocks and the head; the head's last layer is the tower's own table of tokens."""

    def __init__(self, model: Any, count: int, depth: int) -> None:
        super().__init__()
        width, heads = model.text.width, max(1, model.text.width // 64)
        self.count, self.mask = count, mask_id(model)
        self.blocks = nn.ModuleList(Fusion(width, model.image.width, heads) for _ in range(depth))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))

    def forward(self, model: Any, ids_BL: Tensor, patch_BTD: Tensor, draw: torch.Generator) -> Tensor:
        """Cross-entropy of each row's hidden words, their mean (B,); 0 for a text without words."""
        hidden_BL, place_BM, real_BM = hide(ids_BL, words_of(ids_BL, model), self.count, self.mask, draw)
        states_BLW = model.text(hidden_BL, taps=frozenset({"text.tokens"}))[1]["text.tokens"]
        x_BMW = states_BLW.gather(1, place_BM[..., None].expand(-1, -1, states_BLW.shape[2]))
        for block in self.blocks:
            x_BMW = block(x_BMW, patch_BTD)
        logits_BMV = self.head(x_BMW) @ table_of(model).weight.T
        loss_BM = F.cross_entropy(logits_BMV.float().transpose(1, 2), ids_BL.gather(1, place_BM), reduction="none")
        return torch.where(real_BM, loss_BM, 0.0).sum(1) / real_BM.sum(1).clamp_min(1)
