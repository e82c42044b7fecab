"""CLIP: softmax contrast of every picture with every text, and the other way (multi-positive InfoNCE).

Paper: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020,
section 2.3 and figure 3; the symmetric form is Zhang et al. (ConVIRT), arXiv:2010.00747, equations 2–4.
Code: https://github.com/openai/CLIP, https://github.com/mlfoundations/open_clip
Relations: ``siglip`` replaces the softmax over columns with an independent sigmoid per pair.

Shapes: B rows of this rank, N columns of all ranks, D embedding width.

With rows u, columns v, scale s and concepts c, one direction is::

    for i in rows:
        P = [j for j in columns if c[j] == c[i]]           # the positives; always holds i itself
        q = {j: (1 - smooth) / len(P) + smooth / N  if j in P else smooth / N}
        loss[i] = -sum(q[j] * log(exp(s * u[i] @ v[j]) / sum(exp(s * u[i] @ v[k]) for k in columns)) for j in columns)

that is, the cross-entropy to the uniform distribution over the positives. Where every concept is unique this is the
paper's InfoNCE. The total is ``image_weight`` × (images against texts) + (1 − ``image_weight``) × (texts against images),
each the mean over rows.
"""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from diptych.core.card import Card
from diptych.core.types import Loss, Pairs

CARD = Card(
    id="clip",
    name="CLIP",
    family="objective",
    paper="Learning Transferable Visual Models From Natural Language Supervision, arXiv:2103.00020",
    where="section 2.3, figure 3",
    code="https://github.com/openai/CLIP",
    claim="contrasting whole texts is four times as efficient at zero-shot ImageNet transfer as predicting a bag of words",
    published="4x (section 2.3)",
)


class Options(BaseModel):
    """Settings of :func:`clip`.

    Args:
        label_smoothing: share of the target spread evenly over all columns, in [0, 1).
        image_weight: weight of the image-to-text direction, in [0, 1]; the other direction has the rest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0)
    image_weight: float = Field(0.5, ge=0.0, le=1.0)


def chance(batch: int) -> float:
    """The loss of rows that tell nothing: ln(batch)."""
    return math.log(batch)


def _direction(rows_BD: Tensor, cols_ND: Tensor, same_BN: Tensor, scale: Tensor, smooth: float) -> tuple[Tensor, Tensor]:
    """Mean loss over rows and the share of rows whose best column is a positive; computed in float32 or wider."""
    wide = torch.promote_types(rows_BD.dtype, torch.float32)
    logits_BN = scale.to(wide) * (rows_BD.to(wide) @ cols_ND.to(wide).T)
    logp_BN = logits_BN.log_softmax(dim=1)
    positive_B = torch.where(same_BN, logp_BN, 0.0).sum(1) / same_BN.sum(1)
    loss_B = -(1.0 - smooth) * positive_B - smooth * logp_BN.mean(1)
    hit_B = same_BN.gather(1, logits_BN.detach().argmax(1, keepdim=True))
    return loss_B.mean(), hit_B.to(wide).mean()


def clip(pairs: Pairs, *, label_smoothing: float = 0.0, image_weight: float = 0.5) -> Loss:
    """The loss of this rank's rows against the columns of all ranks.

    Args:
        pairs: unit rows and columns; the scale is already exponentiated. The bias, if any, is added to every logit of a
            softmax and so has no effect.
        label_smoothing, image_weight: see :class:`Options`.

    Returns:
        ``terms`` image_to_text and text_to_image (weighted); ``report`` accuracy within the batch for each direction.
    """
    same_BN = pairs.concept_B[:, None] == pairs.concept_N[None, :]
    image, image_hit = _direction(pairs.image_BD, pairs.text_ND, same_BN, pairs.scale, label_smoothing)
    text, text_hit = _direction(pairs.text_BD, pairs.image_ND, same_BN, pairs.scale, label_smoothing)
    terms = {"image_to_text": image_weight * image, "text_to_image": (1.0 - image_weight) * text}
    report = {"image_accuracy": image_hit, "text_accuracy": text_hit}
    return Loss(terms["image_to_text"] + terms["text_to_image"], terms, report)
