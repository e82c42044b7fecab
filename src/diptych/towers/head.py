"""Heads: classifiers on unit rows that travel with a model, whatever method fitted them.

Three forms hold what adaptation from features makes. Shapes: N pictures, K classes, D joint width, M cached pictures, H hidden width.

- ``linear``: ``logits = x @ weight.T + bias``. A zero-shot classifier, a linear probe and a Gaussian classifier with one covariance are
  of this form, and so is every weighted sum of them.
- ``cache`` (Tip-Adapter, arXiv:2207.09519, equations 4 to 6): the linear form plus ``exp(-beta * (1 - x @ key.T)) @ value``.
- ``residual`` (CLIP-Adapter, arXiv:2110.04544, equation 5): the linear form on
  ``unit(ratio * relu(relu(x @ down.T) @ up.T) + (1 - ratio) * x)``.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

KINDS = ("linear", "cache", "residual")


class HeadConfig(BaseModel):
    """What decides a head besides its numbers.

    Args:
        kind: ``"linear"``, ``"cache"`` or ``"residual"``.
        classes: K names, in the order of the logits.
        width: D.
        cached: M, of a cache.
        hidden: H, of a residual head.
        beta: sharpness of a cache's affinity.
        ratio: how much of the new row a residual head takes, 0 to 1.
        made_by: the method's id and options, for reports.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str = "linear"
    classes: tuple[str, ...] = Field(min_length=1)
    width: int = Field(ge=1)
    cached: int = Field(default=0, ge=0)
    hidden: int = Field(default=0, ge=0)
    beta: float = Field(default=1.0, gt=0)
    ratio: float = Field(default=0.2, ge=0, le=1)
    made_by: str = ""

    @model_validator(mode="after")
    def _fits(self) -> HeadConfig:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is none of {', '.join(KINDS)}")
        if (self.kind == "cache") != (self.cached > 0) or (self.kind == "residual") != (self.hidden > 0):
            raise ValueError("cached goes with kind 'cache' and hidden with kind 'residual'")
        return self


class Head(nn.Module):
    """A classifier on unit rows; see the module for its forms. Its numbers are buffers: no optimiser of the towers touches them.

    Args:
        config: the form and its sizes; numbers are NaN until they are set.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        count, width = len(config.classes), config.width
        shapes = {"weight": (count, width), "bias": (count,)}
        if config.kind == "cache":
            shapes |= {"key": (config.cached, width), "value": (config.cached, count)}
        if config.kind == "residual":
            shapes |= {"down": (config.hidden, width), "up": (width, config.hidden)}
        for name, shape in shapes.items():
            self.register_buffer(name, torch.full(shape, torch.nan))

    @staticmethod
    def of(config: HeadConfig, **numbers: Tensor) -> Head:
        """A head with its numbers, by name; a bias that is not given is 0. Raises ``ValueError`` where names or shapes do not fit."""
        made = Head(config)
        named = dict(made.named_buffers())
        numbers.setdefault("bias", torch.zeros(len(config.classes)))
        if set(numbers) != set(named):
            raise ValueError(f"a {config.kind} head has {sorted(named)}, got {sorted(numbers)}")
        for name, buffer in named.items():
            if numbers[name].shape != buffer.shape:
                raise ValueError(f"{name} is {tuple(numbers[name].shape)}, the head has {tuple(buffer.shape)}")
            buffer.copy_(numbers[name].detach())
        return made

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        return self.config.classes

    def numbers(self) -> int:
        """How many numbers it holds."""
        return sum(buffer.numel() for buffer in self.buffers())

    def forward(self, image_ND: Tensor) -> Tensor:
        """Logits (N, K) of unit rows."""
        x_ND = image_ND.to(self.weight.dtype)
        if self.config.kind == "residual":
            new_ND = F.relu(F.relu(x_ND @ self.get_buffer("down").T) @ self.get_buffer("up").T)
            x_ND = F.normalize(self.config.ratio * new_ND + (1 - self.config.ratio) * x_ND, dim=-1)
        logits_NK = torch.addmm(self.bias, x_ND, self.weight.T)
        if self.config.kind == "cache":
            affinity_NM = torch.exp(-self.config.beta * (1 - x_ND @ self.get_buffer("key").T))
            logits_NK = logits_NK + affinity_NM @ self.get_buffer("value")
        return logits_NK


def mixed(first: Head, second: Head, share: float) -> Head:
    """The linear head between two: ``(1 - share) * first + share * second`` (WiSE-FT, arXiv:2109.01903, section 3, on a linear head).

    Args:
        share: 0 gives ``first``, 1 gives ``second``.
    """
    if first.classes != second.classes or first.config.kind != "linear" or second.config.kind != "linear":
        raise ValueError("only linear heads of the same classes can be mixed")
    return Head.of(second.config, weight=torch.lerp(first.weight, second.weight, share), bias=torch.lerp(first.bias, second.bias, share))
