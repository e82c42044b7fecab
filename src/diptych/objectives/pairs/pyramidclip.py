"""PyramidCLIP: coarse and fine views of a picture against a short and a full text, level by level and across levels.

Paper: Gao et al., "PyramidCLIP: Hierarchical Feature Alignment for Vision-language Model Pretraining", arXiv:2204.14095,
section 3 (input pyramids, peer-level semantics alignment, cross-level relation alignment, softened objective).
Code: https://github.com/Yuting-Gao/PyramidCLIP (inference only)
Relations: ``clip`` is the pair (global, full) alone without softening.

Shapes: B rows of this rank, N columns of all ranks, D embedding width.

Each picture has a global view g (the run's own augmentation; the paper crops 90–100 % of the area) and a local view l (50–100 %),
each text the caption t and a summary s. All four go through the same two towers::

    peer  = (contrast(g, s) + contrast(l, t)) / 2          # coarse with coarse, fine with fine
    cross = (contrast(g, t) + contrast(l, s)) / 2
    total = (1 - cross_weight) * peer + cross_weight * cross

    def contrast(a, b):                                    # both directions, mean over rows; c are the concepts
        for i in rows:
            P = [j for j in columns if c[j] == c[i]]       # the positives; always holds i itself
            q = {j: (1 - soften) / len(P)  if j in P else  soften / (N - len(P))}
            loss -= sum(q[j] * log softmax(scale * a[i] @ b)[j] for j in columns)

The softened objective gives unpaired samples a share ``soften`` of the target, since many of them fit the text as well. The paper
has unique pairs; equal concepts are positives here (no negatives left: nothing is softened).

Left out: the paper's third level, regions of interest from a trained detector with their category-and-attribute tags. A run here
has no detector, and a region feature would skip the image tower's first stages; so the cross-level terms join the two views and
two texts that do not stand on one level. The two defaults (``soften`` 0.1, ``cross`` 0.5) and the even weights within a level are
ours. The paper's summaries come from a trained text summariser; :func:`summary` is a rule.
"""

from __future__ import annotations

import math
import random
import re

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from diptych.core.card import Card
from diptych.core.types import Loss, Pairs, Words
from diptych.data.augment import Augment
from diptych.objectives.parts.contrast import equal, hits, info_nce, similarities
from diptych.towers.see import See

CARD = Card(
    id="pyramidclip",
    name="PyramidCLIP",
    family="objective",
    paper="PyramidCLIP: Hierarchical Feature Alignment for Vision-language Model Pretraining, arXiv:2204.14095",
    where="section 3: pyramids, peer-level and cross-level alignment, softened objective",
    code="https://github.com/Yuting-Gao/PyramidCLIP",
    claim="zero-shot ImageNet far above CLIP on the same 15 million pairs",
    published="+10.6 / +13.2 / +10.0 points for ResNet-50 / ViT-B/32 / ViT-B/16 (abstract)",
)
VIEWS = (Augment(crop_area=(0.5, 1.0), crop_ratio=(3 / 4, 4 / 3), flip=0.5),)
COLUMNS = frozenset({"local", "short"})
SUMMARY_WORDS = 8


def summary(words: Words, draw: random.Random) -> str:
    """The caption's first clause, at most eight words: a rule in place of a summariser, which leaves nothing to chance (``draw``)."""
    clause = re.split(r"[,;.!?]\s", words.caption.strip() + " ", maxsplit=1)[0]
    return " ".join(clause.split()[:SUMMARY_WORDS])


EXTRA = {"text.short": summary}


class Options(BaseModel):
    """Settings of :func:`pyramidclip`.

    Args:
        soften: share of the target spread evenly over the negatives, in [0, 1).
        cross: weight of the cross-level terms, in [0, 1]; the peer-level terms have the rest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    soften: float = Field(default=0.1, ge=0.0, lt=1.0)
    cross: float = Field(default=0.5, ge=0.0, le=1.0)


def chance(batch: int) -> float:
    """The loss of rows that tell nothing: ln(batch), whatever is softened."""
    return math.log(batch)


def pyramidclip(pairs: Pairs, *, soften: float = 0.1, cross: float = 0.5) -> Loss:
    """The loss of this rank's rows against the columns of all ranks.

    Args:
        pairs: ``image_BD`` are the global views, ``text_BD`` the full captions; taps and columns ``local`` and ``short``.
        soften, cross: see :class:`Options`.

    Returns:
        ``terms`` global_short, local_full, global_full, local_short (weighted).
    """
    same_BN = equal(pairs.concept_B, pairs.concept_N)
    images = {"global": (pairs.image_BD, pairs.image_ND), "local": (pairs.taps["local"], pairs.columns["local"])}
    texts = {"full": (pairs.text_BD, pairs.text_ND), "short": (pairs.taps["short"], pairs.columns["short"])}
    weights = {("global", "short"): 1 - cross, ("local", "full"): 1 - cross, ("global", "full"): cross, ("local", "short"): cross}
    terms: dict[str, Tensor] = {}
    for (view, text), weight in weights.items():
        (a_BD, a_ND), (b_BD, b_ND) = images[view], texts[text]
        forth, back = info_nce(a_BD, b_ND, same_BN, pairs.scale, soften), info_nce(b_BD, a_ND, same_BN, pairs.scale, soften)
        terms[f"{view}_{text}"] = weight / 4 * (forth + back)
    accuracy = hits(similarities(pairs.image_BD, pairs.text_ND), same_BN)
    return Loss(sum(terms.values(), pairs.scale.new_zeros(())), terms, {"image_accuracy": accuracy})


class Method(nn.Module):
    """Sends the local view and the summary through the towers; no heads of its own."""

    def __init__(self, model: nn.Module, options: Options) -> None:
        super().__init__()
        self.options = options

    def rows(self, see: See) -> dict[str, Tensor]:
        """Unit rows of the local view and of the summary."""
        return {"local": see.image(see.extra["view.0"], tokens=see.tokens), "short": see.text("short")}

    def forward(self, pairs: Pairs) -> Loss:
        """The loss; nothing is kept between steps."""
        return pyramidclip(pairs, **self.options.model_dump())
