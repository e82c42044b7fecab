"""WAD: pictures without labels teach the head as far as they are like one class more than the next, so that unknown ones hardly count.

Paper: Du et al., "Semi-Supervised Learning via Weight-Aware Distillation under Class Distribution Mismatch", ICCV 2023, arXiv:2308.11874
(weights and pseudo-labels from point mutual information in a contrastive space, weighted distillation).
Code: https://github.com/RUC-DWBI-ML/research/tree/main/WAD-master
Relations: with ``weigh`` off every pseudo-label counts the same; ``fixmatch`` takes its labels from the head instead of the space.

Shapes: S labelled pictures, U pictures without labels, K classes, D joint width.

::

    repeat rounds times:
        like[u, k] = max(image[s] · free[u] for s if label[s] == k)                     # stands for the mutual information
        said[u] = argmax(like[u]);  weight[u] = like[u, said[u]] - the second highest of like[u]
        head = argmin(mean(cross_entropy(image[s], label[s])) + mean(weight[u] * cross_entropy(free[u], said[u])) + ridge)
        add to the labelled pictures the `share` of the pool with the lowest cross_entropy(free[u], said[u]); share falls to 0

A contrastive space's similarity is, up to a constant, the mutual information of two pictures; the published code takes the most similar
labelled picture of each class, and the margin to the next class as weight (a picture of an unknown class is about as like one class as
another). The share falls as the square of what is left of the rounds. The towers stand still here, so teacher and student see the same
rows; the student is a linear head, at the minimum of a convex loss, with ``ridge / 2`` times the squared distance from the words. Weights
are divided by their mean, so that ``trust`` says how much the pool counts beside the labels; the published code takes them as they are.
A class without labelled pictures is as like as its text row.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.convex import minimum
from diptych.adapt.parts.semi import need_pool
from diptych.adapt.parts.shots import Shots
from diptych.core.card import Card
from diptych.towers.head import Head

CARD = Card(
    id="wad",
    name="Weight-aware distillation (WAD)",
    family="adapt",
    paper="Semi-Supervised Learning via Weight-aware Distillation under Class Distribution Mismatch, arXiv:2308.11874",
    where="weights and pseudo-labels from mutual information, weighted distillation",
    code="https://github.com/RUC-DWBI-ML/research/tree/main/WAD-master",
    needs=frozenset({"labels", "unlabelled"}),
    claim="with unknown classes in the pool, weighted pseudo-labels beat unweighted ones and FixMatch-like methods",
    published="above five methods on CIFAR-10, CIFAR-100 and a cross-dataset (abstract)",
)
GRID = {"trust": (0.3, 1.0)}


class Options(BaseModel):
    """Settings of :func:`wad`.

    Args:
        weigh: by the margin; off, all pseudo-labels count the same.
        trust: weight of the pool beside the labels.
        rounds: of fitting.
        share: of the pool that is added to the labels after the first round.
        ridge: strength of the pull to the words.
        steps: most iterations of L-BFGS a round.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    weigh: bool = True
    trust: float = Field(default=1.0, ge=0.0)
    rounds: int = Field(default=3, ge=1)
    share: float = Field(default=0.2, ge=0.0, le=1.0)
    ridge: float = Field(default=1e-3, gt=0.0)
    steps: int = Field(default=100, ge=1)


def wad(
    shots: Shots, *, weigh: bool = True, trust: float = 1.0, rounds: int = 3, share: float = 0.2, ridge: float = 1e-3, steps: int = 100
) -> Head:
    """The head; see the module. Fitted in float64; deterministic. Raises :class:`UsageError` where there is no pool."""
    image_SD, label_S, free_UD = shots.image_SD.double(), shots.label_S, need_pool(shots, "wad").double()
    start_KD = shots.scale * shots.text_KD.double()
    weight_KD, bias_K = start_KD, torch.zeros_like(start_KD[:, 0])
    total = len(free_UD)
    for round_ in range(rounds):
        said_U, margin_U = told(image_SD, label_S, free_UD, shots.text_KD.double())
        count_U = margin_U / margin_U.mean().clamp(min=1e-12) if weigh else torch.ones_like(margin_U)
        pairs = ((image_SD, label_S, torch.ones_like(label_S)), (free_UD, said_U, trust * count_U))

        weight_KD, bias_K = minimum(partial(loss, pairs, start_KD, ridge), weight_KD, bias_K, steps=steps)
        taken = min(int(share * (1 - round_ / rounds) ** 2 * total), len(free_UD) - 1)
        if round_ + 1 == rounds or taken < 1:
            continue
        cost_U = F.cross_entropy(free_UD @ weight_KD.T + bias_K, said_U, reduction="none")
        sure = torch.zeros_like(cost_U, dtype=torch.bool).index_fill_(0, cost_U.topk(taken, largest=False).indices, True)
        image_SD, label_S, free_UD = torch.cat([image_SD, free_UD[sure]]), torch.cat([label_S, said_U[sure]]), free_UD[~sure]
    made_by = f"wad, {'weighed' if weigh else 'unweighed'}, trust {trust:g}, {rounds} rounds"
    return shots.linear(weight_KD.float(), bias_K.float(), made_by=made_by)


def loss(pairs: Iterable[tuple[Tensor, Tensor, Tensor]], start_KD: Tensor, ridge: float, weight_KD: Tensor, bias_K: Tensor) -> Tensor:
    """The sum over ``pairs`` of (rows, labels, how much each counts) of the mean weighted cross-entropy, and the pull to the start."""
    total = ridge / 2 * (weight_KD - start_KD).square().sum()
    for row_ND, label_N, count_N in pairs:
        total = total + (count_N * F.cross_entropy(row_ND @ weight_KD.T + bias_K, label_N, reduction="none")).mean()
    return total


def told(image_SD: Tensor, label_S: Tensor, free_UD: Tensor, text_KD: Tensor, block: int = 512) -> tuple[Tensor, Tensor]:
    """Pseudo-label and margin (U,) of each picture of the pool."""
    indices, margins = [], []
    for free_BD in free_UD.split(block):
        like_BK = torch.full((len(free_BD), len(text_KD)), -torch.inf, dtype=free_UD.dtype, device=free_UD.device)
        like_BK = like_BK.scatter_reduce(1, label_S.expand(len(free_BD), -1), free_BD @ image_SD.T, "amax")
        best = torch.where(like_BK.isinf(), free_BD @ text_KD.T, like_BK).topk(2, dim=1)
        indices.append(best.indices[:, 0])
        margins.append(best.values[:, 0] - best.values[:, 1])
    return torch.cat(indices), torch.cat(margins)
