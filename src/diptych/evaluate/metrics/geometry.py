"""How pictures and words lie on the sphere: alignment, uniformity, and the gap between the two.

Papers: Wang and Isola, Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere
(arXiv:2005.10242), section 4.1 (both losses); Liang et al., Mind the Gap (arXiv:2203.02053), its embedding shift experiment (the gap
is the difference of the means; what happens when it is moved).

    alignment  = mean over pairs of |x[i] − y[i]|²             # 0 best, 2 where pairs are at right angles
    uniformity = log mean over i ≠ j of exp(−2 |x[i] − x[j]|²) # lower is more even; −4 at right angles, 0 where all are one point
    gap        = mean(x) − mean(y)                              # a vector: its length, and which way it points

Shapes: N rows, M rows, D width; all rows are unit rows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diptych.core.errors import UsageError

SHARPNESS = 2.0


def alignment(x_ND: Tensor, y_ND: Tensor) -> Tensor:
    """Squared distance of each pair, float64 ``N`` in [0, 4]. Raises :class:`UsageError` where the shapes differ."""
    if x_ND.shape != y_ND.shape:
        raise UsageError("alignment", f"rows of {tuple(x_ND.shape)} and {tuple(y_ND.shape)}", "Give one row of each kind a pair")
    return (x_ND.double() - y_ND.double()).square().sum(1)


def kernel_sums(x_ND: Tensor, *, sharpness: float = SHARPNESS, block: int = 1024) -> Tensor:
    """For each row the mean of exp(−t |x[i] − x[j]|²) over the other rows (float64 ``N``); the log of their mean is the uniformity.

    Raises:
        UsageError: fewer than two rows.
    """
    if len(x_ND) < 2:
        raise UsageError("uniformity", f"{len(x_ND)} rows", "Give at least two")
    x_ND = x_ND.double()
    square_N = x_ND.square().sum(1)
    parts = []
    for start in range(0, len(x_ND), block):
        part = x_ND[start : start + block]
        distance_nN = (square_N[start : start + block, None] + square_N[None] - 2 * part @ x_ND.T).clamp(min=0)
        parts.append((-sharpness * distance_nN).exp().sum(1) - 1)  # less the row with itself, whose distance is 0
    return torch.cat(parts) / (len(x_ND) - 1)


def uniformity(x_ND: Tensor, *, sharpness: float = SHARPNESS) -> float:
    """log of the mean Gaussian potential over pairs of different rows, in [−4t, 0]."""
    return math.log(max(float(kernel_sums(x_ND, sharpness=sharpness).mean()), math.exp(-4 * sharpness)))


def gap(x_ND: Tensor, y_MD: Tensor) -> Tensor:
    """The modality gap: difference of the mean rows, float64 ``D``, with a length in [0, 2]."""
    return x_ND.double().mean(0) - y_MD.double().mean(0)


def gap_length(x_ND: Tensor, y_ND: Tensor) -> float:
    """How far apart the mean rows lie."""
    return float(gap(x_ND, y_ND).norm())


def gap_share(x_ND: Tensor, y_ND: Tensor) -> float:
    """How much of what parts a picture from its words is the same for every pair: |mean difference|² / mean |difference|², in [0, 1].

    1: every pair is shifted by the same vector; 0: the differences point everywhere. The remaining share is their variance about the gap.
    """
    total = float(alignment(x_ND, y_ND).mean())
    return float(gap(x_ND, y_ND).square().sum()) / total if total > 0 else float("nan")


def moved(x_ND: Tensor, y_MD: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Unit rows after each side went ``step``/2 of the gap towards the other: 0 leaves them, 1 closes the gap (arXiv:2203.02053, 4.2)."""
    gap_D = gap(x_ND, y_MD)
    towards = (x_ND.double() - step / 2 * gap_D, y_MD.double() + step / 2 * gap_D)
    x_ND, y_MD = (torch.nn.functional.normalize(rows, dim=1).float() for rows in towards)
    return x_ND, y_MD
