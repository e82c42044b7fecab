"""k-means with squared distances: Lloyd's steps from random rows, the same answer for the same generator.

Shapes: N rows, K centres, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def nearest(rows_ND: Tensor, centres_KD: Tensor) -> Tensor:
    """Index of each row's nearest centre, (N,); the first of equal ones."""
    return (rows_ND @ centres_KD.T - 0.5 * centres_KD.square().sum(1)).argmax(dim=1)


def means(rows_ND: Tensor, label_N: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """Mean of the rows of each label (K, D), zero where there is none, and how many rows each has (K,)."""
    member_NK = torch.nn.functional.one_hot(label_N, clusters).to(rows_ND.dtype)
    count_K = member_NK.sum(0)
    return (member_NK.T @ rows_ND) / count_K.clamp_min(1.0)[:, None], count_K


@torch.no_grad()
def kmeans(rows_ND: Tensor, clusters: int, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Centres (K, D) and the index of each row's centre (N,).

    It begins at ``clusters`` rows drawn without repetition. A centre that loses all its rows moves to a row that is far from its
    own centre, the farthest first. A product with a table of memberships takes the sums, so that a GPU repeats them too.
    """
    first_K = torch.randperm(len(rows_ND), generator=generator, device=rows_ND.device)[:clusters]
    centres_KD = rows_ND[first_K]
    for _ in range(steps):
        label_N = nearest(rows_ND, centres_KD)
        distance_N = (rows_ND - centres_KD[label_N]).square().sum(1)
        far_K = distance_N.argsort(descending=True, stable=True)[:clusters]
        moved_KD, count_K = means(rows_ND, label_N, clusters)
        empty_K = count_K == 0
        refill_KD = rows_ND[far_K[(empty_K.cumsum(0) - 1).clamp_min(0)]]
        centres_KD = torch.where(empty_K[:, None], refill_KD, moved_KD)
    return centres_KD, nearest(rows_ND, centres_KD)
