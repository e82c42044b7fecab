"""Layer norms alone: the gains and biases of the image tower's layer norms and a linear head, with metric learning on the unit sphere.

Paper: Yermakov, Cech and Matas, "Unlocking the Hidden Potential of CLIP in Generalizable Deepfake Detection", arXiv:2503.19683 (layer
norms, unit rows, alignment and uniformity, slerp); alignment and uniformity: Wang and Isola, arXiv:2005.10242.
Code: https://github.com/yermandy/deepfake-detection
Relations: ``linear-probe`` trains the head alone; ``lp-ft`` the whole image tower.

Shapes: B pictures of a batch, K classes, D joint width.

::

    row[b] = unit(image_tower(crop of picture b))
    row of a partner = slerp(row[b], row[a random picture of its class], random share), once for each b
    cross = mean(cross_entropy(scale * row[n] · weight[label[n]] …) for the 2B rows and partners n)
    alignment = mean(|row[i] - row[j]|² for i < j of one class)
    uniformity = log(mean(exp(-2 |row[i] - row[j]|²) for i < j))
    loss = cross + 0.1 * alignment + 0.5 * uniformity;  AdamW on the layer norms and the head, half cosine

Made to tell forged pictures from real ones, so that a forgery of another kind is told too; any classes will do. The head starts at the
words of the classes and not at random. Crops keep the whole of a picture in view where ``crops`` is off, for forgeries that are local. The
preparation of faces in the paper is data, not method. Weights of the two terms and the rate are this file's (the code's example has weights
0 and a rate of 8e-5 falling to 5e-5 over 10 epochs of batches of 128). In the code the partners stand in the place of the rows; here both
are learned from. Its rows are the tower's before the projection to the joint space, its head has a bias and no scale.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from diptych.adapt.attach import copy_of, norms
from diptych.adapt.parts.supervised import descend, image_rows
from diptych.adapt.parts.work import Tuned, Work
from diptych.core.card import Card

CARD = Card(
    id="clip-deepfake-ln",
    name="Layer-norm tuning",
    family="adapt",
    paper="Unlocking the Hidden Potential of CLIP in Generalizable Deepfake Detection, arXiv:2503.19683",
    where="method: LN-tuning, L2 normalisation, uniformity and alignment, slerp",
    code="https://github.com/yermandy/deepfake-detection",
    needs=frozenset({"labels", "towers"}),
    claim="few numbers trained on one kind of forgery tell other kinds too, as well as far larger methods",
    published="trained on FaceForensics++, at or above more complex methods on Celeb-DF-v2, DFDC and FFIW (abstract)",
)
GRID: dict[str, tuple[object, ...]] = {}


class Options(BaseModel):
    """Settings of :func:`clip_deepfake_ln`.

    Args:
        alignment, uniformity: weights of the two terms on the sphere.
        slerp: add partners between two rows of one class.
        crops: crop and mirror pictures at random.
        steps: of the optimiser, rounded up to whole passes over the labelled pictures.
        lr: first learning rate.
        batch: pictures in a step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    alignment: float = Field(default=0.1, ge=0.0)
    uniformity: float = Field(default=0.5, ge=0.0)
    slerp: bool = True
    crops: bool = True
    steps: int = Field(default=200, ge=1)
    lr: float = Field(default=1e-3, gt=0.0)
    batch: int = Field(default=32, ge=1)


def clip_deepfake_ln(
    work: Work,
    *,
    alignment: float = 0.1,
    uniformity: float = 0.5,
    slerp: bool = True,
    crops: bool = True,
    steps: int = 200,
    lr: float = 1e-3,
    batch: int = 32,
) -> Tuned:
    """The image tower with its head; see the module. Raises :class:`UsageError` where the image tower has no layer norm."""
    shots, model = work.shots, copy_of(work.model)
    trained = norms(model, ("image",))
    head = [nn.Parameter(shots.text_KD.clone().to(model.device)), nn.Parameter(torch.zeros(len(shots.classes), device=model.device))]

    def loss_of(index_B: Tensor) -> Tensor:
        row_BD, label_B = image_rows(work, model, index_B, crops), shots.label_S[index_B].to(model.device)
        partner = [between(row_BD, label_B, shots.draw)] if slerp else []
        row_ND, label_N = torch.cat([row_BD, *partner]), label_B.repeat(1 + len(partner))
        cross = F.cross_entropy(shots.scale * (row_ND @ head[0].T + head[1]), label_N)
        return cross + alignment * aligned(row_BD, label_B) + uniformity * uniform(row_BD)

    losses = descend(work, [*trained, *head], loss_of, steps=steps, lr=lr, batch=batch)
    fitted = shots.linear(shots.scale * head[0].detach().cpu(), shots.scale * head[1].detach().cpu(), "clip-deepfake-ln")
    return Tuned(model.with_head(fitted), sum(parameter.numel() for parameter in [*trained, *head]), losses)


def between(row_BD: Tensor, label_B: Tensor, draw: Generator) -> Tensor:
    """For each row one on the great circle to a random row of its class, a random share of the way, (B, D)."""
    share_B = torch.rand(len(row_BD), generator=draw).to(row_BD)
    lot_BB = torch.rand(len(row_BD), len(row_BD), generator=draw).to(row_BD.device)
    other_B = lot_BB.masked_fill(label_B[:, None] != label_B[None], -1.0).argmax(1)
    return slerped(row_BD, row_BD[other_B], share_B)


def slerped(one_BD: Tensor, other_BD: Tensor, share_B: Tensor) -> Tensor:
    """Unit rows ``share`` of the way along the great circle between two rows, which are not opposite."""
    cosine_B = (one_BD * other_BD).sum(1).clamp(-1 + 1e-6, 1 - 1e-6)
    angle_B = cosine_B.acos()
    made_BD = ((1 - share_B) * angle_B).sin()[:, None] * one_BD + (share_B * angle_B).sin()[:, None] * other_BD
    return F.normalize(made_BD, dim=-1)


def aligned(row_BD: Tensor, label_B: Tensor) -> Tensor:
    """Mean squared distance of the pairs of one class; 0 where there is none."""
    upper = torch.triu_indices(len(row_BD), len(row_BD), 1, device=row_BD.device)
    away_Q = (row_BD[upper[0]] - row_BD[upper[1]]).square().sum(1)
    same_Q = (label_B[upper[0]] == label_B[upper[1]]).to(row_BD)
    return (away_Q * same_Q).sum() / same_Q.sum().clamp(min=1)


def uniform(row_BD: Tensor) -> Tensor:
    """Logarithm of the mean of ``exp(-2 d²)`` over all pairs, at most 0; 0 where there is one row alone."""
    if len(row_BD) < 2:
        return row_BD.sum() * 0
    upper = torch.triu_indices(len(row_BD), len(row_BD), 1, device=row_BD.device)
    away_Q = (row_BD[upper[0]] - row_BD[upper[1]]).square().sum(1)
    return (-2 * away_Q).logsumexp(0) - torch.tensor(float(len(away_Q)), device=row_BD.device).log()
