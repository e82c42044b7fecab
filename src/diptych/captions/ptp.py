"""PTP: the caption says in which block of the picture one of its things lies.

Paper: Wang et al., "Position-guided Text Prompt for Vision-Language Pre-training", arXiv:2212.09737, section 3: the picture is cut into
N × N blocks (3 × 3), and "The block [P] has a [O]" follows the caption, with O an object that a detector found offline.
Code: https://github.com/sail-sg/ptp
Relations: ``cloc`` and ``grain`` use the same boxes in a loss of their own; here only words change, so it goes with every objective.

For one sample with boxes l and names o, N blocks a side::

    r = a random thing                                     # drawn anew each time the picture is seen
    column, row = int(N * middle of l[r] across), int(N * middle of l[r] down)
    return caption + ". The block " + str(N * row + column) + " has a " + o[r] + "."

Blocks are counted from 0, row by row, and a thing belongs to the block of its middle, as in the authors' code; a middle on the far edge
counts to the last block. Boxes and names are ``meta["boxes"]`` and ``meta["regions"]``; a sample without things keeps its caption. The
words are made from the whole picture: take an augmentation that neither crops, shifts nor flips it. The paper's second form, a position
to be filled in by a generating model, has no place in a dual encoder.
"""

from __future__ import annotations

import random

from pydantic import BaseModel, ConfigDict, Field

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Rewriter, Words

CARD = Card(
    id="ptp",
    name="PTP",
    family="captions",
    paper="Position-guided Text Prompt for Vision-Language Pre-training, arXiv:2212.09737",
    where="section 3, block tag generation and text prompt generation",
    code="https://github.com/sail-sg/ptp",
    claim="position prompts give a model grounding, with no detector at inference",
    published="+4.8 average recall@1 on Flickr30K zero-shot (ViLT), +5.3 CIDEr on COCO (BLIP) (abstract)",
)


class Options(BaseModel):
    """Settings of :func:`ptp`.

    Args:
        blocks: N, blocks a side.
        things: how many prompts follow the caption, at most; the paper has one.
        share: probability that a caption gets prompts at all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    blocks: int = Field(default=3, ge=2, le=16)
    things: int = Field(default=1, ge=1, le=9)
    share: float = Field(default=1.0, ge=0.0, le=1.0)


def block(box: list[float], blocks: int) -> int:
    """The block of the middle of a box (x0, y0, x1, y1 in 0…1)."""
    column, row = (min(blocks - 1, max(0, int(blocks * (box[i] + box[i + 2]) / 2))) for i in (0, 1))
    return blocks * row + column


def prompt(box: list[float], name: str, blocks: int) -> str:
    """``"The block 4 has a dog."``."""
    return f"The block {block(box, blocks)} has a {name}."


def ptp(*, blocks: int = 3, things: int = 1, share: float = 1.0) -> Rewriter:
    """The rewriter; see :class:`Options`. It raises :class:`UsageError` for a sample whose metadata has no boxes and regions."""

    def placed(words: Words, draw: random.Random) -> str:
        if "boxes" not in words.meta or "regions" not in words.meta:
            why = f"sample {words.id!r} says no boxes and regions in its metadata"
            raise UsageError("captions 'ptp'", why, "Train on data with boxes, such as scenes/train")
        found = list(zip(words.meta["boxes"], words.meta["regions"], strict=True))
        if not found or draw.random() >= share:
            return words.caption
        chosen = draw.sample(found, min(things, len(found)))
        return " ".join([f"{words.caption.rstrip('. ')}.", *(prompt(box, name, blocks) for box, name in chosen)])

    return placed
