"""Deep low-density separation: boundaries through the gaps between pictures without labels, in the space of a deep tower.

Paper: Burkhart and Shan, "Deep Low-Density Separation for Semi-Supervised Classification", arXiv:2205.11995 (its abstract: learned
embeddings, then low-density separation); the separation is the gradient transductive SVM of Chapelle and Zien, AISTATS 2005.
Relations: ``linear-probe`` looks at labelled pictures only; ``laplacian-shot`` follows a graph instead of a gap.

Shapes: S labelled pictures, U pictures without labels, K classes, D joint width.

::

    x = row - mean of the pool
    answer[k](x) = x · weight[k] + bias[k],  bias[k] = 2 * share[k] - 1        # the pool's mean answer is that of the classes' shares
    for soft in cost * 2 ** (-stages + 1 … 0):                                 # from almost no pool to all of it
        weight[k] = argmin(|weight[k]|² / 2 + C * sum(max(0, 1 - y[s, k] * answer[k](x[s])) ** 2 for s)
                                            + soft * S / U * C * sum(exp(-3 * answer[k](x[u]) ** 2) for u))
    logits = scale * row · text + alpha * answer

y is 1 for the picture's class and −1 for the others: one separation a class. The last sum is high where pictures lie near the boundary. The
share of each class is uniform, since shots are drawn evenly. What differs: Chapelle and Zien first replace distances by those along paths
through the pool, and Burkhart and Shan refine the embedding in turn; both leave a single new picture without an answer or change the
tower, so that the separation works on rows as they are. The zero-shot logits beside the answer are ours, as in ``gda-clip``.
"""

from __future__ import annotations

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
    id="deep-lds",
    name="Deep low-density separation",
    family="adapt",
    paper="Deep Low-Density Separation for Semi-Supervised Classification, arXiv:2205.11995",
    where="abstract; the separation after Chapelle and Zien, AISTATS 2005",
    needs=frozenset({"labels", "unlabelled"}),
    claim="separation by low density of deep rows classifies thousands of pictures from few labels",
    published="thousands of users from few labels, on in-house survey data only (abstract)",
)
GRID = {"alpha": (1.0, 3.0, 10.0, 30.0)}


class Options(BaseModel):
    """Settings of :func:`deep_lds`.

    Args:
        alpha: weight of the separation beside the zero-shot logits.
        strength: C, the cost of a labelled picture on the wrong side.
        cost: of the pool beside the labels; 0 is a support vector machine of the labelled pictures.
        stages: fits on the way from almost none of ``cost`` to all of it.
        steps: most iterations of L-BFGS a stage.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    alpha: float = Field(default=10.0, gt=0.0)
    strength: float = Field(default=1.0, gt=0.0)
    cost: float = Field(default=1.0, ge=0.0)
    stages: int = Field(default=6, ge=1)
    steps: int = Field(default=50, ge=1)


def deep_lds(shots: Shots, *, alpha: float = 10.0, strength: float = 1.0, cost: float = 1.0, stages: int = 6, steps: int = 50) -> Head:
    """The head; see the module. Fitted in float64; deterministic. Raises :class:`UsageError` where there is no pool."""
    pool_UD = need_pool(shots, "deep-lds").double()
    middle_D = pool_UD.mean(0)
    row_SD, free_UD = shots.image_SD.double() - middle_D, pool_UD - middle_D
    side_SK = 2 * F.one_hot(shots.label_S, len(shots.classes)).double() - 1
    bias_K = torch.full_like(shots.text_KD[:, 0].double(), 2 / len(shots.classes) - 1)
    weight_KD = torch.zeros_like(shots.text_KD, dtype=torch.float64)
    for stage in range(stages):
        soft = cost * 2.0 ** (stage + 1 - stages) * strength * len(row_SD) / len(free_UD)
        (weight_KD,) = minimum(partial(separation, row_SD, side_SK, free_UD, bias_K, strength, soft), weight_KD, steps=steps)
        if cost == 0:
            break
    whole_KD = shots.scale * shots.text_KD.double() + alpha * weight_KD
    made_by = f"deep-lds, alpha {alpha:g}, strength {strength:g}, cost {cost:g}"
    return shots.linear(whole_KD.float(), (alpha * (bias_K - weight_KD @ middle_D)).float(), made_by=made_by)


def separation(row_SD: Tensor, side_SK: Tensor, free_UD: Tensor, bias_K: Tensor, strength: float, soft: float, weight_KD: Tensor) -> Tensor:
    """What is minimised, summed over the classes."""
    own = (1 - side_SK * (row_SD @ weight_KD.T + bias_K)).clamp(min=0).square().sum()
    near = (-3 * (free_UD @ weight_KD.T + bias_K).square()).exp().sum()
    return weight_KD.square().sum() / 2 + strength * own + soft * near
