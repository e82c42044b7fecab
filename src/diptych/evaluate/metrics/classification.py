"""Top-k accuracy, mean per class and confusion from class scores.

Shapes: N examples, K classes, D embedding width.

Ties count against the model: the rank of the true class is the number of *other* classes that score at least as high, so a model
that gives every class the same score has rank K − 1 everywhere and accuracy 0, never an accidental 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diptych.core.errors import UsageError
from diptych.evaluate.metrics.retrieval import ranks


def label_ranks(scores_NK: Tensor, label_N: Tensor) -> Tensor:
    """Rank of each example's true class, 0 = best; ties count against it.

    Args:
        scores_NK: one score a class, any real scale.
        label_N: int64 in 0 … K − 1.

    Returns:
        int64 ``rank_N`` in 0 … K − 1.

    Raises:
        UsageError: a label lies outside the classes, or a score is not a number.
    """
    _check(label_N, scores_NK.shape[1])
    if bool(scores_NK.isnan().any()):
        raise UsageError("class scores", "some are NaN", "Check the model with `diptych inspect`; its weights may have diverged")
    own_N1 = scores_NK.gather(1, label_N[:, None])
    return (scores_NK >= own_N1).sum(1) - 1


def feature_ranks(image_ND: Tensor, class_KD: Tensor, label_N: Tensor) -> Tensor:
    """:func:`label_ranks` of ``image_ND @ class_KD.T`` in bounded memory, ties decided in float64."""
    _check(label_N, class_KD.shape[0])
    return ranks(image_ND, class_KD, label_N, torch.arange(class_KD.shape[0]))


def predictions(image_ND: Tensor, class_KD: Tensor, block: int = 4096) -> Tensor:
    """The best class of each example (int64 ``N``; the lowest index where several tie), ``block`` examples at a time."""
    parts = [(part @ class_KD.T).argmax(1) for part in image_ND.split(block)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)


def top_k(rank_N: Tensor, k: int) -> Tensor:
    """1.0 where the true class is among the best ``k``, else 0.0 (float64 ``N``)."""
    if k < 1:
        raise UsageError(f"top-{k}", "k counts answers and starts at 1", "Ask for k of 1 or more")
    return (rank_N < k).double()


def per_class(value_N: Tensor, label_N: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mean of ``value_N`` within each class that has examples.

    Returns:
        ``(mean_C, class_C)``: float64 means and their class indices; the C ≤ K classes without examples are left out, not zero.
    """
    _check(label_N, classes)
    count_K = torch.bincount(label_N, minlength=classes).double()
    sum_K = torch.zeros(classes, dtype=torch.float64).index_add_(0, label_N, value_N.double())
    class_C = count_K.nonzero()[:, 0]
    return sum_K[class_C] / count_K[class_C], class_C


def worst_group(value_N2: Tensor) -> float:
    """The lowest mean over a group, as in WILDS (Koh et al., arXiv:2012.07421).

    Args:
        value_N2: a value and the number of its group an example; negative numbers belong to no group.

    Returns:
        NaN where no example has a group.
    """
    kept_N2 = value_N2[value_N2[:, 1] >= 0]
    if not len(kept_N2):
        return math.nan
    mean_C, _ = per_class(kept_N2[:, 0], kept_N2[:, 1].long(), int(kept_N2[:, 1].max()) + 1)
    return float(mean_C.min())


def f1_macro(pair_N2: Tensor) -> float:
    """Mean over the classes that occur of F1 = 2 · right / (occurs + predicted), as WILDS has it for iWildCam.

    Args:
        pair_N2: int64; true and predicted class.
    """
    true_N, predicted_N = pair_N2.unbind(1)
    count = int(pair_N2.max()) + 1
    true_K, predicted_K, right_K = (
        torch.bincount(index, minlength=count).double() for index in (true_N, predicted_N, true_N[true_N == predicted_N])
    )
    occurs_C = true_K.nonzero()[:, 0]
    return float((2 * right_K / (true_K + predicted_K).clamp(min=1))[occurs_C].mean())


def f1_macro_chance(label_N: Tensor, classes: int) -> float:
    """:func:`f1_macro` of guessing evenly, by expected counts: a class of share p has F1 = 2 p / (1 + K p)."""
    share_C = torch.bincount(label_N, minlength=classes).double() / max(len(label_N), 1)
    share_C = share_C[share_C > 0]
    return float((2 * share_C / (1 + classes * share_C)).mean())


def confusion(predicted_N: Tensor, label_N: Tensor, classes: int) -> Tensor:
    """int64 ``K,K``: row = true class, column = predicted class, as in scikit-learn's ``confusion_matrix``."""
    _check(label_N, classes)
    _check(predicted_N, classes)
    return torch.bincount(label_N * classes + predicted_N, minlength=classes * classes).view(classes, classes)


def most_confused(predicted_N: Tensor, label_N: Tensor, limit: int = 12) -> list[tuple[int, int, int]]:
    """``(true, predicted, count)`` of the most frequent mistakes, worst first; equal counts in order of class index.

    Works on the mistakes alone, so 100,000 classes need no square table.
    """
    wrong_M = (predicted_N != label_N).nonzero()[:, 0]
    if not len(wrong_M):
        return []
    pair_M2 = torch.stack([label_N[wrong_M], predicted_N[wrong_M]], 1)
    pair_P2, count_P = pair_M2.unique(dim=0, return_counts=True)
    order = count_P.argsort(descending=True, stable=True)[:limit]
    return [(int(pair_P2[i, 0]), int(pair_P2[i, 1]), int(count_P[i])) for i in order]


def top_k_chance(k: int, classes: int) -> float:
    """What guessing gives: min(k, K) / K."""
    return min(k, classes) / classes


def _check(label_N: Tensor, classes: int) -> None:
    if len(label_N) and not 0 <= int(label_N.min()) <= int(label_N.max()) < classes:
        raise UsageError(
            "labels",
            f"they run from {int(label_N.min())} to {int(label_N.max())}, but there are {classes} classes",
            "Give class indices that start at 0, one name a class",
        )
