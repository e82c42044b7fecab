"""Average precision of a ranked gallery: not only the best answer counts, but where every right one stands.

Buckley and Voorhees, "Evaluating Evaluation Measure Stability" (SIGIR 2000): the mean, over a query's right answers, of the
share of right ones among all that score at least as high. Equal scores share a threshold, so ties are counted as a whole and their order
does not matter. Shapes: Q queries, G gallery rows, D embedding width.

    for q in queries:
        right = positives(q)
        precision = [sum(q · g >= q · p for g in right) / sum(q · g >= q · p for g in gallery) for p in right]
        average_precision[q] = mean(precision)
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.core.errors import UsageError


def average_precision(query_QD: Tensor, gallery_GD: Tensor, query_group_Q: Tensor, gallery_group_G: Tensor, block: int = 256) -> Tensor:
    """Average precision of each query (float64 ``Q``), 0 to 1.

    Args:
        query_QD, gallery_GD: float rows.
        query_group_Q, gallery_group_G: int64; equal values are right answers.
        block: queries at once; memory is about 30 bytes times ``block`` times G.

    Raises:
        UsageError: a query has no right answer.
    """
    found = [torch.zeros(0, dtype=torch.float64)]
    for start in range(0, len(query_QD), block):
        score_BG = query_QD[start : start + block].float() @ gallery_GD.float().T
        right_BG = query_group_Q[start : start + block, None] == gallery_group_G[None]
        found.append(_of_scores(score_BG, right_BG))
    return torch.cat(found)


def _of_scores(score_BG: Tensor, right_BG: Tensor) -> Tensor:
    """The same of scores and which of them are right."""
    count_B = right_BG.sum(1)
    if bool((count_B == 0).any()):
        raise UsageError("average precision", "a query has no right answer in the gallery", "Leave out such queries")
    sorted_BG, order_BG = score_BG.sort(dim=1, descending=True)
    hit_BG = right_BG.gather(1, order_BG)
    size = score_BG.shape[1]
    place_G = torch.arange(size)
    last_BG = torch.ones_like(hit_BG)
    last_BG[:, :-1] = sorted_BG[:, :-1] != sorted_BG[:, 1:]
    end_BG = torch.where(last_BG, place_G, size).flip(1).cummin(1).values.flip(1)  # where the run of equal scores ends
    precision_BG = (hit_BG.cumsum(1) / (place_G + 1)).double().gather(1, end_BG)
    return (precision_BG * hit_BG).sum(1) / count_B


def chance(gallery: int, count_Q: Tensor) -> float:
    """Mean average precision of a random order: ``H/G + (R − 1)/(G − 1) · (1 − H/G)`` for R right ones of G, H = 1 + 1/2 + … + 1/G.

    (Bestgen, "Exact Expected Average Precision of the Random Baseline for System Evaluation", 2015.)
    """
    harmonic = float((1 / torch.arange(1, gallery + 1, dtype=torch.float64)).sum()) / gallery
    share_Q = (count_Q.double() - 1) / max(gallery - 1, 1)
    return float((harmonic + share_Q * (1 - harmonic)).mean())
