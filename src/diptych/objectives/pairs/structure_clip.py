"""Structure-CLIP: captions whose things or attributes have changed places are negatives of the picture, by a margin.

Paper: Huang et al., "Structure-CLIP: Towards Scene Graph Knowledge to Enhance Multi-modal Structured Representations", arXiv:2305.06152,
section 3: semantic negative sampling, and the hinge loss beside the contrastive one; margin 0.2 there.
Code: https://github.com/zjukg/Structure-CLIP
Relations: with weight 0 it is ``clip``; ``hq-clip`` takes its negatives by softmax and from descriptions.

Shapes: B rows of this rank, D embedding width.

With images u, captions v and their swapped captions n::

    for i in rows:
        if swapped caption i exists:
            hinge += max(0, margin - u[i] @ v[i] + u[i] @ n[i])
    loss = clip(u, v) + weight * hinge / B

A swapped caption is ``meta["swapped"]``, else one that exchanges two things of the caption's scene graph or their attributes; the graph is
built by rules (``parts/phrases.py``). A caption that holds nothing to exchange has no hinge.

Not here: the knowledge-enhanced encoder, which adds an encoding of the graph's triples to the text row. A text is then no longer a string
alone, at inference too, so it is a text tower of its own rather than an objective.
"""

from __future__ import annotations

import random

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.card import Card
from diptych.core.types import Loss, Pairs, Words
from diptych.objectives.parts.clip_loss import clip
from diptych.objectives.parts.phrases import exchanges
from diptych.towers.see import See

CARD = Card(
    id="structure-clip",
    name="Structure-CLIP",
    family="objective",
    paper="Structure-CLIP: Towards Scene Graph Knowledge to Enhance Multi-modal Structured Representations, arXiv:2305.06152",
    where="section 3, semantic negative sampling and the hinge loss",
    code="https://github.com/zjukg/Structure-CLIP",
    claim="far ahead on captions with exchanged attributes and relations, while retrieval on MSCOCO holds",
    published="VG-Attribution +12.5 points, VG-Relation +4.1 over the best multi-modal model (abstract)",
)


def _choices(words: Words) -> list[str]:
    """The swapped captions of a sample; metadata comes first."""
    given = words.meta.get("swapped")
    if given:
        return [given] if isinstance(given, str) else list(given)
    return exchanges(words.caption)


def swapped(words: Words, draw: random.Random) -> str:
    """One of the swapped captions, or "" where there is none."""
    choices = _choices(words)
    return draw.choice(choices) if choices else ""


def has_swap(words: Words, draw: random.Random) -> list[float]:
    """1 where a swapped caption exists."""
    return [float(bool(_choices(words)))]


EXTRA = {"text.swapped": swapped, "has_swap": has_swap}


class Options(BaseModel):
    """Settings of :func:`structure_clip`.

    Args:
        margin: by how much the cosine with the caption must exceed the one with its swapped caption.
        weight: of the hinge; 5 in the authors' code, whose other term is made of bare cosines too. Here the contrast multiplies them by
            the scale, so a larger weight is nearer to theirs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    margin: float = Field(default=0.2, ge=0.0, le=2.0)
    weight: float = Field(default=5.0, ge=0.0)


def chance(batch: int) -> float | None:
    """None: how many captions can be swapped depends on the data, and the hinge on the settings."""
    return None


def structure_clip(pairs: Pairs, *, margin: float = 0.2, weight: float = 5.0) -> Loss:
    """The loss of this rank's rows against the columns of all ranks.

    Args:
        pairs: unit rows; ``taps`` swapped (B, D) unit rows and has_swap (B, 1), 1 or 0.
        margin, weight: see :class:`Options`.

    Returns:
        ``terms`` image_to_text, text_to_image and hinge (weighted); ``report`` the accuracy against swapped captions, where there are
        any, and what ``clip`` reports.
    """
    contrast = clip(pairs)
    wide = contrast.total.dtype
    image_BD, there_B = pairs.image_BD.to(wide), pairs.taps["has_swap"][:, 0].to(wide)
    ahead_B = (image_BD * (pairs.text_BD.to(wide) - pairs.taps["swapped"].to(wide))).sum(1)
    hinge = weight * (F.relu(margin - ahead_B) * there_B).mean()
    right = ((ahead_B > 0).to(wide) * there_B).sum() / there_B.sum().clamp_min(1.0)
    return Loss(contrast.total + hinge, {**contrast.terms, "hinge": hinge}, {**contrast.report, "swapped_accuracy": right.detach()})


class Method(nn.Module):
    """Encodes the swapped captions."""

    def __init__(self, model: nn.Module, options: Options) -> None:
        super().__init__()
        self.options = options

    def rows(self, see: See) -> dict[str, Tensor]:
        """Unit rows of the swapped captions and whether there are any."""
        return {"swapped": see.text("swapped"), "has_swap": see.extra["has_swap"]}

    def forward(self, pairs: Pairs) -> Loss:
        """:func:`structure_clip` with the run's options."""
        return structure_clip(pairs, **self.options.model_dump())
