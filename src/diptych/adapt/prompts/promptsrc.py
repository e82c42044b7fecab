"""PromptSRC: prompts of both towers that are held near the parent while they learn, and averaged along the way.

Paper: Khattak et al., "Self-regulating Prompts: Foundational Model Adaptation without Forgetting", ICCV 2023, arXiv:2307.06948
(mutual agreement; self-ensemble of prompts; textual diversity).
Code: https://github.com/muzairkhattak/PromptSRC
Relations: ``maple`` couples the two towers' prompts and holds nothing; here they are learned apart. Without the agreement and with the last
epoch's prompts alone it is the paper's baseline, independent vision and language prompting (``agree=0, ensemble=False``).

Shapes: K classes, J layers, M tokens, D joint width, B pictures of a step, P templates, E epochs.

::

    plain_row[k] = unit(mean(unit(parent_text(template[p] with name[k])) for p))       # once
    plain_picture[b] = unit(parent_image(x[b]))                                      # of the same crop, without prompts
    row[k], picture[b] = with prompts in the first J layers of each tower
    logits, plain_logits = scale * picture · row, scale * plain_picture · plain_row
    loss = mean(cross_entropy(logits[b], label[b]) for b)
         + text_weight * mean(|row - plain_row|) + image_weight * mean(|picture - plain_picture|)
         + sum(softmax(plain_logits) * (log softmax(plain_logits) - log softmax(logits))) / (B * K)
    prompts of the model = sum(share[e] * prompts after epoch e for e),  share[e] ∝ exp(-((e - mean * E) / (deviation * E))² / 2)

Both means of absolute differences go over all numbers of the rows, as in the code. ``agree`` is a factor on the three agreement terms.

Paper: 4 tokens in each tower, the text's first ones "a photo of a", others from a normal distribution of deviation 0.02; 9 of 12 layers;
weights 25 and 10; SGD with learning rate 0.0025 falling along a cosine after one epoch at 1e-5, 20 epochs, batches of 4; the ensemble's
mean 15 and deviation 1 of 20 epochs; 60 templates written for ImageNet. Here the words are those of the template in use, and the set's own
templates and sixteen of ours say each class.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional as F

from diptych.adapt.parts.deep import Deep, begun, depth_of, random_layers, reading
from diptych.adapt.parts.shots import Shots
from diptych.adapt.parts.train import fit
from diptych.adapt.parts.work import Tuned, Work
from diptych.core.card import Card
from diptych.core.errors import UsageError

CARD = Card(
    id="promptsrc",
    name="PromptSRC",
    family="adapt",
    paper="Self-regulating Prompts: Foundational Model Adaptation without Forgetting, arXiv:2307.06948",
    where="mutual agreement, self-ensemble of prompts and textual diversity",
    code="https://github.com/muzairkhattak/PromptSRC",
    needs=frozenset({"labels", "towers"}),
    claim="prompts held near the parent name new classes better than plainly learned ones, at about the same accuracy on base classes",
    published="new classes 76.10, base 84.26 against 71.79 and 84.21 of the same prompts unheld, 11 sets, 16 shots (ViT-B/16)",
)
GRID = {"lr": (0.0025, 0.02)}
TEMPLATES = (
    *("a photo of a {}.", "a photo of the {}.", "a close-up photo of a {}.", "a blurry photo of a {}.", "a dark photo of the {}."),
    *("a bright photo of a {}.", "a photo of one {}.", "a photo of a small {}.", "a photo of a large {}.", "a photo of many {}."),
    *("a drawing of a {}.", "a sketch of the {}.", "a painting of a {}.", "a cartoon {}.", "an icon of a {}.", "a toy {}."),
)


class Options(BaseModel):
    """Settings of :func:`promptsrc`.

    Args:
        context: M, of each tower.
        depth: J; None is three quarters of the blocks of the shallower tower.
        agree: factor of the agreement with the parent; 0 leaves it out.
        text_weight, image_weight: of the rows' differences.
        ensemble: the model has the weighted mean of the prompts after each epoch; off, the last ones.
        mean, deviation: of the weights, as shares of the epochs.
        templates: how each class is said to the parent, each with a ``{}``; () takes the set's and sixteen of ours.
        words: what the text's input prompts are at first, as far as they go; "" random ones, None those of the template in use.
        epochs: passes over the labelled pictures.
        lr: first learning rate.
        batch: pictures of a step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    context: int = Field(default=4, ge=1)
    depth: int | None = Field(default=None, ge=1)
    agree: float = Field(default=1.0, ge=0.0)
    text_weight: float = Field(default=25.0, ge=0.0)
    image_weight: float = Field(default=10.0, ge=0.0)
    ensemble: bool = True
    mean: float = Field(default=0.75, ge=0.0, le=1.0)
    deviation: float = Field(default=0.05, gt=0.0)
    templates: tuple[str, ...] = ()
    words: str | None = None
    epochs: int = Field(default=20, ge=1)
    lr: float = Field(default=0.0025, gt=0.0)
    batch: int = Field(default=4, ge=1)


