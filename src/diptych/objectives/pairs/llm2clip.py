"""LLM2CLIP, first stage: two captions of one picture find each other among the captions of other pictures. No picture is seen.

Paper: Huang et al., "LLM2CLIP: Powerful Language Model Unlocks Richer Visual Representation", arXiv:2411.04997, on caption-to-caption
contrastive fine-tuning; the loss is supervised SimCSE (Gao et al., arXiv:2104.08821, section 4) without its hard negatives.
Code: https://github.com/microsoft/LLM2CLIP
Relations: the same softmax contrast as ``clip``, between texts. The second stage needs no objective of its own: the tuned encoder stays
frozen behind a small trained adapter, and the image tower learns from it by ``clip`` (``recipes/llm2clip.py``).

Shapes: B rows of this rank, N columns of all ranks, D embedding width.

With captions u, other captions v of the same pictures, a fixed scale s and concepts c::

    for i in rows:
        P = [j for j in columns if c[j] == c[i]]
        forth[i] = -sum(log(exp(s * u[i] @ v[j]) / sum(exp(s * u[i] @ v[k]) for k in columns)) for j in P) / len(P)
        back[i]  = the same with u and v exchanged
    loss = (mean(forth) + mean(back)) / 2

The published code contrasts query with positive and draws which of the two captions is the query; the mean of both directions is what that
draw is on average. Its scale is 50.
"""

from __future__ import annotations

import math
import random

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from diptych.core.card import Card
from diptych.core.types import Loss, Pairs, Words
from diptych.objectives.parts.contrast import cross_entropy, equal, hits, similarities, targets
from diptych.towers.see import See

CARD = Card(
    id="llm2clip",
    name="LLM2CLIP",
    family="objective",
    paper="LLM2CLIP: Powerful Language Model Unlocks Richer Visual Representation, arXiv:2411.04997",
    where="caption-to-caption contrastive fine-tuning, the first of its two stages",
    code="https://github.com/microsoft/LLM2CLIP",
    claim="a language model tuned on captions and then frozen makes a better text side, above all for long captions",
    published="substantial gains over CLIP, EVA02 and SigLIP2 in zero-shot and cross-lingual retrieval (abstract); no single figure",
)
USES = frozenset({"text"})
COLUMNS = frozenset({"other"})


def other(words: Words, draw: random.Random) -> str:
    """Another caption of the sample; the same one where it has no other, which then only serves as a negative of other samples."""
    others = [caption for caption in words.captions if caption != words.caption]
    return draw.choice(others) if others else words.caption


EXTRA = {"text.other": other}


class Options(BaseModel):
    """Settings of :func:`llm2clip`.

    Args:
        scale: what cosines are multiplied with, fixed; the model's own scale is for pictures and texts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    scale: float = Field(default=50.0, gt=0.0)


def chance(batch: int) -> float | None:
    """The loss of rows that tell nothing: ln(batch)."""
    return math.log(batch)


def llm2clip(pairs: Pairs, *, scale: float = 50.0) -> Loss:
    """The loss of this rank's captions against the other captions of all ranks.

    Args:
        pairs: unit rows of texts; ``taps`` and ``columns`` other, (B, D) and (N, D) unit rows. Image rows, the model's scale and bias take
            no part.
        scale: see :class:`Options`.

    Returns:
        ``terms`` to_other and from_other; ``report`` the share of captions whose nearest is one of the same picture.
    """
    same_BN = equal(pairs.concept_B, pairs.concept_N)
    forth_BN = scale * similarities(pairs.text_BD, pairs.columns["other"])
    back_BN = scale * similarities(pairs.taps["other"], pairs.text_ND)
    target_BN = targets(forth_BN, same_BN)
    terms = {"to_other": cross_entropy(forth_BN, target_BN) / 2, "from_other": cross_entropy(back_BN, target_BN) / 2}
    return Loss(terms["to_other"] + terms["from_other"], terms, {"caption_accuracy": hits(forth_BN, same_BN)})


class Method(nn.Module):
    """Encodes the other captions."""

    def __init__(self, model: nn.Module, options: Options) -> None:
        super().__init__()
        self.options = options

    def rows(self, see: See) -> dict[str, Tensor]:
        """Unit rows of the other captions."""
        return {"other": see.text("other")}

    def forward(self, pairs: Pairs) -> Loss:
        """:func:`llm2clip` with the run's options."""
        return llm2clip(pairs, **self.options.model_dump())
