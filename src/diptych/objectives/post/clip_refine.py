"""CLIP-Refine: after pretraining, pictures and texts are pulled to shared random points, and held to what they knew.

Paper: Yamaguchi et al., "Post-pre-training for Modality Alignment in Vision-Language Foundation Models", arXiv:2504.12717, section 4:
random feature alignment (RaFA) and hybrid contrastive distillation (HyCD, α = 0.5), the sum of both with weights 1; one epoch.
Code: https://github.com/yshinya6/clip-refine
Relations: with ``align=0`` and ``alpha=1`` it is ``clip``; with ``alpha=0`` plain self-distillation.

Shapes: B rows of this rank, N columns of all ranks, D joint width.

With projected rows a, b before normalisation, unit rows u, v and scale s, the teacher's unit rows U, V and scale S, and one random point
r[i] ~ N(0, I) a pair::

    for i in rows:
        rafa += (mean((a[i] - r[i]) ** 2) + mean((b[i] - r[i]) ** 2)) / 2
        for rows, columns in ((u, v), (v, u)) with the teacher's (U, V), (V, U):
            q = softmax(S * teacher_row[i] @ teacher_columns)
            h = alpha * (uniform over the positives of i) + (1 - alpha) * q
            hycd += KL(h, softmax(s * row[i] @ columns)) / 2
    loss = (align * rafa + hycd) / B

The paper writes RaFA as a squared norm; its code takes the mean over dimensions, which is done here, so that the weight does not depend on
the width. For the softmax the paper's temperature is taken to be the model's own scale on unit rows (the code uses rows as they are).
Equal concepts are positives of one another.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from diptych.core.card import Card
from diptych.core.types import Loss, Pairs
from diptych.objectives.parts.contrast import equal, similarities, targets
from diptych.towers.see import See

CARD = Card(
    id="clip-refine",
    name="CLIP-Refine",
    family="objective",
    paper="Post-pre-training for Modality Alignment in Vision-Language Foundation Models, arXiv:2504.12717",
    where="section 4, RaFA and HyCD",
    code="https://github.com/yshinya6/clip-refine",
    needs=frozenset({"teacher", "image.pooled", "text.pooled"}),
    claim="a smaller modality gap and better zero-shot transfer after one epoch on a small set of pairs",
    published="one epoch on COCO captions",
)
COLUMNS = frozenset({"teacher.image", "teacher.text"})


class Options(BaseModel):
    """Settings of :func:`clip_refine`.

    Args:
        align: weight of the random points.
        alpha: share of the true pairs in the soft labels; the teacher has the rest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    align: float = Field(default=1.0, ge=0.0)
    alpha: float = Field(default=0.5, ge=0.0, le=1.0)


def chance(batch: int) -> float | None:
    """None: it depends on the teacher."""
    return None


def _direction(rows_BD: Tensor, cols_ND: Tensor, told_BN: Tensor, scale: Tensor) -> Tensor:
    """Mean over rows of KL(told ‖ softmax(scale · rows · columns))."""
    logp_BN = (scale * similarities(rows_BD, cols_ND)).log_softmax(1)
    return (torch.special.xlogy(told_BN, told_BN) - told_BN * logp_BN).sum(1).mean()


def clip_refine(pairs: Pairs, *, align: float = 1.0, alpha: float = 0.5) -> Loss:
    """The loss of this rank's rows against the columns of all ranks.

    Args:
        pairs: unit rows; ``taps`` image.row, text.row (B, D) before normalisation, reference (B, D) random points, teacher.image and
            teacher.text (B, D) unit rows; ``state["teacher_scale"]``.
        align, alpha: see :class:`Options`.

    Returns:
        ``terms`` rafa (weighted) and hycd; ``report`` the distance of the mean rows of the two sides in the batch.
    """
    taps, wide = pairs.taps, torch.promote_types(pairs.image_BD.dtype, torch.float32)
    reference_BD = taps["reference"].detach().to(wide)
    rafa = sum(((taps[name].to(wide) - reference_BD) ** 2).mean() for name in ("image.row", "text.row")) / 2
    same_BN = equal(pairs.concept_B, pairs.concept_N)
    scale, teacher_scale = pairs.scale.to(wide), pairs.state["teacher_scale"].to(wide)
    hycd = pairs.scale.new_zeros((), dtype=wide)
    for rows, cols, mine, theirs in (
        (pairs.image_BD, pairs.text_ND, "teacher.image", "teacher.text"),
        (pairs.text_BD, pairs.image_ND, "teacher.text", "teacher.image"),
    ):
        known_BN = (teacher_scale * similarities(taps[mine], pairs.columns[theirs])).softmax(1).detach()
        told_BN = alpha * targets(known_BN, same_BN) + (1 - alpha) * known_BN
        hycd = hycd + _direction(rows, cols, told_BN, scale) / 2
    gap = (pairs.image_ND.detach().to(wide).mean(0) - pairs.text_ND.detach().to(wide).mean(0)).norm()
    terms = {"rafa": align * torch.as_tensor(rafa), "hycd": hycd}
    return Loss(terms["rafa"] + terms["hycd"], terms, {"modality_gap": gap})


class Method(nn.Module):
    """Draws the random points and asks the teacher."""

    teacher_scale: Tensor

    def __init__(self, model: nn.Module, options: Options) -> None:
        super().__init__()
        self.options = options
        self.register_buffer("teacher_scale", model.scale.detach().clone())  # type: ignore[operator]

    def rows(self, see: See) -> dict[str, Tensor]:
        """Rows before normalisation, one random point a pair, and the teacher's unit rows."""
        image_BD = see.model.image_projection(see.taps["image.pooled"])
        text_BD = see.model.text_projection(see.taps["text.pooled"])
        with torch.no_grad():
            told_image_BD = see.image(see.image_BCHW, model=see.teacher)
            pooled_BW = see.taps["text.pooled"] if see.text_BL is None else see.teacher.text(see.text_BL)[0]
            told_text_BD = torch.nn.functional.normalize(see.teacher.text_projection(pooled_BW), dim=-1)
        reference_BD = torch.randn(image_BD.shape, generator=see.draw, device=image_BD.device)
        found = {"image.row": image_BD, "text.row": text_BD, "reference": reference_BD}
        return found | {"teacher.image": told_image_BD, "teacher.text": told_text_BD}

    def forward(self, pairs: Pairs) -> Loss:
        state = {**pairs.state, "teacher_scale": self.teacher_scale}
        return clip_refine(replace(pairs, state=state), **self.options.model_dump())
