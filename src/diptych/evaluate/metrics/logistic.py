"""Multinomial logistic regression with an L2 penalty, the linear probe's classifier.

Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision (arXiv:2103.00020), appendix A.3 (L-BFGS, the
penalty chosen on a validation split). The objective is scikit-learn's, divided by the number of examples:

    f(W, b) = 1/N · Σ_n −log softmax(x_n W + b)[y_n] + 1/(2 · c · N) · |W|²        (b is not penalised)

It is convex, so the optimum does not depend on how it is found. L-BFGS (Liu and Nocedal, Mathematical Programming 45, 1989) runs in
coordinates in which the curvature at equal probabilities is the identity: features are centred (the intercept takes the mean up) and turned
and scaled by A^(−1/2), A = cov(x)/K + I/(cN). Features of contrastive models are far from round, and this saves most of the steps.
Shapes: N examples, D features, K classes, M examples to classify.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diptych.core.errors import UsageError

BLOCK = 1 << 22  # logits held at once
PATIENCE = 2


@dataclass(frozen=True, slots=True)
class Linear:
    """A fitted linear classifier.

    Args:
        weight_DK, bias_K: logits are ``x_MD @ weight_DK + bias_K``.
        c: the inverse penalty that it was fitted with.
        objective: f at this point.
        evaluations: how often f and its gradient were computed.
    """

    weight_DK: Tensor
    bias_K: Tensor
    c: float
    objective: float
    evaluations: int

    def logits(self, image_MD: Tensor) -> Tensor:
        """``logits_MK`` in the classifier's dtype."""
        return torch.addmm(self.bias_K, image_MD.to(self.weight_DK.dtype), self.weight_DK)


