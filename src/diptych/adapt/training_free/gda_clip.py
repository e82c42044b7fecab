"""GDA for CLIP: Gaussian classes with one shared covariance give a linear classifier in closed form, added to the zero-shot logits.

Paper: Wang et al., "A Hard-to-Beat Baseline for Training-free CLIP-Based Adaptation", ICLR 2024, arXiv:2402.04087 (discriminant
analysis, the ridge-like precision of Kubokawa and Srivastava, and the ensemble with zero-shot logits) and its two extensions: classes
without pictures from neighbours, pictures without labels by expectation maximisation.
Code: https://github.com/mrflogs/ICLR24
Relations: ``nearest-mean`` has no covariance; a linear probe fits the same form by gradient descent.

Shapes: S labelled pictures, U pictures without labels, K classes, D joint width, N pictures to name.

::

    mean[k] = mean(image[s] for s if label[s] == k)
    cov = sum(outer(image[s] - mean[label[s]], …) for s) / (S - 1)
    precision = D * inverse((S - 1) * cov + trace(cov) * identity)
    weight[k] = precision @ mean[k]
    bias[k] = log(prior[k]) - mean[k] · precision @ mean[k] / 2
    logits[n, k] = scale * image[n] · text[k] + alpha * (image[n] · weight[k] + bias[k])

    mean[k] = mean(the neighbours of text[k] among image, and 16 times text[k])          # a class without labelled pictures
    repeat rounds times:                                                                 # with pictures without labels
        share[u, k] = softmax(logits[u])[k]                                              # a labelled picture has its label
        mean[k], cov = the same with every picture counted as much as its share

Uneven classes: the paper's prior is uniform, which does not favour a class for having more pictures; ``prior="labels"`` takes the labels'
shares, for pictures that come as unevenly as the labels do. ``covariance="classes"`` is the mean of the classes' own covariances,
so that a class with many pictures does not decide it; the published code takes that form for base classes, beside new ones.

What the paper leaves open: base and new classes are answered apart there, the new ones with a precision of their own; here one head answers
all, so all share the precision of the pictures. The 16 copies of the text and 64 neighbours are the published code's, which also sees ten
random crops of each picture. The first shares come from the labelled
head, which without any label is zero-shot. Where the covariance is 0 (every picture is its class's only one) the identity takes its
place, which is nearest mean.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from diptych.adapt.parts.shots import Shots
from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.towers.head import Head

CARD = Card(
    id="gda-clip",
    name="GDA for CLIP",
    family="adapt",
    paper="A Hard-to-Beat Baseline for Training-free CLIP-Based Adaptation, arXiv:2402.04087",
    where="discriminant analysis, its ensemble and its two extensions",
    code="https://github.com/mrflogs/ICLR24",
    needs=frozenset({"labels", "pool-instead"}),
    claim="matches or surpasses trained methods on 17 sets: few-shot, imbalanced, out of distribution",
    published="16 shots, mean of 11 sets, ResNet-50: 76.05, Tip-Adapter 70.32 and 75.84 with tuned keys (means of the two codes' logs)",
)
GRID = {"alpha": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)}
ROUNDS = 5  # of expectation maximisation where there is no label
TEXTS = 16  # how often a class's text row is counted among its neighbours


class Options(BaseModel):
    """Settings of :func:`gda_clip`.

    Args:
        alpha: weight of the Gaussian logits beside the zero-shot ones; None is 0.1 where labels are given and 1 where none is.
        prior: of the classes: ``"uniform"``, or the shares of the ``"labels"``.
        covariance: every one of the ``"pictures"`` counts the same, or every one of the ``"classes"``.
        neighbours: labelled pictures that stand in for a class without any; 0 leaves it its text row alone.
        rounds: of expectation maximisation over the pictures without labels; 0 does not look at them, None is 0 where labels are given and
            5 where none is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    alpha: float | None = Field(default=None, gt=0.0)
    prior: Literal["uniform", "labels"] = "uniform"
    covariance: Literal["pictures", "classes"] = "pictures"
    neighbours: int = Field(default=64, ge=0)
    rounds: int | None = Field(default=None, ge=0)


