"""CLOOB: embeddings retrieved from the batch by a modern Hopfield network, contrasted without the positive in the denominator.

Paper: Fürst et al., "CLOOB: Modern Hopfield Networks with InfoLOOB Outperform CLIP", arXiv:2110.11316, section 3
("Introducing CLOOB": retrieval, InfoLOOB, and the loss that joins them).
Code: https://github.com/ml-jku/cloob
Relations: ``clip`` contrasts the embeddings themselves and keeps the positive in the denominator (InfoNCE), so that its gradient
fades once the positive wins; here it does not.

Shapes: B rows of this rank, N columns of all ranks, D embedding width.

With images x, texts y, fixed β and τ, all rows of unit length::

    def retrieve(state, stored):                           # one update of a modern Hopfield network
        p = softmax([β * state @ s for s in stored])
        return unit(sum(p[k] * stored[k] for k in stored))

    Ux, Uy = [retrieve(x[i], x) for i], [retrieve(y[i], x) for i]     # from the stored images
    Vx, Vy = [retrieve(x[i], y) for i], [retrieve(y[i], y) for i]     # from the stored texts
    for (a, b) in ((Ux, Uy), (Vy, Vx)):                    # the anchor is retrieved from its own kind
        for i in rows:
            P = [j for j in columns if c[j] == c[i]]       # the positives; always holds i itself
            loss += τ * (log(sum(exp(a[i] @ b[k] / τ) for k not in P)) - mean(a[i] @ b[j] / τ for j in P)) / B

The paper has unique pairs (P = {i}); equal concepts are positives here, left out of the denominator like i itself, and a row
whose columns are all positives adds nothing. The factor τ, as in the authors' code, makes the size of the gradient independent
of τ. Both temperatures are settings and stay fixed: 1 / τ = 30 as in the authors' command for Conceptual Captions, β = 14.3 as in their
code (8 in that command, which mixes more of the batch into each row). The model's own scale starts at 1 / τ and takes no part.
Gradients flow through states and stored patterns alike, as in the authors' code.
"""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.core.card import Card
from diptych.core.types import Loss, Pairs
from diptych.objectives.parts.contrast import equal, hits, similarities

CARD = Card(
    id="cloob",
    name="CLOOB",
    family="objective",
    paper="CLOOB: Modern Hopfield Networks with InfoLOOB Outperform CLIP, arXiv:2110.11316",
    where="section 3, the loss of CLOOB",
    code="https://github.com/ml-jku/cloob",
    claim="better zero-shot transfer than CLIP for every architecture, pretrained on Conceptual Captions and on YFCC",
    published="zero-shot ImageNet 23.97 against 20.33, ResNet-50 on Conceptual Captions (table 1)",
)
INIT_SCALE = 30.0


class Options(BaseModel):
    """Settings of :func:`cloob`.

    Args:
        beta: inverse temperature of the retrieval; small values average over many stored rows, large ones give back the nearest.
        inverse_temperature: 1 / τ of the loss, fixed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    beta: float = Field(default=14.3, gt=0.0)
    inverse_temperature: float = Field(default=INIT_SCALE, gt=0.0)


def chance(batch: int) -> float:
    """The loss of rows that tell nothing, at the default temperature: 2 τ ln(batch − 1)."""
    return 2.0 * math.log(batch - 1) / INIT_SCALE if batch > 1 else 0.0


def retrieve(state_BD: Tensor, stored_ND: Tensor, beta: float) -> Tensor:
    """Unit rows (B, D) that a modern Hopfield network with the patterns ``stored_ND`` gives for ``state_BD``."""
    weight_BN = (beta * similarities(state_BD, stored_ND)).softmax(dim=1)
    return F.normalize(weight_BN @ stored_ND.to(weight_BN.dtype), dim=1)


def _leave_one_out(anchor_BD: Tensor, other_ND: Tensor, same_BN: Tensor, inverse: float) -> tuple[Tensor, Tensor]:
    """InfoLOOB times τ, the mean over rows, and the share of rows whose best column is a positive."""
    logits_BN = inverse * similarities(anchor_BD, other_ND)
    negative_B = logits_BN.masked_fill(same_BN, torch.finfo(logits_BN.dtype).min).logsumexp(dim=1)
    positive_B = torch.where(same_BN, logits_BN, 0.0).sum(1) / same_BN.sum(1)
    loss_B = torch.where(same_BN.all(dim=1), 0.0, negative_B - positive_B)
    return loss_B.mean() / inverse, hits(logits_BN, same_BN)


def cloob(pairs: Pairs, *, beta: float = 14.3, inverse_temperature: float = INIT_SCALE) -> Loss:
    """The loss of this rank's rows; what is stored are the rows of all ranks.

    Args:
        pairs: unit rows and columns. Scale and bias take no part (the scale with a gradient of zero, for the sake of replicas).
        beta, inverse_temperature: see :class:`Options`.

    Returns:
        ``terms`` from_images (retrieved from stored images) and from_texts; ``report`` accuracy within the batch of each.
    """
    same_BN = equal(pairs.concept_B, pairs.concept_N)
    anchor_BD, other_ND = retrieve(pairs.image_BD, pairs.image_ND, beta), retrieve(pairs.text_ND, pairs.image_ND, beta)
    image, image_hit = _leave_one_out(anchor_BD, other_ND, same_BN, inverse_temperature)
    anchor_BD, other_ND = retrieve(pairs.text_BD, pairs.text_ND, beta), retrieve(pairs.image_ND, pairs.text_ND, beta)
    text, text_hit = _leave_one_out(anchor_BD, other_ND, same_BN, inverse_temperature)
    terms = {"from_images": image, "from_texts": text}
    return Loss(image + text + 0.0 * pairs.scale, terms, {"image_accuracy": image_hit, "text_accuracy": text_hit})
