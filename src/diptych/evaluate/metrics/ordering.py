"""Agreement of two orders: Kendall's τ-b and Spearman's ρ, both between −1 and 1, 0 for orders that have nothing to do with each other.

Sources: Kendall, The treatment of ties in ranking problems (Biometrika 33, 1945); Spearman, The proof and measurement of association
between two things (American Journal of Psychology 15, 1904). Where one side is constant there is no order, and the agreement is 0.
Shapes: L lists, M members of each.
"""

from __future__ import annotations

import torch
from torch import Tensor


def kendall(x_LM: Tensor, y_LM: Tensor) -> Tensor:
    """τ-b of each list (float64 ``L``): (agreeing − disagreeing pairs) / √(pairs not tied in x · pairs not tied in y)."""
    upper = torch.triu_indices(x_LM.shape[1], x_LM.shape[1], 1)
    x_LQ, y_LQ = ((side[:, upper[0]] - side[:, upper[1]]).sign().double() for side in (x_LM.double(), y_LM.double()))
    scale_L = (x_LQ.abs().sum(1) * y_LQ.abs().sum(1)).sqrt()
    return torch.where(scale_L > 0, (x_LQ * y_LQ).sum(1) / scale_L.clamp_min(1e-300), 0.0)


def spearman(x_LM: Tensor, y_LM: Tensor) -> Tensor:
    """ρ of each list (float64 ``L``): the correlation of ranks, tied members having their mean rank."""
    x_LM, y_LM = ((rank - rank.mean(1, keepdim=True)) for rank in (_ranks(x_LM.double()), _ranks(y_LM.double())))
    scale_L = (x_LM.square().sum(1) * y_LM.square().sum(1)).sqrt()
    return torch.where(scale_L > 0, (x_LM * y_LM).sum(1) / scale_L.clamp_min(1e-300), 0.0)


def _ranks(x_LM: Tensor) -> Tensor:
    """Mean ranks from 0: how many are smaller, and half of the others that are equal."""
    less_LM = (x_LM[:, None, :] < x_LM[:, :, None]).double().sum(2)
    same_LM = (x_LM[:, None, :] == x_LM[:, :, None]).double().sum(2)
    return less_LM + (same_LM - 1) / 2
