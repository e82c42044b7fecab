"""k nearest neighbours: the labelled pictures most like a picture vote for their classes; the votes are added to the zero-shot logits.

Paper: Wu et al., "Unsupervised Feature Learning via Non-parametric Instance Discrimination", CVPR 2018, arXiv:1805.01978, section 3.4 (the
weights of the votes; k = 200 and temperature 0.07 there). Adding the words is Tip-Adapter's (arXiv:2207.09519).
Code: https://github.com/zhirongw/lemniscate.pytorch
Relations: with ``k=None`` every labelled picture votes, which is ``tip-adapter`` with beta = 1 / temperature.

Shapes: S labelled pictures, K classes, D joint width, N pictures to name, k neighbours.

::

    near[n] = the k labelled pictures s with the greatest image[n] · key[s]
    vote[n, s] = exp((image[n] · key[s] - 1) / temperature)
    logits[n, c] = words * scale * image[n] · text[c] + alpha * sum(vote[n, s] for s in near[n] if label[s] == c)

The paper's votes are exp(cosine / temperature): the constant factor exp(-1 / temperature) changes no order among them, and lets alpha mean
the same at every temperature: what a picture that is just the same has to say. ``words=0`` is the paper's classifier. With all pictures
voting the answer is a cache head; with k of them it is a rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from diptych.adapt.parts.shots import Shots
from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.towers.head import Head, HeadConfig
from diptych.towers.rule import Answer, Rule, RuleConfig

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder

CARD = Card(
    id="knn",
    name="k nearest neighbours",
    family="adapt",
    paper="Unsupervised Feature Learning via Non-parametric Instance Discrimination, arXiv:1805.01978",
    where="section 3.4",
    code="https://github.com/zhirongw/lemniscate.pytorch",
    needs=frozenset({"labels"}),
    claim="nearest neighbours in a good space need no training and come near a linear classifier",
    published="ImageNet top-1 46.8 with 128 numbers a picture (the code's README, ResNet-50, no labels in its training)",
)
GRID = {"k": (1, 4, 16, None), "temperature": (0.1, 0.3, 1.0), "alpha": (1.0, 3.0, 10.0)}


class Options(BaseModel):
    """Settings of :func:`knn`.

    Args:
        k: how many labelled pictures vote; None lets all of them.
        temperature: of the votes; a low one leaves the word to the nearest.
        alpha: weight of the votes.
        words: weight of the zero-shot logits beside them; 0 leaves the words out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    k: int | None = Field(default=16, ge=1)
    temperature: float = Field(default=0.2, ge=0.02)
    alpha: float = Field(default=3.0, gt=0.0)
    words: float = Field(default=1.0, ge=0.0)


def knn(shots: Shots, *, k: int | None = 16, temperature: float = 0.2, alpha: float = 3.0, words: float = 1.0) -> Head | Rule:
    """The cache head of all labelled pictures, or the rule with k of them; see the module.

    Raises:
        UsageError: there are no labelled pictures.
    """
    if not len(shots.label_S):
        raise UsageError("knn", "there are no labelled pictures", "Give some, or take a method that needs words only")
    weight_KD = words * shots.scale * shots.text_KD
    if k is None:
        made_by = f"knn, all, temperature {temperature:g}, alpha {alpha:g}"
        count = len(shots.label_S)
        config = HeadConfig(kind="cache", classes=shots.classes, width=shots.width, cached=count, beta=1 / temperature, made_by=made_by)
        return Head.of(config, weight=weight_KD, key=shots.image_SD, value=alpha * shots.onehot_SK())
    options = {"k": k, "temperature": temperature, "alpha": alpha}
    config = RuleConfig(method=CARD.id, classes=shots.classes, options=options, reads="rows")
    return Rule.of(config, weight=weight_KD, key=shots.image_SD, label=shots.label_S.float())


def answer(model: DualEncoder, labels: tuple[str, ...], numbers: dict[str, Tensor], **options: Any) -> Answer:
    """Votes of the k nearest and the words; see the module."""
    weight_KD, key_SD, label_S = numbers["weight"], numbers["key"], numbers["label"].long()

    def logits(image_BD: Tensor) -> Tensor:
        x_BD = image_BD.to(key_SD)
        near = (x_BD @ key_SD.T).topk(min(options["k"], len(key_SD)), dim=1)
        vote_Bk = options["alpha"] * ((near.values - 1) / options["temperature"]).exp()
        return (x_BD @ weight_KD.T).scatter_add(1, label_S[near.indices], vote_Bk)

    return Answer(logits)
