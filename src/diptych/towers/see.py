"""What an objective sees of one batch inside the forward pass, beside its unit rows.

Shapes: B rows, R texts a row, C channels, H height, W width (of a tower where it follows B), L text length, D joint width.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.types import TokenMethod


@dataclass(frozen=True, slots=True)
class See:
    """One batch, or one part of it, in the middle of the forward pass.

    Args:
        model: the dual encoder that is trained.
        image_BCHW: uint8 RGB.
        text_BL: token ids of each row; None where the text tower is frozen, whose rows are kept instead.
        extra: the loader's further material: ``"view.0"`` (uint8), ``"boxes"`` …; for texts use :meth:`text`.
        taps: what the card's ``needs`` named.
        image_BD, text_BD: unit rows with their graph; zeros (B, 1) on a side that ``USES`` leaves out.
        ema: an exponential average of the model, without gradient; None unless the card needs it.
        teacher: the model as it was when the run began, frozen; None unless the card needs it.
        tokens: the run's token method, or None.
        draw: random numbers of this step, on the device.
        progress: share of the budget that is spent, 0 to 1.
        frozen_text: texts in ``extra`` are pooled rows of the frozen text tower, not ids.
    """

    model: Any
    image_BCHW: Tensor
    text_BL: Tensor | None
    draw: torch.Generator
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    taps: Mapping[str, Tensor] = field(default_factory=dict)
    image_BD: Tensor | None = None
    text_BD: Tensor | None = None
    ema: Any = None
    teacher: Any = None
    tokens: TokenMethod | None = None
    progress: float = 0.0
    frozen_text: bool = False

    def image(self, pixels_BCHW: Tensor, *, model: Any = None, tokens: TokenMethod | None = None, taps: Set[str] = frozenset()) -> Any:
        """Unit rows of uint8 pictures by ``model`` (the trained one by default); with ``taps`` a tuple of rows and taps."""
        return (model or self.model).image_features(pixels_BCHW, tokens=tokens, taps=taps)

    def text(self, name: str, *, model: Any = None) -> Tensor:
        """Unit rows (B, D), or (B, R, D), of the texts ``extra["text." + name]``."""
        model, text = model or self.model, self.extra[f"text.{name}"]
        flat = text.flatten(0, -2)
        pooled = flat if self.frozen_text else model.text(flat)[0]
        return F.normalize(model.text_projection(pooled), dim=-1).unflatten(0, text.shape[:-1])
