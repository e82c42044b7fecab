"""Small trained networks on top of pooled rows: projectors and predictors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

from torch import nn

Norm = Literal["none", "batch", "layer"]


def _norm(kind: Norm, width: int, affine: bool) -> nn.Module:
    """The statistics of a batch norm are always those of the batch: a head is only used while training."""
    if kind == "batch":
        return nn.BatchNorm1d(width, affine=affine, track_running_stats=False)
    return nn.LayerNorm(width, elementwise_affine=affine)


def mlp(widths: Sequence[int], *, norm: Norm = "none", norm_out: bool = False) -> nn.Sequential:
    """Linear layers with a ReLU between each two.

    Args:
        widths: of the input, each hidden layer and the output; at least two.
        norm: what stands between a hidden linear layer (then without bias) and its ReLU. A batch norm's statistics are those of this
            rank's rows.
        norm_out: whether the output has the norm too, without scale and shift.
    """
    layers: list[nn.Module] = []
    last = len(widths) - 2
    for index, (width_in, width_out) in enumerate(itertools.pairwise(widths)):
        normed = norm != "none" and (index < last or norm_out)
        layers.append(nn.Linear(width_in, width_out, bias=not normed))
        if normed:
            layers.append(_norm(norm, width_out, affine=index < last))
        if index < last:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)
