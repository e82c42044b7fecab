"""GDA for CLIP: Gaussian classes with one shared covariance give a linear classifier in closed form, added to the zero-shot logits.

Paper: Wang et al., "A Hard-to-Beat Baseline for Training-free CLIP-Based Adaptation", ICLR 2024, arXiv:2402.04087, section 3.2
(discriminant analysis, the ridge-like precision of Kubokawa and Srivastava, and the ensemble with zero-shot logits).
Code: https://github.com/mrflogs/ICLR24
Relations: ``nearest-mean`` has no covariance; a linear probe fits the same form by gradient descent.

Shapes: S labelled pictures, K classes, D joint width, N pictures to name.

::

    mean[k] = mean(image[s] for s if label[s] == k)
    cov = sum(outer(image[s] - mean[label[s]], …) for s) / (S - 1)
    precision = D * inverse((S - 1) * cov + trace(cov) * identity)
    weight[k] = precision @ mean[k]
    bias[k] = log(prior[k]) - mean[k] · precision @ mean[k] / 2
    logits[n, k] = scale * image[n] · text[k] + alpha * (image[n] · weight[k] + bias[k])

The paper's prior is uniform; ``prior="labels"`` takes the labels' shares, for pictures that come as unevenly as the labels do. A class
without labelled pictures keeps its text row as mean. Where every picture is its class's only one, cov is 0 and so is its trace: the
identity takes its place, which is nearest mean.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from diptych.adapt.parts.shots import Shots, class_means
from diptych.core.card import Card
from diptych.towers.head import Head

CARD = Card(
    id="gda-clip",
    name="GDA for CLIP",
    family="adapt",
    paper="A Hard-to-Beat Baseline for Training-free CLIP-Based Adaptation, arXiv:2402.04087",
    where="section 3.2",
    code="https://github.com/mrflogs/ICLR24",
    needs=frozenset({"labels"}),
    claim="matches or surpasses trained methods on 17 sets: few-shot, imbalanced, out of distribution",
    published="76.05 mean accuracy over 11 sets at 16 shots against 75.65 of Tip-Adapter-F (table 1, ResNet-50 features)",
)
GRID = {"alpha": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)}


class Options(BaseModel):
    """Settings of :func:`gda_clip`.

    Args:
        alpha: weight of the Gaussian logits beside the zero-shot ones.
        prior: of the classes: ``"uniform"``, or the shares of the ``"labels"``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    alpha: float = Field(default=0.1, gt=0.0)
    prior: Literal["uniform", "labels"] = "uniform"


def gda_clip(shots: Shots, *, alpha: float = 0.1, prior: Literal["uniform", "labels"] = "uniform") -> Head:
    """The head; see the module. Computed in float64."""
    mean_KD = class_means(shots)
    precision_DD = precision(shots.image_SD.double() - mean_KD[shots.label_S])
    weight_KD = mean_KD @ precision_DD
    count_K = shots.count_K().double()
    share_K = count_K.clamp(min=0.5) / count_K.clamp(min=0.5).sum() if prior == "labels" else torch.full_like(count_K, 1 / len(count_K))
    bias_K = share_K.log() - (weight_KD * mean_KD).sum(1) / 2
    made_by = f"gda-clip, alpha {alpha:g}, {prior} prior"
    return shots.linear(shots.scale * shots.text_KD + alpha * weight_KD.float(), (alpha * bias_K).float(), made_by)


def precision(centred_SD: Tensor) -> Tensor:
    """The shrunk inverse covariance (D, D) of rows around their class means, float64."""
    count, width = centred_SD.shape
    scatter_DD = centred_SD.T @ centred_SD
    trace = scatter_DD.diagonal().sum() / max(count - 1, 1)
    identity_DD = torch.eye(width, dtype=torch.float64)
    if float(trace) == 0:
        return identity_DD
    return width * torch.linalg.inv(scatter_DD + trace * identity_DD)
