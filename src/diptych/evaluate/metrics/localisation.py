"""How well a map of patches says where something is: intersection over union, and the area under the ROC curve counted in pixels.

Sources: Everingham et al., The PASCAL Visual Object Classes Challenge (IJCV 2010; segmentation accuracy: intersection over
union a class, then the mean); Bergmann et al., MVTec AD (IJCV 2021; pixel-wise AUROC of anomaly maps).
Shapes: N pictures, P patches, K classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def confusions(told_NP: Tensor, true_NP: Tensor, classes: int) -> Tensor:
    """float64 ``count_NKK`` of each picture: row = true class, column = told class. Patches whose truth is negative are left out."""
    cell_NP = (true_NP * classes + told_NP).masked_fill(true_NP < 0, classes * classes)
    count_NC = torch.zeros(len(cell_NP), classes * classes + 1, dtype=torch.float64)
    count_NC.scatter_add_(1, cell_NP, torch.ones_like(cell_NP, dtype=torch.float64))
    return count_NC[:, :-1].view(-1, classes, classes)


def mean_iou(count_NKK: Tensor) -> float:
    """Mean intersection over union of all pictures together, over the classes that are there or told; NaN where there is none."""
    count_KK = count_NKK.sum(0)
    both_K = count_KK.diagonal()
    union_K = count_KK.sum(0) + count_KK.sum(1) - both_K
    return float((both_K[union_K > 0] / union_K[union_K > 0]).mean())


def guessed_iou(true_NP: Tensor, classes: int) -> float:
    """The mean IoU that guessing each patch's class evenly tends to as patches grow many.

    With the share p of a class among the patches, p/K of all are in the intersection and p + 1/K − p/K in the union.
    """
    count_K = torch.bincount(true_NP[true_NP >= 0].reshape(-1), minlength=classes).double()
    share_K = count_K / count_K.sum()
    return float((share_K / classes / (share_K + 1 / classes - share_K / classes)).mean())


def weighted_auroc(found_M3: Tensor) -> float:
    """The chance that a positive scores higher than a negative, ties counting half; NaN where one kind is missing.

    Args:
        found_M3: float64 rows of a score, the number of positives with this score (damaged pixels of a patch, say) and of negatives.
    """
    score_M, positive_M, negative_M = found_M3.reshape(-1, 3).double().unbind(1)
    values, run_M = score_M.unique(return_inverse=True)
    positive_R, negative_R = torch.zeros(2, len(values), dtype=torch.float64)
    positive_R = positive_R.index_add(0, run_M, positive_M)
    negative_R = negative_R.index_add(0, run_M, negative_M)
    pairs = float(positive_R.sum() * negative_R.sum())
    below_R = negative_R.cumsum(0) - negative_R / 2
    return float((positive_R * below_R).sum()) / pairs if pairs else math.nan
