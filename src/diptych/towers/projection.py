"""From a pooled row to the joint space: linear, none, a closed-form mixture of class embeddings, or a residual on any of them.

The mixture is the convex combination of semantic embeddings of Norouzi et al. (ConSE, arXiv:1312.5650, equation 3): a classifier's
probabilities over K known classes weight the text embeddings of the classes' names. It needs no picture–text pair. Here the
probabilities are softened by a temperature.

The residual follows Gao et al. (CLIP-Adapter, arXiv:2110.04544, section 3.2) in adding a small trained head to a frozen output; its
last layer starts at zero, so that before training it changes nothing.

Shapes: B rows, W the tower's width, K classes, D the joint width. Rows leave unnormalised; the model normalises them.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

APPLIES = {
    "bias": ("linear",),
    "classes": ("mixture",),
    "temperature": ("mixture",),
    "top_k": ("mixture",),
    "centre": ("none", "mixture"),
}


class ProjectionConfig(BaseModel):
    """How a pooled row becomes a row of the joint space. An option that the kind would not read is refused.

    Args:
        kind: ``"linear"``, ``"none"`` (the width must equal the joint width), ``"mixture"`` or ``"residual"``.
        base: for ``"residual"``, the kind that the head is added to; the options below then belong to it.
        bias: ``linear`` has a bias.
        classes: K of ``mixture``.
        temperature: divides the logits of ``mixture`` before the softmax, > 0.
        top_k: keep only the k likeliest classes of ``mixture`` (None keeps all).
        centre: subtract a stored row of width D from ``none`` or ``mixture``.
        hidden: hidden units of the residual's head; 0 makes the head one linear map.
        dropout: of the head's hidden units, in training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["linear", "none", "mixture", "residual"] = "linear"
    base: Literal["linear", "none", "mixture"] | None = None
    bias: bool = False
    classes: int = Field(default=0, ge=0)
    temperature: float = Field(default=1.0, gt=0)
    top_k: int | None = Field(default=None, gt=0)
    centre: bool = False
    hidden: int = Field(default=0, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _applicable(self) -> ProjectionConfig:
        if (self.kind == "residual") != (self.base is not None):
            raise ValueError("base belongs to kind 'residual', which needs it")
        inner = self.base or self.kind
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        for name, kinds in APPLIES.items():
            if getattr(self, name) != defaults[name] and inner not in kinds:
                raise ValueError(f"{name} has no meaning for a {inner!r} projection, only for {', '.join(kinds)}")
        if self.kind != "residual" and (self.hidden or self.dropout):
            raise ValueError("hidden and dropout belong to kind 'residual'")
        if self.dropout and not self.hidden:
            raise ValueError("dropout acts on hidden units and needs hidden > 0")
        if inner == "mixture" and self.classes == 0:
            raise ValueError("a 'mixture' projection needs classes, the number of known classes")
        if self.top_k is not None and self.top_k > self.classes:
            raise ValueError(f"top_k {self.top_k} exceeds {self.classes} classes")
        return self


class Centre(nn.Module):
    """x − centre, with ``centre`` a stored row of width D."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(width), requires_grad=False)

    def forward(self, x_BD: Tensor) -> Tensor:
        return x_BD - self.centre


class UnitCentre(Centre):
    """x/|x| − centre: for a text tower whose rows are meant to be compared as unit rows."""

    def forward(self, x_BD: Tensor) -> Tensor:
        return F.normalize(x_BD, dim=-1) - self.centre


class Mixture(nn.Module):
    """softmax(classifier(x) / temperature) @ class embeddings (− centre); with ``top_k`` the other classes get nothing."""

    def __init__(self, config: ProjectionConfig, width: int, embed_dim: int) -> None:
        super().__init__()
        self.temperature, self.top_k = config.temperature, config.top_k
        self.classifier = nn.Linear(width, config.classes)
        self.class_embeddings = nn.Parameter(torch.empty(config.classes, embed_dim))
        nn.init.normal_(self.class_embeddings, std=embed_dim**-0.5)
        self.shift = Centre(embed_dim) if config.centre else nn.Identity()

    def probabilities(self, x_BW: Tensor) -> Tensor:
        """B, K rows that sum to 1."""
        logits_BK = self.classifier(x_BW) / self.temperature
        if self.top_k is not None:
            least_B1 = logits_BK.topk(self.top_k, dim=-1).values[:, -1:]
            logits_BK = logits_BK.masked_fill(logits_BK < least_B1, float("-inf"))
        return logits_BK.softmax(-1)

    def forward(self, x_BW: Tensor) -> Tensor:
        return self.shift(self.probabilities(x_BW) @ self.class_embeddings)


class Residual(nn.Module):
    """base(x)/|base(x)| + head(x); the head's last layer starts at zero."""

    def __init__(self, config: ProjectionConfig, width: int, embed_dim: int) -> None:
        super().__init__()
        inner = {name: getattr(config, name) for name in APPLIES}
        self.base = build_projection(ProjectionConfig(kind=config.base or "linear", **inner), width, embed_dim)
        self.norm = nn.LayerNorm(width)
        last = nn.Linear(config.hidden or width, embed_dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        layers = [nn.Linear(width, config.hidden), nn.GELU(), nn.Dropout(config.dropout)] if config.hidden else []
        self.head = nn.Sequential(*layers, last)

    def forward(self, x_BW: Tensor) -> Tensor:
        return F.normalize(self.base(x_BW), dim=-1) + self.head(self.norm(x_BW))


def build_projection(config: ProjectionConfig, width: int, embed_dim: int) -> nn.Module:
    """The module that ``config`` describes, B, ``width`` → B, ``embed_dim``.

    Raises:
        ValueError: ``"none"`` between unequal widths.
    """
    if config.kind == "linear":
        layer = nn.Linear(width, embed_dim, bias=config.bias)
        nn.init.normal_(layer.weight, std=width**-0.5)
        if config.bias:
            nn.init.zeros_(layer.bias)
        return layer
    if config.kind == "none":
        if width != embed_dim:
            raise ValueError(f"no projection between a tower of width {width} and a joint space of width {embed_dim}")
        return UnitCentre(embed_dim) if config.centre else nn.Identity()
    return Mixture(config, width, embed_dim) if config.kind == "mixture" else Residual(config, width, embed_dim)
