"""LP-FT: a linear probe first, then full fine-tuning of the image tower and the probe together, from there.

Paper: Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", arXiv:2202.10054.
Code: https://github.com/AnanyaKumar/transfer_learning
Relations: ``linear-probe`` is the first step alone; ``full-ft`` trains the text tower in the place of a head. With ``probe`` off the head
starts at the words: fine-tuning without the first step.

Shapes: S labelled pictures, B pictures, K classes, D joint width.

::

    weight, bias = linear probe on the parent's rows (L-BFGS from the words; see ``linear-probe``)
    logits[b, k] = image_tower(crop of picture b) · weight[k] + bias[k]
    loss = mean(cross_entropy(logits[b], label[b]) for b);  AdamW on the image tower, weight and bias, half cosine

The model that comes back has the image tower and the head; its text tower is the parent's, and what it names by words of other classes
follows the image tower's drift. The paper's probe starts from nothing; here it starts at the words, which are at hand. The head is trained
divided by the logits' scale: a step of AdamW moves its numbers by ``lr * scale``, as they are that much larger than a tower's.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn import functional as F

from diptych.adapt.attach import copy_of
from diptych.adapt.parts.logistic import fit as probe_of
from diptych.adapt.parts.supervised import descend, image_rows, weights_of
from diptych.adapt.parts.work import Tuned, Work
from diptych.core.card import Card

CARD = Card(
    id="lp-ft",
    name="LP-FT",
    family="adapt",
    paper="Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution, arXiv:2202.10054",
    where="linear probing, then fine-tuning",
    code="https://github.com/AnanyaKumar/transfer_learning",
    needs=frozenset({"labels", "towers"}),
    claim="a probe first keeps fine-tuning from distorting the rows: better than either, in and out of distribution",
    published="mean over sets: out of distribution +10 points on fine-tuning, in distribution +1 (abstract)",
)
GRID: dict[str, tuple[object, ...]] = {}


class Options(BaseModel):
    """Settings of :func:`lp_ft`.

    Args:
        probe: fit a linear probe first; off: the head starts at the words.
        ridge: of the probe; see ``linear-probe``.
        steps: of the optimiser, rounded up to whole passes over the labelled pictures.
        lr: first learning rate.
        batch: pictures in a step.
        decay: AdamW's weight decay.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    probe: bool = True
    ridge: float = Field(default=1e-3, gt=0.0)
    steps: int = Field(default=200, ge=1)
    lr: float = Field(default=1e-4, gt=0.0)
    batch: int = Field(default=32, ge=1)
    decay: float = Field(default=0.1, ge=0.0)


def lp_ft(
    work: Work, *, probe: bool = True, ridge: float = 1e-3, steps: int = 200, lr: float = 1e-4, batch: int = 32, decay: float = 0.1
) -> Tuned:
    """The image tower with its head; see the module."""
    shots, model = work.shots, copy_of(work.model)
    weight_KD, bias_K = shots.scale * shots.text_KD.double(), shots.text_KD.new_zeros(len(shots.classes)).double()
    if probe:
        weight_KD, bias_K = probe_of(shots.image_SD.double(), shots.label_S, weight_KD, ridge, steps=200)
    class_KD, shift_K = ((value / shots.scale).float().to(model.device) for value in (weight_KD, bias_K))
    head = [nn.Parameter(class_KD), nn.Parameter(shift_K)]

    def loss_of(index_B):
        logits_BK = shots.scale * (image_rows(work, model, index_B) @ head[0].T + head[1])
        return F.cross_entropy(logits_BK, shots.label_S[index_B].to(model.device))

    parameters = [*weights_of(model, "image"), *head]
    losses = descend(work, parameters, loss_of, steps=steps, lr=lr, batch=batch, decay=decay)
    made_by = f"lp-ft, ridge {ridge:g}" if probe else "lp-ft, from the words"
    fitted = shots.linear(shots.scale * head[0].detach().cpu(), shots.scale * head[1].detach().cpu(), made_by)
    return Tuned(model.with_head(fitted), sum(parameter.numel() for parameter in parameters), losses)
