"""A dual encoder whose pictures go through a token method, off the shelf: it encodes and is evaluated as the model itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from diptych.core.errors import UsageError
from diptych.core.types import TokenMethod
from diptych.towers.base import check_tokens

if TYPE_CHECKING:
    from diptych.towers.dual import DualConfig, DualEncoder


class Thinned:
    """``model`` with fewer image tokens.

    Args:
        model: any model with an image tower of blocks.
        tokens: a token method that needs no training.
        told: name and options of the method, for reports and for the fingerprint.

    Raises:
        UsageError: the method works in training only, or does not go together with the tower.
    """

    def __init__(self, model: DualEncoder, tokens: TokenMethod, told: str) -> None:
        if hasattr(tokens, "look"):
            why = "it scores patches by an average of the model in training"
            raise UsageError(f"token method {told!r}", why, "Take one that works on its own such as 'tome'")
        check_tokens(model.image, tokens)
        self.model, self.tokens, self.told = model, tokens, told

    @property
    def config(self) -> DualConfig:
        """The model's, with the method in its name."""
        return self.model.config.model_copy(update={"name": f"{self.model.config.name}, {self.told}"})

    @property
    def templates(self) -> tuple[str, ...]:
        """The model's prompt templates."""
        return self.model.templates

    def encode_image(self, images: Any, batch_size: int = 64, progress: bool = False) -> Tensor:
        """Unit rows (N, D) of pictures through the token method."""
        return self.model.encode_image(images, batch_size, progress, self.tokens)

    def encode_text(self, texts: str | Iterable[str], batch_size: int = 256, progress: bool = False) -> Tensor:
        """Unit rows (N, D) of texts, as the model gives them."""
        return self.model.encode_text(texts, batch_size, progress)

    def fingerprint(self) -> str:
        """Of the model and the method with its options together."""
        return hashlib.sha256(f"{self.model.fingerprint()}|{self.told}".encode()).hexdigest()
