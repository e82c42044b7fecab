"""Several models on the same examples: differences that hold together, and ranks with their uncertainty.

Papers: Romano and Wolf, Exact and Approximate Stepdown Methods for Multiple Hypothesis Testing (JASA 100, 2005): the bootstrap
of the largest studentised difference, here its single step; Hall and Miller, Using the Bootstrap to Quantify the Authority of an
Empirical Ranking (Annals of Statistics 37, 2009): ranks on resamples.

The comparison of backbones is that of Goldblum et al., Battle of the Backbones (arXiv:2310.19909): several models, several tasks, one
table and one ranking. There, results are put on one scale by z-scores over the models; here, averages and ranks have intervals.

    for each resample s:
        largest[s] = max over comparisons j of |d_sj − d_j| / deviation_j
    reach = 95 % quantile of largest
    interval of comparison j = d_j ± reach · deviation_j

All true differences lie in their intervals at once with 95 % confidence, so those whose interval excludes 0 are real together.
Shapes: S resamples, J comparisons, M models.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diptych.core.card import Card

CARD = Card(
    id="bob-backbones",
    name="Battle of the Backbones",
    family="metric",
    paper="Battle of the Backbones: A Large-Scale Comparison of Pretrained Models across Computer Vision Tasks (arXiv:2310.19909)",
    where="the ranking of models over tasks",
    claim="large supervised convolutional networks are best on most tasks; self-supervised ones compete where data and size are matched",
    needs=frozenset({"two models or more"}),
)


def together(value_J: Tensor, draw_SJ: Tensor, floor_J: Tensor, level: float = 0.95) -> tuple[Tensor, Tensor, float]:
    """Intervals of differences that hold all at once.

    Args:
        value_J: the differences.
        draw_SJ: the same on each resample; NaN where a resample has none, and then it counts in no maximum.
        floor_J: the least deviation that is believed, above 0; on few examples all resamples may agree.
        level: share of the resamples on which no interval fails, 0 < level < 1.

    Returns:
        ``(low_J, high_J, reach)``; the reach is in deviations (1.96 for one comparison of many examples).
    """
    draw_SJ = draw_SJ.double()
    known_SJ = draw_SJ.isfinite()
    centred_SJ = torch.where(known_SJ, draw_SJ - value_J, 0.0)
    deviation_J = (centred_SJ.square().sum(0) / known_SJ.sum(0).clamp(min=1)).sqrt().maximum(floor_J)
    reach = float(torch.quantile((centred_SJ.abs() / deviation_J).amax(1), level))
    return value_J - reach * deviation_J, value_J + reach * deviation_J, reach


def ranks(score_SM: Tensor) -> Tensor:
    """Rank of each model in each row, 1 = highest; equal scores share the mean of their ranks (float64)."""
    above_SM = (score_SM[:, None, :] > score_SM[:, :, None]).sum(2)
    equal_SM = (score_SM[:, None, :] == score_SM[:, :, None]).sum(2)
    return 1 + above_SM.double() + (equal_SM.double() - 1) / 2


def rank_intervals(draw_SM: Tensor, level: float = 0.95) -> Tensor:
    """Percentile intervals ``(M, 2)`` of the models' ranks over resamples; resamples with a NaN are left out."""
    whole_SM = draw_SM[draw_SM.isfinite().all(1)]
    tail = (1 - level) / 2
    wanted = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    return torch.quantile(ranks(whole_SM), wanted, dim=0, interpolation="nearest").T
