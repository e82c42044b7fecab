"""Semi-supervised learning where some classes have no label: flexible thresholds, and predicted frequencies held to the known ones.

Paper: Fluss et al., "Semi-Supervised Learning in the Few-Shot Zero-Shot Scenario", arXiv:2308.14119 (the added term, as the abstracts
of its two versions tell it), on FlexMatch (Zhang et al., NeurIPS 2021, arXiv:2110.08263, curriculum pseudo labelling).
Relations: with ``entropy`` 0 it is FlexMatch; with one threshold as well it is ``fixmatch``.

Shapes: U pictures without labels of a step, N in all, K classes.

::

    known[n] = argmax(weak[n]) where max(softmax(weak[n])) >= threshold, else none           # the last time n was seen
    status[k] = count(known == k) / max(count(known == j) for all j and for none)           # none counts while it is the most: warm-up
    level[k] = threshold * status[k] / (2 - status[k])
    sure[u] = max(softmax(weak[u])) >= level[argmax(weak[u])]
    loss = labelled cross-entropy + weight * mean(sure[u] * cross_entropy(strong[u], argmax(weak[u])))
         + entropy * sum(share[k] * log(share[k] / prior[k])),  share = mean(softmax(weak[u]) for u)

The last term is the divergence between the frequencies as predicted and as known; with the uniform ``prior`` it is log K less the entropy
of the mean prediction (the first version of the paper adds just that entropy). It keeps classes without labelled pictures from dying out.
In the paper such classes have no name, and predictions are matched to them afterwards; here their words say from the start which is which.
The weight of the term is not in the abstract; 1 is taken. Settings else as ``fixmatch``.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from diptych.adapt.parts.semi import Course, consistency, need_pool, trained
from diptych.adapt.parts.shots import Shots
from diptych.core.card import Card
from diptych.towers.head import Head

CARD = Card(
    id="semi-fszs",
    name="Few-shot zero-shot semi-supervised learning",
    family="adapt",
    paper="Semi-Supervised Learning in the Few-Shot Zero-Shot Scenario, arXiv:2308.14119",
    where="the term on class frequencies",
    needs=frozenset({"labels", "unlabelled"}),
    claim="with an entropy term FlexMatch also names classes that no label shows",
    published="large gains on CIFAR-100 and STL-10, most with 1 to 25 labels a class (abstract of version 1)",
)
GRID = {"threshold": (0.7, 0.95)}


class Options(BaseModel):
    """Settings of :func:`semi_fszs`.

    Args:
        threshold: least probability of a pseudo-label of the class that is learned best.
        weight: of the pseudo-labels in the loss.
        entropy: of the frequencies' divergence in the loss; 0 is FlexMatch.
        steps: of training.
        lr: first learning rate.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    threshold: float = Field(default=0.95, ge=0.0, le=1.0)
    weight: float = Field(default=1.0, ge=0.0)
    entropy: float = Field(default=1.0, ge=0.0)
    steps: int = Field(default=500, ge=1)
    lr: float = Field(default=0.03, gt=0.0)


def semi_fszs(
    shots: Shots, *, threshold: float = 0.95, weight: float = 1.0, entropy: float = 1.0, steps: int = 500, lr: float = 0.03
) -> Head:
    """The head; see the module. Raises :class:`UsageError` where there are no pictures without labels."""
    known_N = torch.full((len(need_pool(shots, "semi-fszs")),), -1, device=shots.label_S.device)
    prior_K = torch.full_like(shots.text_KD[:, 0], 1 / len(shots.classes))

    def unlabelled(index_U: Tensor, weak_UK: Tensor, strong_UK: Tensor) -> Tensor:
        chance_U, said_U = weak_UK.detach().softmax(1).max(1)
        learned = weight * consistency(weak_UK, strong_UK, levels(known_N, len(prior_K), threshold))
        sure_U = chance_U >= threshold
        known_N[index_U[sure_U]] = said_U[sure_U]
        return learned + entropy * divergence(weak_UK, prior_K)

    weight_KD, bias_K = trained(shots, "semi-fszs", Course(steps=steps, lr=lr), unlabelled)
    made_by = f"semi-fszs, threshold {threshold:g}, weight {weight:g}, entropy {entropy:g}, {steps} steps"
    return shots.linear(weight_KD, bias_K, made_by=made_by)


def levels(known_N: Tensor, classes: int, threshold: float) -> Tensor:
    """The threshold of each class, (K,), from what the pool was surely said to be; −1 is not known yet."""
    count = torch.bincount(known_N + 1, minlength=classes + 1)
    status_K = count[1:] / count.max()
    return threshold * status_K / (2 - status_K)


def divergence(weak_UK: Tensor, prior_K: Tensor) -> Tensor:
    """Of the mean prediction from the prior, at least 0."""
    share_K = weak_UK.softmax(1).mean(0).clamp(min=1e-12)
    return (share_K * (share_K / prior_K).log()).sum()
