"""BERT-style text tower: post-norm encoder, both directions, mean of the token states.

Paper: Devlin, Chang, Lee, Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers", arXiv:1810.04805, section 3; the mean
over tokens follows Reimers and Gurevych, "Sentence-BERT", arXiv:1908.10084, section 3. MiniLM (Wang et al., arXiv:2002.10957) is this
network at width 384.

Shapes: B texts, L tokens, D width, H heads. Padding (``pad_id``) is masked in attention and left out of the mean, so a text's row does
not depend on the length that its batch is padded to.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.towers.base import TextTower, TowerConfig, check_taps
from diptych.towers.prompts import Inserted


class BertConfig(TowerConfig):
    """The shape of a BERT-style text tower; the defaults are MiniLM-L6 at 128 tokens.

    Args:
        width: D, divisible by ``heads``.
        depth: number of blocks.
        mlp_width: hidden units of each block's feed-forward part.
        context: longest text in tokens, the two special ones included.
        eps: of every layer normalisation.
    """

    kind: Literal["bert"] = "bert"
    width: int = Field(default=384, gt=0)
    depth: int = Field(default=6, gt=0)
    heads: int = Field(default=12, gt=0)
    mlp_width: int = Field(default=1536, gt=0)
    vocab: int = Field(default=30522, gt=0)
    context: int = Field(default=128, gt=1)
    pad_id: int = Field(default=0, ge=0)
    eps: float = Field(default=1e-12, gt=0)

    @model_validator(mode="after")
    def _divisible(self) -> BertConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by {self.heads} heads")
        if self.pad_id >= self.vocab:
            raise ValueError(f"pad_id {self.pad_id} lies outside a vocabulary of {self.vocab}")
        return self


class BertBlock(nn.Module):
    """Self-attention and feed-forward, each followed by the residual sum and a layer norm (post-norm), GELU by erf."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_attention = nn.LayerNorm(width, eps=config.eps)
        self.up = nn.Linear(width, config.mlp_width)
        self.down = nn.Linear(config.mlp_width, width)
        self.norm_mlp = nn.LayerNorm(width, eps=config.eps)

    def forward(self, x_BLD: Tensor, bias: Tensor | None = None) -> Tensor:
        """One block. ``bias`` is added to the attention scores, broadcastable to B, heads, L, L."""
        batch, length, width = x_BLD.shape
        q, k, v = self.qkv(x_BLD).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).reshape(batch, length, width)
        x_BLD = self.norm_attention(x_BLD + self.out(mixed))
        return self.norm_mlp(x_BLD + self.down(F.gelu(self.up(x_BLD))))


class BertTower(TextTower):
    """Token and position rows → norm → post-norm blocks → mean over the tokens that are not padding.

    The embedding of segment 0, which every single text carries, is folded into the position rows.
    """

    crops = True  # padding is masked everywhere

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.context, self.pad_id, self.causal = config.width, config.context, config.pad_id, False
        self.token_embedding = nn.Embedding(config.vocab, config.width)
        self.position_embedding = nn.Parameter(torch.empty(config.context, config.width))
        self.norm = nn.LayerNorm(config.width, eps=config.eps)
        self.blocks = nn.ModuleList(BertBlock(config) for _ in range(config.depth))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal(0, 0.02) weights and zero biases (BERT's public configuration)."""
        nn.init.normal_(self.position_embedding, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, ids_BL: Tensor, taps: Set[str] = frozenset(), prompts: Inserted | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Pooled rows B, width and the taps asked for (``"text.tokens"``: the last block's states B, L, width).

        ``prompts`` take the place of ids that were put in for them; they count in the mean as tokens do.
        """
        check_taps(taps, {"text.tokens"})
        real_BL = ids_BL != self.pad_id
        if prompts is not None:
            prompts.check(self.config.kind, len(self.blocks))
        rows_BLD = self.token_embedding(ids_BL) if prompts is None else prompts.put(0, self.token_embedding(ids_BL))
        x_BLD = self.norm(rows_BLD + self.position_embedding[: ids_BL.shape[1]])
        bias_B11L = torch.zeros_like(real_BL, dtype=x_BLD.dtype).masked_fill(~real_BL, torch.finfo(x_BLD.dtype).min)[:, None, None]
        for index, block in enumerate(self.blocks):
            if prompts is not None and index:
                x_BLD = prompts.put(index, x_BLD)
            x_BLD = block(x_BLD, bias_B11L)
        weight_BL1 = real_BL.to(x_BLD.dtype).unsqueeze(-1)
        pooled_BD = (x_BLD * weight_BL1).sum(1) / weight_BL1.sum(1).clamp_min(1)
        return pooled_BD, ({"text.tokens": x_BLD} if "text.tokens" in taps else {})


TOWER = ("bert", "text", BertConfig, BertTower)