def plain_rows(shots: Shots, templates: Sequence[str]) -> Tensor:
    """Unit rows (K, D) of the classes as the parent reads them in the templates. Raises :class:`UsageError` for one without ``{}``."""
    prompts = tuple(dict.fromkeys(templates or (*shots.templates, *TEMPLATES)))
    if wrong := next((prompt for prompt in prompts if "{}" not in prompt), None):
        raise UsageError(f"template {wrong!r}", "it has no {} for the name", "Write it like 'a photo of a {}.'")
    rows_PKD = shots.texts([prompt.replace("{}", name) for prompt in prompts for name in shots.classes]).unflatten(0, (len(prompts), -1))
    return F.normalize(rows_PKD.mean(0), dim=1)


def disagreement(
    logits_BK: Tensor, plain_BK: Tensor, text: tuple[Tensor, Tensor], image: tuple[Tensor, Tensor], text_weight: float, image_weight: float
) -> Tensor:
    """How far prompted answers are from the parent's; see the module. ``text`` and ``image`` are rows with and without prompts."""
    apart = F.kl_div(logits_BK.log_softmax(1), plain_BK.log_softmax(1), reduction="sum", log_target=True) / logits_BK.numel()
    return text_weight * F.l1_loss(*text) + image_weight * F.l1_loss(*image) + apart


def shares(epochs: int, mean: float, deviation: float) -> list[float]:
    """Weights of the prompts after epochs 1 … E, summing to 1."""
    at_E = torch.arange(1, epochs + 1, dtype=torch.float64)
    return (-(((at_E - mean * epochs) / (deviation * epochs)) ** 2) / 2).softmax(0).tolist()


def promptsrc(
    work: Work,
    *,
    context: int = 4,
    depth: int | None = None,
    agree: float = 1.0,
    text_weight: float = 25.0,
    image_weight: float = 10.0,
    ensemble: bool = True,
    mean: float = 0.75,
    deviation: float = 0.05,
    templates: tuple[str, ...] = (),
    words: str | None = None,
    epochs: int = 20,
    lr: float = 0.0025,
    batch: int = 4,
) -> Tuned:
    """The model with the learned prompts; see the module.

    Raises:
        UsageError: the model reads prompts already, cannot name classes, or has too few blocks or places for the prompts; a template
            without ``{}``.
    """
    shots, layers = work.shots, depth_of(work.model, depth)
    deep = Deep.of(work, context)
    device, draw = deep.model.device, shots.draw
    text = [begun(deep.model, words, context, draw, shots.templates), *random_layers(layers - 1, context, deep.model.text.width, draw)]
    image = random_layers(layers, context, deep.model.image.width, draw)
    text, image = ([one.to(device).requires_grad_() for one in some] for some in (text, image))
    plain_KD, label_S = plain_rows(shots, templates).to(device), shots.label_S.to(device)

    def loss_of(index_B: Tensor) -> Tensor:
        pixels_BCHW = work.pictures(index_B, draw)
        image_BD, text_KD = deep.image(pixels_BCHW, image), deep.text(text)
        logits_BK = shots.scale * image_BD @ text_KD.T
        loss = F.cross_entropy(logits_BK, label_S[index_B])
        if not agree:
            return loss
        before_BD = deep.image(pixels_BCHW)
        plain_BK = shots.scale * before_BD @ plain_KD.T
        return loss + agree * disagreement(logits_BK, plain_BK, (text_KD, plain_KD), (image_BD, before_BD), text_weight, image_weight)

    learned = [*text, *image]
    held, share = [torch.zeros_like(one) for one in learned], shares(epochs, mean, deviation) if ensemble else [0.0] * (epochs - 1) + [1.0]

    @torch.no_grad()
    def add(done: int) -> None:
        for total, one in zip(held, learned, strict=True):
            total += share[done - 1] * one

    losses = fit(
        learned, loss_of, len(label_S), draw, epochs=epochs, lr=lr, batch=batch, warm=1, after_epoch=add, momentum=0.9, weight_decay=5e-4
    )  # fmt: skip
    made_by = f"promptsrc, {context} tokens in {layers} layers of each tower, {epochs} epochs"
    made = reading(work.model, held[:layers], held[layers:], made_by)
    return Tuned(made, sum(one.numel() for one in learned), losses)
