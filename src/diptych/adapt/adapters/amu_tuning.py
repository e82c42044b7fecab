"""AMU-Tuning: another encoder's rows of the same pictures give a bias to the zero-shot logits, the more the less sure those are.

Paper: Tang et al., "AMU-Tuning: Effective Logit Bias for CLIP-based Few-shot Learning", CVPR 2024, arXiv:2404.08958 (auxiliary
features, feature-initialised linear classifier with multi-branch training, uncertainty fusion).
Code: https://github.com/TJU-sjyj/AMU-Tuning
Relations: ``tip-adapter`` takes its bias from the model's own rows; a linear probe has no second encoder.

Shapes: S labelled pictures, B of a step, K classes, D joint width, A width of the auxiliary rows.

::

    weight[k] = K / S * sum(aux[s] for s if label[s] == k)                       # the start: class means where classes are even
    zero[s] = scale * image[s] · text
    bias[s] = standardised(aux[s] @ weight.T)                                    # mean 0 and deviation 1 over the classes
    doubt[s] = (kurtosis(softmax(zero[s])) / 250) ** -power                      # or 1, or exp(power * entropy / log K)
    logits[s] = zero[s] + alpha * doubt[s] * bias[s]
    loss = merge * cross_entropy(logits, label) + (1 - merge) * cross_entropy(bias, label)
    AdamW on weight alone, learning rate falling along a cosine

A sharp answer has a high kurtosis (its fourth standardised moment over the classes, at most about K), so little is added to it. ``aux``
names any model that ``diptych.load`` takes; its image tower reads the labelled pictures once at fitting, and each new picture. The paper
takes MoCo v3 (ResNet-50). Pictures come at the size of the model that is adapted and are scaled to the auxiliary one's. The paper trains on
changed pictures, which would be encoded anew in every epoch; here rows are encoded once. The code's example (ImageNet, 16 shots) has alpha
0.5, ``merge`` 0.35, 50 epochs of batches of 8 at 1e-3 and, as its default, no doubt; its defaults are ``merge`` 1 and power 0.4. It keeps
the epoch that is best on the test pictures; here it is the last one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.train import fit
from diptych.adapt.parts.work import Work
from diptych.core.card import Card
from diptych.towers.encode import evaluating
from diptych.towers.rule import Answer, Rule, RuleConfig

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder

CARD = Card(
    id="amu-tuning",
    name="AMU-Tuning",
    family="adapt",
    paper="AMU-Tuning: Effective Logit Bias for CLIP-based Few-shot Learning, arXiv:2404.08958",
    where="auxiliary features, multi-branch training and uncertainty fusion",
    code="https://github.com/TJU-sjyj/AMU-Tuning",
    needs=frozenset({"labels", "towers"}),
    claim="auxiliary features, multi-branch training and fusion by uncertainty beat other biases of few-shot CLIP",
    published="ImageNet 16 shots 70.02 with MoCo v3's ResNet-50 beside CLIP (the code's README)",
)
GRID = {"alpha": (0.3, 1.0, 3.0)}
Doubt = Literal["kurtosis", "entropy", "none"]


class Options(BaseModel):
    """Settings of :func:`amu_tuning`.

    Args:
        aux: the auxiliary model, by name or folder.
        alpha: weight of the bias.
        doubt: how unsure the zero-shot answer is: by its ``"kurtosis"`` or ``"entropy"``; ``"none"`` adds the bias alike everywhere.
        power: of the doubt.
        merge: share of the joint answer's loss; the rest is the bias's own.
        epochs: of training; 0 keeps the start.
        lr: first learning rate of AdamW.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    aux: str = "pocket"
    alpha: float = Field(default=1.0, gt=0.0)
    doubt: Doubt = "kurtosis"
    power: float = Field(default=0.4, ge=0.0)
    merge: float = Field(default=1.0, ge=0.0, le=1.0)
    epochs: int = Field(default=50, ge=0)
    lr: float = Field(default=1e-3, gt=0.0)