def objective(image_ND: Tensor, label_N: Tensor, weight_DK: Tensor, bias_K: Tensor, penalty_D: Tensor) -> tuple[float, Tensor, Tensor]:
    """Mean loss + Σ penalty_D · |W_D|², and its gradient by weight and intercept, :data:`BLOCK` logits at a time.

    Args:
        penalty_D: what the squares of each feature's weights are multiplied with; 1/(2cN) throughout gives f.
    """
    count = len(image_ND)
    weight_grad_DK, bias_grad_K = 2 * penalty_D[:, None] * weight_DK, torch.zeros_like(bias_K)
    loss = (penalty_D * weight_DK.square().sum(1)).sum()
    rows = max(1, BLOCK // len(bias_K))
    for image_BD, label_B in zip(image_ND.split(rows), label_N.split(rows), strict=True):
        logit_BK = torch.addmm(bias_K, image_BD, weight_DK)
        logit_BK -= logit_BK.amax(1, keepdim=True)
        own_B = logit_BK.gather(1, label_B[:, None])[:, 0]
        sum_B = logit_BK.exp_().sum(1)
        loss = loss + (sum_B.log() - own_B).sum() / count
        logit_BK /= sum_B[:, None]
        logit_BK[torch.arange(len(label_B), device=label_B.device), label_B] -= 1
        weight_grad_DK.addmm_(image_BD.T, logit_BK, alpha=1 / count)
        bias_grad_K += logit_BK.sum(0) / count
    return float(loss), weight_grad_DK, bias_grad_K


def fit(
    image_ND: Tensor,
    label_N: Tensor,
    classes: int,
    c: float,
    *,
    start: Linear | None = None,
    tolerance: float = 1e-10,
    evaluations: int = 1000,
    dtype: torch.dtype = torch.float64,
) -> Linear:
    """The minimum of f.

    Args:
        image_ND: features of any scale.
        label_N: int64 in 0 … K − 1. A class without examples is kept, with a low intercept.
        c: inverse penalty as in scikit-learn, > 0; larger fits closer.
        start: begin here, on a path of penalties.
        tolerance: stop when a step changes f by less than this.
        evaluations: stop after about so many evaluations of f.
        dtype: float64 for exact optima; float32 is about twice as fast and good enough for choosing a penalty.

    Raises:
        UsageError: nothing to fit, a feature that is no number, a label outside the classes, or a penalty that is not positive.
    """
    _check(image_ND, label_N, classes, c)
    image_ND = image_ND.to(dtype)
    mean_D, turn_DD, size_D = _coordinates(image_ND, classes, c)
    turned_ND = (image_ND - mean_D) @ turn_DD / size_D
    penalty_D = 1 / (2 * c * len(image_ND) * size_D.square())
    root = classes**0.5
    point = torch.zeros(image_ND.shape[1] + 1, classes, dtype=dtype, device=image_ND.device)
    if start is not None:
        weight_DK = start.weight_DK.to(dtype)
        point[:-1] = size_D[:, None] * (turn_DD.T @ weight_DK)
        point[-1] = (start.bias_K.to(dtype) + mean_D @ weight_DK) / root
    point.requires_grad_()
    found, count = 0.0, 0

    def closure() -> float:
        nonlocal found, count
        with torch.no_grad():
            found, weight_grad_DK, bias_grad_K = objective(turned_ND, label_N, point[:-1], point[-1] * root, penalty_D)
            point.grad = torch.cat([weight_grad_DK, root * bias_grad_K[None]])
        count += 1
        return found

    search = torch.optim.LBFGS(
        [point], max_iter=evaluations, max_eval=evaluations, history_size=20,
        tolerance_grad=0, tolerance_change=tolerance, line_search_fn="strong_wolfe",
    )  # fmt: skip
    search.step(closure)
    with torch.no_grad():
        weight_DK = turn_DD @ (point[:-1] / size_D[:, None])
        bias_K = point[-1] * root - mean_D @ weight_DK
        found = objective(turned_ND, label_N, point[:-1], point[-1] * root, penalty_D)[0]
    return Linear(weight_DK, bias_K - bias_K.mean(), c, found, count)


def choose(
    image_ND: Tensor,
    label_N: Tensor,
    held_MD: Tensor,
    held_M: Tensor,
    classes: int,
    path: Sequence[float],
    **how: Any,
) -> tuple[Linear, list[tuple[float, float]]]:
    """The classifier of the penalty that names most of the held-out examples rightly, fitted without them.

    The path runs from strong to weak penalties, each fit beginning where the last ended. Of penalties that name equally many the one with
    the smaller loss on the held-out examples is taken. The path ends after :data:`PATIENCE` fits in a row that name fewer than the best.

    Args:
        held_MD, held_M: features and labels of the validation split.
        path: values of c, increasing.
        how: as in :func:`fit`.

    Returns:
        The classifier, and for each c the share of held-out examples that it names rightly.
    """
    best, score, last, told = None, (-1.0, 0.0), None, []
    for c in path:
        if len(told) >= PATIENCE and all(hit < score[0] for _, hit in told[-PATIENCE:]):
            break
        last = fit(image_ND, label_N, classes, c, start=last, **how)
        logit_MK = last.logits(held_MD).double()
        hit = float((logit_MK.argmax(1) == held_M).double().mean())
        told.append((c, hit))
        if (now := (hit, -float(torch.nn.functional.cross_entropy(logit_MK, held_M)))) > score or best is None:
            best, score = last, now
    if best is None:
        raise UsageError("logistic regression", "there is no penalty to choose from", "Give a path with at least one value of c")
    return best, told


def _coordinates(image_ND: Tensor, classes: int, c: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, eigenvectors and root eigenvalues of A = cov/K + I/(cN)."""
    mean_D = image_ND.mean(0)
    centred_ND = (image_ND - mean_D).double()
    values_D, turn_DD = torch.linalg.eigh(centred_ND.T @ centred_ND / len(image_ND))
    size_D = (values_D.clamp(min=0) / classes + 1 / (c * len(image_ND))).sqrt()
    return mean_D, turn_DD.to(image_ND.dtype), size_D.to(image_ND.dtype)


def _check(image_ND: Tensor, label_N: Tensor, classes: int, c: float) -> None:
    if not len(image_ND) or len(image_ND) != len(label_N):
        raise UsageError("logistic regression", f"{len(image_ND)} examples with {len(label_N)} labels", "Give one label an example")
    if not bool(image_ND.isfinite().all()):
        raise UsageError("logistic regression", "some features are no numbers", "Check the model with `diptych inspect`")
    if not 0 <= int(label_N.min()) <= int(label_N.max()) < classes:
        why = f"they run from {int(label_N.min())} to {int(label_N.max())}, but there are {classes} classes"
        raise UsageError("labels", why, "Give class indices that start at 0")
    if not c > 0:
        raise UsageError(f"inverse penalty c={c}", "it is not above 0", "Give for example 1.0; larger fits closer")
