"""NoLA: no labels. Descriptions label the surest pictures, these train a head on other features, and its answers tune visual prompts.

Paper: Imam et al., "CLIP meets DINO for Tuning Zero-Shot Classifier using Unlabeled Image Collections", 2024, arXiv:2411.19346
(class description embedding, DINO-based labelling, DINO-assisted prompt learning).
Code: https://github.com/fazliimam/NoLA
Relations: ``dclip-description`` is its first step alone; ``align=False`` leaves the second out, so that the descriptions' own answers tune
the prompts (self-training). ``maple`` and ``promptsrc`` put prompts into both towers, from labels.

Shapes: U pictures without labels, K classes, D joint width, A width of the other features, M prompt tokens, V width of the image tower, S
sure pictures, B pictures of a step.

::

    told[k] = unit(mean(unit(text(t)) for t in templates and descriptions of class k))
    chance[u] = softmax(scale * picture[u] · told)
    sure = for each k, of the u whose best class is k, the max(16, 0.2 * U / K) with the highest chance[u, k];
           where none has k first, of those that have it second, then third
    head = two layers, A → 256 → K with a ReLU, trained by cross-entropy on (other[u], k) of the sure ones; Adam
    label[u] = argmax(head(other[u]))
    answer[u] = scale * unit(image_tower(crop of x[u]; M prompts at the input)) · classifier, which begins as told
    loss = mean(0.9 * -log softmax(answer[u])[label[u]] + 0.1 * mean(-log softmax(answer[u])) for u in batch); AdamW on prompts,
           classifier and the image tower's layer norms

"Other" features are DINO's in the paper: a self-supervised model that sees more in pictures than CLIP does. Here ``aux`` names any model
that ``diptych.load`` takes, whose image rows serve; it is given the prepared pictures, resized to its own size. Without ``aux`` the model's
own rows serve, which is less than the paper: no second view, only a head that is trained on the surest pictures.

The paper's descriptions come from a language model; here from a file, or keywords of the embedded corpus; a class that it does not know has
its templates alone. The head labels the pictures once, as they are (nor does the paper's weak view move); the student sees random crops,
mirrored (the code also changes colours, blurs and tilts). Code: 50 prompts, uniform within ±sqrt(6 / (3 * 16² + V)); the head in 50 epochs;
then AdamW with decay 0.01 at 4e-3, 50 epochs of batches of 512, rows unscaled. Here see the options; the rate falls by a cosine.
"""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Generator, Tensor
from torch.nn import functional as F

from diptych.adapt.attach import norms as norms_of
from diptych.adapt.attach import trainable
from diptych.adapt.parts.context import frozen
from diptych.adapt.parts.deep import depth_of
from diptych.adapt.parts.shots import Shots
from diptych.adapt.parts.train import fit
from diptych.adapt.parts.words import described, read_words
from diptych.adapt.parts.work import Tuned, Work
from diptych.core.card import Card
from diptych.towers.dual import DualEncoder
from diptych.towers.formats.load import load
from diptych.towers.prompts import Inserted, Prompts

CARD = Card(
    id="nola",
    name="NoLA",
    family="adapt",
    paper="CLIP meets DINO for Tuning Zero-Shot Classifier using Unlabeled Image Collections, arXiv:2411.19346",
    where="class descriptions, DINO-based labelling and DINO-assisted prompt learning",
    code="https://github.com/fazliimam/NoLA",
    needs=frozenset({"unlabelled", "towers"}),
    claim="labels of a head on self-supervised features tune prompts to name more than words, and than the words' own labels do",
    published="+3.6% on average over LaFTer on 11 sets, without labels (abstract)",
)
GRID: dict[str, tuple[float, ...]] = {}
HIDDEN, SMOOTH, DECAY, LEAST, PART = 256, 0.1, 0.01, 16, 0.2


class Options(BaseModel):
    """Settings of :func:`nola`.

    Args:
        aux: a model whose image rows are the other features; None takes the model's own.
        descriptions: a file of them (see ``adapt/parts/words.py``); None takes keywords of the embedded corpus.
        context: M.
        align: off, the descriptions' own answers tune the prompts.
        norms: the image tower's layer norms are trained too.
        align_epochs, epochs: passes over the sure pictures, and over all.
        lr, batch: first learning rate, and pictures of a step, of the tuning.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    aux: str | None = None
    descriptions: str | None = None
    context: int = Field(default=50, ge=1)
    align: bool = True
    norms: bool = True
    align_epochs: int = Field(default=100, ge=1)
    epochs: int = Field(default=20, ge=1)
    lr: float = Field(default=1e-3, gt=0.0)
    batch: int = Field(default=50, ge=1)


def told_rows(shots: Shots, descriptions: str | None) -> Tensor:
    """Unit rows (K, D): the mean of each class's templates and descriptions."""
    words = described(shots.classes) if descriptions is None else read_words(descriptions, shots.classes)
    texts = [
        [prompt.replace("{}", name) for prompt in shots.templates] + [f"{name}, {word}" for word in some]
        for name, some in zip(shots.classes, words, strict=True)
    ]
    row_TD = shots.texts([text for some in texts for text in some])
    return F.normalize(torch.stack([part.mean(0) for part in row_TD.split([len(some) for some in texts])]), dim=1)