def amu_tuning(
    work: Work,
    *,
    aux: str = "pocket",
    alpha: float = 1.0,
    doubt: Doubt = "kurtosis",
    power: float = 0.4,
    merge: float = 1.0,
    epochs: int = 50,
    lr: float = 1e-3,
) -> Rule:
    """The rule; see the module. Raises what ``diptych.load`` raises where ``aux`` is no model."""
    shots = work.shots
    other = loaded(aux)
    parts = torch.arange(len(shots.label_S)).split(64)
    aux_SA = torch.cat([aux_rows(other, work.pictures(part)) for part in parts])
    zero_SK = shots.scale * shots.image_SD @ shots.text_KD.T
    weight_KA = started(aux_SA, shots.label_S, len(shots.classes)).requires_grad_()

    def loss(index_B: Tensor) -> Tensor:
        zero_BK, own_B = zero_SK[index_B], shots.label_S[index_B]
        bias_BK = standardised(aux_SA[index_B] @ weight_KA.T)
        joint = F.cross_entropy(zero_BK + alpha * doubts(zero_BK, doubt, power) * bias_BK, own_B)
        return merge * joint + (1 - merge) * F.cross_entropy(bias_BK, own_B)

    if epochs:
        optimizer: Any = torch.optim.AdamW
        fit([weight_KA], loss, len(aux_SA), shots.draw, epochs=epochs, lr=lr, batch=256, optimizer=optimizer, weight_decay=0.01, eps=1e-4)
    options = {"aux": aux, "alpha": alpha, "doubt": doubt, "power": power}
    config = RuleConfig(method=CARD.id, classes=shots.classes, options=options, reads="pixels")
    return Rule.of(config, words=shots.scale * shots.text_KD, weight=weight_KA)


def answer(model: DualEncoder, labels: tuple[str, ...], numbers: dict[str, Tensor], **options: Any) -> Answer:
    """Zero-shot logits and the bias of the auxiliary rows; see the module."""
    other = loaded(options["aux"])

    def logits(image_BCHW: Tensor) -> Tensor:
        with evaluating(model):
            zero_BK = model.image_features(image_BCHW).to(numbers["words"]) @ numbers["words"].T
        bias_BK = standardised(aux_rows(other, image_BCHW).to(numbers["weight"]) @ numbers["weight"].T)
        return zero_BK + options["alpha"] * doubts(zero_BK, options["doubt"], options["power"]) * bias_BK

    return Answer(logits)


def loaded(name: str) -> DualEncoder:
    """The auxiliary model."""
    from diptych.towers.formats.load import load

    return load(name)


def aux_rows(other: DualEncoder, image_BCHW: Tensor) -> Tensor:
    """Unit rows (B, A) of uint8 pictures of any one size."""
    size = other.config.preprocess.size
    with evaluating(other):
        if tuple(image_BCHW.shape[-2:]) != tuple(size):
            large = F.interpolate(image_BCHW.float(), size=tuple(size), mode="bicubic", antialias=True, align_corners=False)
            image_BCHW = large.round().clamp(0, 255).to(torch.uint8)
        return other.image_features(image_BCHW.to(next(other.parameters()).device)).float().to(image_BCHW.device)


def started(aux_SA: Tensor, label_S: Tensor, classes: int) -> Tensor:
    """The first classifier (K, A): sums of each class's rows over the mean number of pictures of a class."""
    return torch.zeros(classes, aux_SA.shape[1]).to(aux_SA).index_add_(0, label_S, aux_SA) * classes / len(label_S)


def standardised(logits_BK: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over the classes; 0 where all are equal."""
    away_BK = logits_BK - logits_BK.mean(1, keepdim=True)
    return away_BK / away_BK.square().sum(1, keepdim=True).div(logits_BK.shape[1] - 1).sqrt().clamp(min=1e-12)


def doubts(zero_BK: Tensor, doubt: str, power: float) -> Tensor:
    """How much of the bias each answer takes, (B, 1)."""
    chance_BK, classes = zero_BK.softmax(1), zero_BK.shape[1]
    if doubt == "none":
        return torch.ones_like(chance_BK[:, :1])
    if doubt == "entropy":
        return (power * torch.special.entr(chance_BK).sum(1, keepdim=True) / torch.tensor(float(classes)).log()).exp()
    return (standardised(chance_BK).pow(4).mean(1, keepdim=True).clamp(min=1e-6) / 250) ** -power
