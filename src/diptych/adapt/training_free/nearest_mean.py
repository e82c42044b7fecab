"""Nearest class mean: a picture belongs to the class whose pictures' mean row is nearest, mixed with the words.

Paper: Snell et al., "Prototypical Networks for Few-shot Learning", arXiv:1703.05175, section 2.2 (a class is the mean of its embedded
examples); in the space of a frozen encoder with cosine similarity, as few-shot work on CLIP uses it as a baseline.
Relations: ``gda-clip`` with the identity as covariance differs only in its bias; ``tip-adapter`` keeps every example instead of means.

Shapes: S labelled pictures, K classes, D joint width, N pictures to name.

::

    mean[k] = unit(mean(image[s] for s if label[s] == k))      # the text row where a class has no picture
    logits[n, k] = scale * image[n] · ((1 - share) * text[k] + share * mean[k])
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from torch.nn import functional as F

from diptych.adapt.parts.shots import Shots, class_means
from diptych.core.card import Card
from diptych.towers.head import Head

CARD = Card(
    id="nearest-mean",
    name="Nearest class mean",
    family="adapt",
    paper="Prototypical Networks for Few-shot Learning, arXiv:1703.05175",
    where="section 2.2",
    needs=frozenset({"labels"}),
    claim="the mean of a class's examples in a good space is a strong classifier",
)
GRID = {"share": (0.25, 0.5, 0.75, 1.0)}


class Options(BaseModel):
    """Settings of :func:`nearest_mean`.

    Args:
        share: weight of the pictures' means against the words: 0 is zero-shot, 1 leaves the words out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    share: float = Field(default=0.5, ge=0.0, le=1.0)


def nearest_mean(shots: Shots, *, share: float = 0.5) -> Head:
    """The head; see the module. Differentiates nothing and draws nothing."""
    mean_KD = F.normalize(class_means(shots), dim=1).float()
    return shots.linear(shots.scale * ((1 - share) * shots.text_KD + share * mean_KD), made_by=f"nearest-mean, share {share:g}")
