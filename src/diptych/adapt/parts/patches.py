"""Tokens of frozen towers. Shapes: B pictures, T patch tokens, L tokens of a text, W and V widths of the towers."""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.core.errors import UsageError
from diptych.towers.dual import DualEncoder
from diptych.towers.encode import lengths


@torch.no_grad()
def words(model: DualEncoder, instruction: str) -> Tensor:
    """Tokens (L, V) of the instruction as the text tower leaves them. Raises :class:`UsageError` where the model has no tokenizer."""
    if model.tokenizer is None:
        raise UsageError(f"model {model.config.name!r}", "it has no tokenizer", "Give one: DualEncoder(config, tokenizer=…)")
    ids_1L = model.tokenizer([instruction])
    length = max(int(lengths(ids_1L, model.text.pad_id).max()), 1)
    return model.text_features(ids_1L.to(model.device), taps={"text.tokens"})[1]["text.tokens"][0, :length]


@torch.no_grad()
def tokens(model: DualEncoder, pixels_BCHW: Tensor) -> Tensor:
    """Patch tokens (B, T, W) as the image tower leaves them."""
    return model.image_features(pixels_BCHW.to(model.device), taps={"image.tokens"})[1]["image.tokens"]
