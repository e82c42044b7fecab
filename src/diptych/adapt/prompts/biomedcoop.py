"""BiomedCoOp: a learned context whose class rows stay at the mean of many descriptions, and whose answers follow those of the usual ones.

Paper: Koleilat, Asgariandehkordi, Rivaz, Xiao, "BiomedCoOp: Learning to Prompt for Biomedical Vision-Language Models", CVPR 2025,
arXiv:2411.15232 (semantic consistency by contextual mapping; knowledge distillation with selective prompting).
Code: https://github.com/HealthX-Lab/BiomedCoOp
Relations: ``coop`` without the two terms; ``promptsrc`` keeps the answers of one template.

Shapes: S labelled pictures, K classes, P descriptions of each class, M context tokens, D joint width, B pictures of a step.

::

    told[p, k] = unit(text_tower(description p of class k))
    text[k] = unit(text_tower(context, name[k], "."))
    logits[s, k] = scale * image[s] · text[k]
    score[p] = mean(max(scale * image[s] · told[p, k] for k) for s in batch)
    usual = the p with |score[p] - mean(score)| <= tau * deviation(score)
    teacher[s] = softmax(scale * image[s] · unit(mean(told[p] for p in usual)))
    loss = mean(cross_entropy(logits[s], label[s])) + match * mean((text - unit(mean(told[p] for p)))²)
         + distil * sum(teacher[s, k] * log(teacher[s, k] / softmax(logits[s])[k]) for s and k) / (B * K)

The context is kept as the model's prompts and serves any class name. Image rows are computed once; the paper's random crops are left out
with that.

Paper: 50 descriptions of each class by a language model; 4 tokens that begin as "a photo of a"; SGD, learning rate 0.0025, 4 pictures a
step, 50 epochs for classes that are held out (100 otherwise); match and distil 0.25 to 20 and tau 1.25 to 2, tuned for each set. Here
descriptions come from a file, or are general templates; the context begins as the template in use; 32 pictures a step. The paper centres
scores on the median over the median deviation; its code then takes mean and deviation of that, which is the rule above, since shift and
factor cancel. Where all scores are equal, all are usual.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.context import AFTER, Names, frozen, prompted, start
from diptych.adapt.parts.shots import Shots
from diptych.adapt.parts.train import fit
from diptych.adapt.parts.words import read_words
from diptych.adapt.parts.work import Tuned, Work
from diptych.core.card import Card
from diptych.core.errors import UsageError

CARD = Card(
    id="biomedcoop",
    name="BiomedCoOp",
    family="adapt",
    paper="BiomedCoOp: Learning to Prompt for Biomedical Vision-Language Models, arXiv:2411.15232",
    where="contextual mapping and selective prompting",
    code="https://github.com/HealthX-Lab/BiomedCoOp",
    needs=frozenset({"labels", "towers"}),
    claim="with descriptions of each class, beats CoOp on held-out classes at similar accuracy on those it was fitted to",
    published="held-out classes 73.92 against 64.75 of CoOp, base classes 76.26 against 73.85, medical sets, 16 shots (the code's README)",
)
GRID: dict[str, tuple[float, ...]] = {}
TEMPLATES = (
    *(
        "a picture of a {}.",
        "a photo of a {}.",
        "a drawing of a {}.",
        "an illustration of a {}.",
        "a sketch of a {}.",
        "a painting of a {}.",
    ),
    *("an icon of a {}.", "a cartoon of a {}.", "a small {}.", "a large {}.", "a close-up of a {}.", "this is a {}."),
)


class Options(BaseModel):
    """Settings of :func:`biomedcoop`.

    Args:
        descriptions: a file of descriptions, see :mod:`diptych.adapt.parts.words`; None takes the templates in use and general ones.
        context: tokens in front of the class name.
        words: what the last of them are at first; "" begins with random ones, None with those of the template in use.
        match: weight of the distance to the mean description.
        distil: weight of the answers of the usual descriptions.
        tau: how many standard deviations from the mean score are still usual.
        epochs: passes over the labelled pictures.
        lr: first learning rate.
        batch: pictures of a step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    descriptions: str | None = None
    context: int = Field(default=4, ge=1)
    words: str | None = None
    match: float = Field(default=10.0, ge=0.0)
    distil: float = Field(default=1.0, ge=0.0)
    tau: float = Field(default=1.5, ge=1.0)
    epochs: int = Field(default=50, ge=1)
    lr: float = Field(default=0.0025, gt=0.0)
    batch: int = Field(default=32, ge=1)


def biomedcoop(
    work: Work,
    *,
    descriptions: str | None = None,
    context: int = 4,
    words: str | None = None,
    match: float = 10.0,
    distil: float = 1.0,
    tau: float = 1.5,
    epochs: int = 50,
    lr: float = 0.0025,
    batch: int = 32,
) -> Tuned:
    """The model with the learned prompts; see the module.

    Raises:
        UsageError: a class has no description; the model reads prompts already or cannot name classes; the context is too long.
    """
    shots, model = work.shots, frozen(work)
    names = Names(model, [AFTER.replace("{}", name) for name in shots.classes], context)
    told_PKD = described(shots, descriptions).to(model.device)
    mean_KD = F.normalize(told_PKD.mean(0), dim=1)
    learned = start(model, words, context, shots.draw, shots.templates).requires_grad_()
    image_SD, label_S = shots.image_SD.to(model.device), shots.label_S.to(model.device)

    def loss_of(index_B: Tensor) -> Tensor:
        image_BD, text_KD = image_SD[index_B], names.rows(learned)
        logits_BK = shots.scale * image_BD @ text_KD.T
        teacher_BK = shots.scale * image_BD @ F.normalize(told_PKD[usual(image_BD, told_PKD, shots.scale, tau)].mean(0), dim=1).T
        away = F.kl_div(logits_BK.log_softmax(1), teacher_BK.log_softmax(1), reduction="sum", log_target=True) / logits_BK.numel()
        return F.cross_entropy(logits_BK, label_S[index_B]) + match * F.mse_loss(text_KD, mean_KD) + distil * away

    losses = fit([learned], loss_of, len(label_S), shots.draw, epochs=epochs, lr=lr, batch=batch, warm=1, momentum=0.9, weight_decay=5e-4)
    made_by = f"biomedcoop, {context} tokens, {len(told_PKD)} descriptions, {epochs} epochs"
    return Tuned(prompted(work.model, learned, made_by), learned.numel(), losses)


def described(shots: Shots, file: str | None) -> Tensor:
    """Unit rows (P, K, D) of each class's descriptions; where a class has fewer than another, its own are taken again from the first."""
    if file is None:
        forms = dict.fromkeys((*shots.templates, *TEMPLATES))
        told = [tuple(form.replace("{}", name) for form in forms) for name in shots.classes]
    else:
        told = read_words(file, shots.classes)
        if empty := next((name for name, some in zip(shots.classes, told, strict=True) if not some), None):
            raise UsageError(f"file {file}", f"class {empty!r} has no description", "Write at least one for each class")
    most = max(map(len, told))
    texts = [some[p % len(some)] for p in range(most) for some in told]
    return shots.texts(texts).unflatten(0, (most, len(told)))


def usual(image_BD: Tensor, told_PKD: Tensor, scale: float, tau: float) -> Tensor:
    """Which descriptions (P,) these pictures are as similar to as to most."""
    score_P = scale * torch.einsum("bd,pkd->pbk", image_BD, told_PKD).amax(2).mean(1)
    away_P = score_P - score_P.mean()
    return away_P.abs() <= tau * away_P.square().sum().div(max(len(away_P) - 1, 1)).sqrt() + 1e-6 * scale
