"""Multinomial logistic regression pulled towards a start. Shapes: S labelled rows, K classes, D width."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def fit(image_SD: Tensor, label_S: Tensor, start_KD: Tensor, ridge: float, steps: int) -> tuple[Tensor, Tensor]:
    """Weight (K, D) and bias (K,) at the minimum of mean cross-entropy plus ``ridge / 2 * sum((weight - start) ** 2)``, by L-BFGS."""
    weight_KD = start_KD.clone().requires_grad_()
    bias_K = torch.zeros(len(start_KD), dtype=start_KD.dtype, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight_KD, bias_K], max_iter=steps, history_size=20, tolerance_grad=1e-9, tolerance_change=1e-13, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.cross_entropy(image_SD @ weight_KD.T + bias_K, label_S) + ridge / 2 * (weight_KD - start_KD).square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    return weight_KD.detach(), bias_K.detach()
