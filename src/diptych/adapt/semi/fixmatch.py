"""FixMatch on rows: what the head is sure of on a weak view of a picture without a label, it has to say of a strong view.

Paper: Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence", NeurIPS 2020, arXiv:2001.07685
(the two losses; settings as in the code).
Code: https://github.com/google-research/fixmatch
Relations: ``semi-fszs`` has a threshold for each class and minds the frequencies; ``wad`` takes labels by likeness and weighs them.

Shapes: B labelled pictures of a step, U pictures without labels of a step, K classes, D joint width.

::

    weak, strong = logits of unit(row + small noise), of unit(dropout(row) + larger noise)
    sure[u] = max(softmax(weak[u])) >= threshold
    loss = mean(cross_entropy(weak_labelled[b], label[b])) + weight * mean(sure[u] * cross_entropy(strong[u], argmax(weak[u])))

The head is linear and starts at the words, so that it has something to say from the first step. The paper's towers are trained on
changed pictures (flips, RandAugment) for 2^20 steps; here the towers stand still, a view is noise on a row, and steps are few: the running
mean of the weights keeps 0.99 a step rather than 0.999. All else is the paper's: SGD, rate 0.03, momentum 0.9, decay 0.0005 (towards the
words), threshold 0.95, seven unlabelled pictures a labelled one. No gradient goes through the labels.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from diptych.adapt.parts.semi import Course, consistency, trained
from diptych.adapt.parts.shots import Shots
from diptych.core.card import Card
from diptych.towers.head import Head

CARD = Card(
    id="fixmatch",
    name="FixMatch",
    family="adapt",
    paper="FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence, arXiv:2001.07685",
    where="the two losses",
    code="https://github.com/google-research/fixmatch",
    needs=frozenset({"labels", "unlabelled"}),
    claim="confident pseudo-labels of weak views, learned on strong views, beat the labelled pictures alone by far",
    published="CIFAR-10: 94.93% with 250 labels, 88.61% with 40 (abstract)",
)
GRID = {"threshold": (0.7, 0.95)}


class Options(BaseModel):
    """Settings of :func:`fixmatch`.

    Args:
        threshold: least probability of a pseudo-label.
        weight: of the pictures without labels in the loss.
        steps: of training.
        lr: first learning rate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    threshold: float = Field(default=0.95, ge=0.0, le=1.0)
    weight: float = Field(default=1.0, ge=0.0)
    steps: int = Field(default=500, ge=1)
    lr: float = Field(default=0.03, gt=0.0)


def fixmatch(shots: Shots, *, threshold: float = 0.95, weight: float = 1.0, steps: int = 500, lr: float = 0.03) -> Head:
    """The head; see the module. Raises :class:`UsageError` where there are no pictures without labels."""

    def unlabelled(index_U: Tensor, weak_UK: Tensor, strong_UK: Tensor) -> Tensor:
        return weight * consistency(weak_UK, strong_UK, threshold)

    weight_KD, bias_K = trained(shots, "fixmatch", Course(steps=steps, lr=lr), unlabelled)
    return shots.linear(weight_KD, bias_K, made_by=f"fixmatch, threshold {threshold:g}, weight {weight:g}, {steps} steps")
