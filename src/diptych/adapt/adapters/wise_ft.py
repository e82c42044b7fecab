"""WiSE-FT: full fine-tuning, then the weights between the parent's and the fine-tuned ones, the share chosen inside the labels.

Paper: Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv:2109.01903, section 3 (both steps).
Code: https://github.com/mlfoundations/wise-ft
Relations: ``full-ft`` is share 1, the parent share 0; ``--lose-at-most`` goes back in the same way, by what is lost and not by the labels.

Shapes: S labelled pictures, A held-out ones, P shares.

::

    child = full fine-tuning of the parent on the labels
    weight = (1 - share) * parent_weight + share * child_weight, for every weight and running statistic

    share, where it is not given:
    fit, ask = three quarters and one quarter of each class that has two pictures or more
    other = full fine-tuning on fit alone
    share = the smallest of 0.1, 0.2 … 1 that names as many pictures of ask rightly as any       # 0.5 where nothing can be held out

The paper finds 0.5 near the best without any choice, and looks at the whole curve. The smallest share of the best ones is taken, since
less of the way loses less. Between the towers of one fine-tuning and its parent the words of the classes move along, as in its section 3
for a classifier that is a part of the weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Generator, Tensor

from diptych.adapt.attach import between
from diptych.adapt.parts.supervised import fine_tuned
from diptych.adapt.parts.work import Tuned, Work
from diptych.core.card import Card
from diptych.towers.dual import DualEncoder

CARD = Card(
    id="wise-ft",
    name="WiSE-FT",
    family="adapt",
    paper="Robust fine-tuning of zero-shot models, arXiv:2109.01903",
    where="section 3",
    code="https://github.com/mlfoundations/wise-ft",
    needs=frozenset({"labels", "towers"}),
    claim="between parent and fine-tuned weights: as right where it was trained, more right under shift",
    published="ImageNet fine-tuned ViT-L/14@336: 4 to 6 points more under five shifts, 1.6 more on ImageNet itself (abstract)",
)
GRID: dict[str, tuple[object, ...]] = {}
SHARES = tuple(step / 10 for step in range(1, 11))
HELD = 0.25  # of each class, to choose the share by


class Options(BaseModel):
    """Settings of :func:`wise_ft`.

    Args:
        share: of the way from the parent to the fine-tuned weights; None chooses it inside the labels.
        towers: which ones are trained, with their projections.
        steps: of the optimiser, rounded up to whole passes over the labelled pictures.
        lr: first learning rate.
        batch: pictures in a step.
        decay: AdamW's weight decay.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    share: float | None = Field(default=None, ge=0.0, le=1.0)
    towers: Literal["both", "image", "text"] = "both"
    steps: int = Field(default=200, ge=1)
    lr: float = Field(default=1e-4, gt=0.0)
    batch: int = Field(default=32, ge=1)
    decay: float = Field(default=0.1, ge=0.0)


def wise_ft(
    work: Work,
    *,
    share: float | None = None,
    towers: Literal["both", "image", "text"] = "both",
    steps: int = 200,
    lr: float = 1e-4,
    batch: int = 32,
    decay: float = 0.1,
) -> Tuned:
    """The model between; see the module. Raises :class:`UsageError` where the model has no tokenizer."""
    if share is None:
        fit, ask = held_out(work.shots.label_S, work.shots.draw)
        share = 0.5
        if len(ask):
            other = fine_tuned(work.take(fit), towers, steps=steps, lr=lr, batch=batch, decay=decay).model
            share = chosen([float(hits(work, between(work.model, other, one), ask).sum()) for one in SHARES])
    tuned = fine_tuned(work, towers, steps=steps, lr=lr, batch=batch, decay=decay)
    return replace(tuned, model=between(work.model, tuned.model, share))


def held_out(label_S: Tensor, draw: Generator) -> tuple[Tensor, Tensor]:
    """``(fit, ask)`` indices: a quarter, at least one, of each class that has two pictures or more is asked; the rest is fitted on."""
    asked = torch.zeros(len(label_S), dtype=torch.bool)
    for label in label_S.unique().tolist():
        member = (label_S == label).nonzero()[:, 0]
        count = 0 if len(member) < 2 else max(1, round(HELD * len(member)))
        asked[member[torch.randperm(len(member), generator=draw)[:count]]] = True
    return (~asked).nonzero()[:, 0], asked.nonzero()[:, 0]


def hits(work: Work, model: DualEncoder, index_A: Tensor) -> Tensor:
    """1.0 where a labelled picture is named rightly by the words of the classes (A,)."""
    image_AD = torch.cat([model.encode_image(work.pictures(part)) for part in index_A.split(256)])
    chances_AK = model.classifier(work.shots.classes, work.shots.templates).probabilities(image_AD)
    return (chances_AK.argmax(1) == work.shots.label_S[index_A]).float()


def chosen(hits_P: list[float]) -> float:
    """The smallest of :data:`SHARES` with the most hits."""
    return SHARES[hits_P.index(max(hits_P))]
