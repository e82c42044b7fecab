"""SigLIP: every picture–text pair is a yes-or-no question of its own.

Paper: Zhai et al., "Sigmoid Loss for Language Image Pre-Training", arXiv:2303.15343, section 3.2, equation 1 and
algorithm 1; initial scale 10 and bias −10 are from the same section.
Code: https://github.com/google-research/big_vision
Relations: ``clip`` normalises over all columns; here no row needs another rank's sum, so blocks of columns may pass round
a ring (section 3.3).

Shapes: B rows of this rank, N columns (all ranks, or one block of them), D embedding width.

With images x, texts y, scale t, bias b and concepts c::

    for i in rows:
        for j in columns:
            z = 1 if c[i] == c[j] else -1
            loss += -log(1 / (1 + exp(-z * (t * x[i] @ y[j] + b))))
    loss /= B                                              # rows only, as in equation 1

Where concepts repeat, every pair of an equal concept has the label +1.
"""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, ConfigDict
from torch.nn import functional as F

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Loss, Pairs

CARD = Card(
    id="siglip",
    name="SigLIP",
    family="objective",
    paper="Sigmoid Loss for Language Image Pre-Training, arXiv:2303.15343",
    where="section 3.2, equation 1",
    code="https://github.com/google-research/big_vision",
    needs=frozenset({"bias"}),
    blockwise=True,
    claim="better than the softmax loss at batches below 16 thousand, and equal above",
    published="figure 2",
)
INIT_SCALE = 10.0
INIT_BIAS = -10.0


class Options(BaseModel):
    """:func:`siglip` has no settings: scale and bias are the model's."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def chance(batch: int) -> float:
    """The loss of rows that tell nothing, with the best bias, ln(1/(batch − 1)): about ln(batch) + 1."""
    return math.log(batch) - (batch - 1) * math.log1p(-1.0 / batch)


def siglip(pairs: Pairs) -> Loss:
    """The loss of this rank's images against the text columns given; a plain sum over blocks of columns.

    Args:
        pairs: unit rows and columns, scale (already exponentiated) and bias.

    Returns:
        ``terms`` positive and negative; their sum is the total.

    Raises:
        UsageError: the model has no bias.
    """
    if pairs.bias is None:
        raise UsageError("objective 'siglip'", "the model has no bias parameter", "Set init_bias (-10) in the model's config")
    wide = torch.promote_types(pairs.image_BD.dtype, torch.float32)
    same_BN = pairs.concept_B[:, None] == pairs.concept_N[None, :]
    logits_BN = pairs.scale.to(wide) * (pairs.image_BD.to(wide) @ pairs.text_ND.to(wide).T) + pairs.bias.to(wide)
    loss_BN = F.softplus(torch.where(same_BN, -logits_BN, logits_BN))
    rows = len(pairs.image_BD)
    positive = torch.where(same_BN, loss_BN, 0.0).sum() / rows
    negative = torch.where(same_BN, 0.0, loss_BN).sum() / rows
    return Loss(positive + negative, {"positive": positive, "negative": negative})