def sure(chance_UK: Tensor) -> tuple[Tensor, Tensor]:
    """Indices and labels (S,) of the pictures that each class is surest of; none is taken for two classes."""
    count = max(LEAST, int(PART * len(chance_UK) / chance_UK.shape[1]))
    order_UK, found = chance_UK.argsort(dim=1, descending=True, stable=True), {}
    for k in range(chance_UK.shape[1]):
        for place in range(min(3, chance_UK.shape[1])):
            has = (order_UK[:, place] == k).nonzero()[:, 0]
            if len(has):
                best = has[chance_UK[has, k].argsort(descending=True, stable=True)[:count]]
                for u in best.tolist():
                    found.setdefault(u, k)
                break
    return torch.tensor(list(found)), torch.tensor(list(found.values()))


def aligned(other_UA: Tensor, sure_S: Tensor, label_S: Tensor, classes: int, draw: Generator, epochs: int) -> Tensor:
    """Logits (U, K) of a head of two layers on the other features, trained on the sure pictures (Adam, 1e-3, batches of 32)."""
    layers = [
        (torch.rand(shape, generator=draw) * 2 - 1) / math.sqrt(inputs)
        for rows, inputs in ((HIDDEN, other_UA.shape[1]), (classes, HIDDEN))
        for shape in ((rows, inputs), (rows,))
    ]
    first_HA, bias_H, second_KH, bias_K = (one.requires_grad_() for one in layers)

    def logits(row_BA: Tensor) -> Tensor:
        return F.linear(F.relu(F.linear(row_BA, first_HA, bias_H)), second_KH, bias_K)

    def loss_of(index_B: Tensor) -> Tensor:
        return F.cross_entropy(logits(other_UA[sure_S[index_B]]), label_S[index_B])

    fit([first_HA, bias_H, second_KH, bias_K], loss_of, len(sure_S), draw, epochs=epochs, lr=1e-3, optimizer=torch.optim.Adam)
    with torch.no_grad():
        return logits(other_UA)


def others(work: Work, aux: str | None) -> Tensor:
    """Rows (U, A) of the pictures without labels by the other model, or the model's own."""
    if aux is None:
        return work.shots.pool_UD
    other = load(aux)
    every = torch.arange(len(work.free))
    return torch.cat([other.encode_image([one.permute(1, 2, 0).cpu().numpy() for one in work.free(part)]) for part in every.split(256)])


def first_tokens(model: DualEncoder, count: int, draw: Generator) -> Tensor:
    """Prompts (M, V) as the tuning begins with them."""
    side = getattr(model.config.image, "patch", None) or getattr(model.config.image, "stride", 16)
    bound = math.sqrt(6 / (3 * side**2 + model.image.width))
    return (torch.rand(count, model.image.width, generator=draw) * 2 - 1) * bound


def nola(
    work: Work,
    *,
    aux: str | None = None,
    descriptions: str | None = None,
    context: int = 50,
    align: bool = True,
    norms: bool = True,
    align_epochs: int = 100,
    epochs: int = 20,
    lr: float = 1e-3,
    batch: int = 50,
) -> Tuned:
    """The model with visual prompts and a head; see the module.

    Raises:
        UsageError: the image tower takes no prompts, the model reads some already, the file does not fit, or ``aux`` names no model.
    """
    shots, draw = work.shots, work.shots.draw
    depth_of(work.model, 1, ("image",))
    model, told_KD = frozen(work), told_rows(shots, descriptions)
    chance_UK = (shots.scale * shots.pool_UD @ told_KD.T).softmax(1)
    label_U = chance_UK.argmax(1)
    if align:
        label_U = aligned(others(work, aux), *sure(chance_UK), len(shots.classes), draw, align_epochs).argmax(1)
    token_MV = first_tokens(model, context, draw).to(model.device).requires_grad_()
    class_KD, label_U = told_KD.to(model.device).requires_grad_(), label_U.to(model.device)

    def loss_of(index_B: Tensor) -> Tensor:
        pixels_BCHW = work.free(index_B, draw).to(model.device)
        row_BD = model.image_features(pixels_BCHW, prompts=Inserted((token_MV,)))
        return F.cross_entropy(shots.scale * row_BD @ class_KD.T, label_U[index_B], label_smoothing=SMOOTH)

    with trainable(norms_of(model) if norms else []) as layers:
        learned = [token_MV, class_KD, *layers]
        settings = {"epochs": epochs, "batch": batch, "optimizer": torch.optim.AdamW}
        losses = fit(learned, loss_of, len(label_U), draw, lr=lr, weight_decay=DECAY, **settings)  # type: ignore[arg-type]
    labels = f"a head on rows of {aux or 'its own'}" if align else "words"
    made_by = f"nola, {context} prompts, labels by {labels}, {epochs} epochs"
    head = shots.linear(shots.scale * class_KD.detach().cpu(), made_by=made_by).to(model.device)
    prompts = Prompts.of(image=[token_MV.detach().cpu()], made_by=made_by).to(model.device)
    made = model.with_rule(None).with_prompts(prompts).with_head(head)
    return Tuned(made, sum(one.numel() for one in learned), losses)
