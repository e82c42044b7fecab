"""Weighted k-nearest-neighbour classification on unit rows.

Source: Wu et al., Unsupervised Feature Learning via Non-parametric Instance Discrimination (arXiv:1805.01978), section 3.4.
Each of the k training pictures most like the picture votes for its class with weight exp(cosine / temperature).
Shapes: N training pictures, M pictures to classify, D width, K classes, k neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diptych.core.errors import UsageError


def nearest(image_MD: Tensor, train_ND: Tensor, k: int, block: int = 1024) -> tuple[Tensor, Tensor]:
    """Cosines and indices ``(M, min(k, N))`` of the nearest training rows, nearest first, ``block`` rows at a time."""
    if k < 1 or not len(train_ND):
        raise UsageError("nearest neighbours", f"k={k} of {len(train_ND)} training pictures", "Give at least one of each")
    parts = [(part @ train_ND.T).topk(min(k, len(train_ND)), dim=1) for part in image_MD.split(block)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def votes(cosine_Mk: Tensor, label_Mk: Tensor, classes: int, k: int, temperature: float) -> Tensor:
    """``score_MK`` float64: the votes of the first ``k`` neighbours, in units of the nearest one's.

    Args:
        cosine_Mk, label_Mk: of the neighbours, nearest first.
    """
    cosine_Mk, label_Mk = cosine_Mk[:, :k].double(), label_Mk[:, :k]
    vote_Mk = ((cosine_Mk - cosine_Mk[:, :1]) / temperature).exp()
    return torch.zeros(len(cosine_Mk), classes, dtype=torch.float64, device=cosine_Mk.device).scatter_add_(1, label_Mk, vote_Mk)


def choose(
    cosine_Mk: Tensor, label_Mk: Tensor, right_M: Tensor, classes: int, ks: Sequence[int], temperatures: Sequence[float]
) -> tuple[int, float, dict[tuple[int, float], float]]:
    """The k and temperature that name most of the held-out pictures rightly, and the share of each pair.

    Of pairs that are equal the smallest k, then the largest temperature, is taken. Each k above the number of neighbours given is left out.
    """
    told = {
        (k, t): float((votes(cosine_Mk, label_Mk, classes, k, t).argmax(1) == right_M).double().mean())
        for k in ks
        if k <= cosine_Mk.shape[1]
        for t in sorted(temperatures, reverse=True)
    }
    if not told:
        raise UsageError("nearest neighbours", f"every k of {list(ks)} is above {cosine_Mk.shape[1]} training pictures", "Give a smaller k")
    k, t = max(told, key=lambda pair: told[pair])
    return k, t, told