def gda_clip(
    shots: Shots,
    *,
    alpha: float | None = None,
    prior: Literal["uniform", "labels"] = "uniform",
    covariance: Literal["pictures", "classes"] = "pictures",
    neighbours: int = 64,
    rounds: int | None = None,
) -> Head:
    """The head; see the module. Computed in float64. Raises :class:`UsageError` where ``rounds`` have no pictures without labels."""
    pool_UD = shots.pool_UD.double()
    labels = len(shots.label_S) > 0
    alpha = (0.1 if labels else 1.0) if alpha is None else alpha
    rounds = (0 if labels else ROUNDS) if rounds is None else rounds
    if rounds and not len(pool_UD):
        raise UsageError("gda-clip with rounds", "no pictures without labels were given", "Give some, or leave rounds at 0")
    count_K, zero_KD = shots.count_K().double(), shots.scale * shots.text_KD.double()
    share_K = count_K.clamp(min=0.5) / count_K.clamp(min=0.5).sum() if prior == "labels" else torch.full_like(count_K, 1 / len(count_K))
    share_UK = pool_UD.new_zeros(len(pool_UD), len(count_K))
    for round_ in range(rounds + 1):
        mean_KD = means(shots, share_UK if round_ else None, neighbours)
        precision_DD = shrunk(*spread(shots, mean_KD, share_UK if round_ else None, covariance))
        gauss_KD = mean_KD @ precision_DD
        weight_KD, bias_K = zero_KD + alpha * gauss_KD, alpha * (share_K.log() - (gauss_KD * mean_KD).sum(1) / 2)
        if round_ < rounds:
            share_UK = torch.addmm(bias_K, pool_UD, weight_KD.T).softmax(1)
    made_by = f"gda-clip, alpha {alpha:g}, {prior} prior" + (f", {rounds} rounds" if rounds else "")
    return shots.linear(weight_KD.float(), bias_K.float(), made_by)


def means(shots: Shots, share_UK: Tensor | None, neighbours: int) -> Tensor:
    """Mean of each class (K, D), float64; a class that no picture belongs to gets its text row and its neighbours."""
    image_SD, text_KD = shots.image_SD.double(), shots.text_KD.double()
    count_K, sum_KD = shots.count_K().double(), torch.zeros_like(text_KD).index_add_(0, shots.label_S, image_SD)
    if share_UK is not None:
        count_K, sum_KD = count_K + share_UK.sum(0), sum_KD + share_UK.T @ shots.pool_UD.double()
    mean_KD = sum_KD / count_K.clamp(min=torch.finfo(count_K.dtype).tiny)[:, None]
    empty_K = count_K == 0
    if bool(empty_K.any()):
        text_ED, taken = text_KD[empty_K], min(neighbours, len(image_SD))
        near_EM = (text_ED @ image_SD.T).topk(taken, dim=1).indices
        mean_KD[empty_K] = (image_SD[near_EM].sum(1) + TEXTS * text_ED) / (taken + TEXTS)
    return mean_KD


def spread(shots: Shots, mean_KD: Tensor, share_UK: Tensor | None, covariance: str) -> tuple[Tensor, int]:
    """Covariance (D, D) of all pictures around their classes' means, float64, and how many pictures it is of."""
    total, count_K = len(shots.label_S), shots.count_K().double()
    if share_UK is not None:
        total, count_K = total + len(share_UK), count_K + share_UK.sum(0)
    each_K = torch.full_like(count_K, 1 / max(total - 1, 1))
    if covariance == "classes":
        each_K = torch.where(count_K > 0, 1 / (count_K * (count_K > 0).sum()), 0.0)
    away_SD = shots.image_SD.double() - mean_KD[shots.label_S]
    cov_DD = away_SD.T @ (away_SD * each_K[shots.label_S, None])
    if share_UK is not None:
        part_UK, pool_UD = share_UK * each_K, shots.pool_UD.double()
        cross_DD = pool_UD.T @ (part_UK @ mean_KD)
        cov_DD = cov_DD + pool_UD.T @ (pool_UD * part_UK.sum(1, keepdim=True)) - cross_DD - cross_DD.T
        cov_DD = cov_DD + mean_KD.T @ (mean_KD * part_UK.sum(0)[:, None])
    return cov_DD, total


def precision(centred_SD: Tensor) -> Tensor:
    """The shrunk inverse covariance (D, D) of rows around their class means, float64."""
    return shrunk(centred_SD.T @ centred_SD / max(len(centred_SD) - 1, 1), len(centred_SD))


def shrunk(cov_DD: Tensor, count: int) -> Tensor:
    """The inverse of a covariance of ``count`` pictures, drawn towards a ball; the identity where it is 0."""
    identity_DD, trace = torch.eye(len(cov_DD), dtype=cov_DD.dtype, device=cov_DD.device), cov_DD.trace()
    if float(trace) == 0:
        return identity_DD
    return len(cov_DD) * torch.linalg.inv(max(count - 1, 1) * cov_DD + trace * identity_DD)
