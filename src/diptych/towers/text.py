"""Text transformer: CLIP's causal one with the end token's row, and SigLIP's bidirectional one with the last row.

Papers: CLIP (arXiv:2103.00020, section 2.4), SigLIP (arXiv:2303.15343).
Shapes: B rows, L text length, D width.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from diptych.core.errors import UsageError
from diptych.towers.base import TextTower, TowerConfig, check_taps
from diptych.towers.layers import Activation, Block, LayerNorm, init_blocks, may_shorten
from diptych.towers.prompts import Inserted


class TransformerConfig(TowerConfig):
    """Everything that decides what the text transformer computes.

    Args:
        vocab: number of token ids.
        context: number of positions.
        causal: tokens see only earlier ones.
        pool: which row is the text: at the largest id (``"argmax"``, CLIP's end token), at the first ``eos_id``
            (``"eos"``), the ``"first"``, or the ``"last"`` position of the padded text (SigLIP).
        pad_id: id of padding.
    """

    kind: Literal["transformer"] = "transformer"
    vocab: int = Field(ge=2)
    context: int = Field(ge=2)
    width: int = Field(ge=1)
    depth: int = Field(ge=1)
    heads: int = Field(ge=1)
    mlp: int = Field(ge=1)
    causal: bool = True
    pool: Literal["argmax", "eos", "first", "last"] = "argmax"
    eos_id: int | None = None
    pad_id: int = 0
    activation: Activation = "gelu"
    norm_eps: float = 1e-5
    layer_scale: float | None = None

    @model_validator(mode="after")
    def _fits(self) -> TransformerConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if (self.pool == "eos") != (self.eos_id is not None):
            raise ValueError("eos_id belongs to pool 'eos', and only to it")
        return self


class TextTransformer(TextTower):
    """Text tower of kind ``transformer``."""

    config: TransformerConfig

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.context, self.pad_id = config.width, config.context, config.pad_id
        self.causal = self.crops = config.causal and config.pool != "last"
        self.token = nn.Embedding(config.vocab, config.width)
        self.position = nn.Parameter(torch.empty(config.context, config.width))
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp, config.activation, config.norm_eps, config.causal, config.layer_scale)
            for _ in range(config.depth)
        )
        self.norm = LayerNorm(config.width, eps=config.norm_eps)
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.position, std=0.01)
        init_blocks(self.blocks, config.width)

    def pooled_at(self, ids_BL: Tensor) -> Tensor:
        """Index of the row that stands for each text, (B,)."""
        if self.config.pool == "argmax":
            return ids_BL.argmax(dim=-1)
        if self.config.pool == "eos":
            return (ids_BL == self.config.eos_id).int().argmax(dim=-1)
        return ids_BL.new_full((len(ids_BL),), 0 if self.config.pool == "first" else ids_BL.shape[1] - 1)

    def forward(self, ids_BL: Tensor, taps: Set[str] = frozenset(), prompts: Inserted | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Pooled rows (B, width); tap ``text.tokens`` gives the normed tokens (B, L, width).

        Args:
            ids_BL: token ids, at most ``context`` long. A causal tower may be given texts cropped to the longest one;
                a bidirectional or last-row one needs all ``context`` positions, as it was trained with.
            prompts: take the place of ids that were put in for them.
        """
        check_taps(taps, {"text.tokens"})
        length = ids_BL.shape[1]
        if length > self.context or (length < self.context and not self.causal):
            wanted = f"at most {self.context}" if self.causal else f"exactly {self.context}"
            raise UsageError(f"texts of {length} tokens", f"this text tower takes {wanted}", "Tokenize with the model's own tokenizer")
        return self.encode(ids_BL, self.token(ids_BL), taps, prompts)

    def encode(
        self, ids_BL: Tensor, rows_BLD: Tensor, taps: Set[str] = frozenset(), prompts: Inserted | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What :meth:`forward` does after it has looked up the rows of the token table."""
        if prompts is not None:
            prompts.check(self.config.kind, len(self.blocks))
            rows_BLD = prompts.put(0, rows_BLD)
        x_BLD = rows_BLD + self.position[: ids_BL.shape[1]]
        at_B = self.pooled_at(ids_BL)
        if prompts is not None and prompts.first and self.causal and not taps and all(map(may_shorten, self.blocks)):
            return self._beside(x_BLD, at_B, prompts), {}
        last = self.blocks[-1]
        for index, block in enumerate(self.blocks):
            if prompts is not None and index:
                x_BLD = prompts.put(index, x_BLD)
            if block is not last:
                x_BLD = block(x_BLD)
        if not taps and may_shorten(last):
            return self.norm(last.row(x_BLD, at_B)), {}
        tokens_BLD = self.norm(last(x_BLD))
        return tokens_BLD[torch.arange(len(ids_BL), device=ids_BL.device), at_B], {"text.tokens": tokens_BLD} if taps else {}

    def _beside(self, x_BLD: Tensor, at_B: Tensor, prompts: Inserted) -> Tensor:
        """Pooled rows where all texts begin with the same tokens up to the last prompt: those pass through the blocks once."""
        first = prompts.first
        first_1PD, x_BSD, at_B = x_BLD[:1, :first], x_BLD[:, first:], at_B - first
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            first_1PD = prompts.put(index, first_1PD) if index else first_1PD
            first_1PD, x_BSD = block.beside(first_1PD, x_BSD, at_B if block is self.blocks[-1] else None)
        return self.norm(x_BSD[:, 0])


TOWER = ("transformer", "text", TransformerConfig, TextTransformer)
