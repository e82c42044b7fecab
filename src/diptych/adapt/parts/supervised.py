"""Training weights of a model on labelled pictures against the words of their classes; what the methods that change weights share.

Shapes: B pictures, S labelled pictures, K classes, C classes of one step, P prompt templates, L text length, D joint width.

::

    logits[b, c] = scale * image_tower(crop of picture b) · text_tower(words of class c)
    loss = mean(cross_entropy(logits[b], label[b]) for b)

A tower that is not trained is not run: its rows are those that are at hand. The text tower reads one of the prompt templates in each step,
drawn anew; where there are many classes it reads those of the batch and others drawn at random. Norms that keep running statistics stay
as the parent has them: a model adapted from few pictures has too few for statistics of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from diptych.adapt.attach import copy_of, trainable
from diptych.adapt.parts.train import fit
from diptych.adapt.parts.work import Tuned, Work
from diptych.core.errors import UsageError
from diptych.towers.dual import DualEncoder
from diptych.towers.encode import lengths
from diptych.towers.projection import Centre

TOWERS = {"both": ("image", "text"), "image": ("image",), "text": ("text",)}
MOST = 256  # classes whose words are read in one step


@dataclass(frozen=True, slots=True)
class Words:
    """Token ids of every class in every template.

    Args:
        ids_PKL: cropped to the longest text where the tower may be given cropped ones.
    """

    ids_PKL: Tensor

    @staticmethod
    def of(model: DualEncoder, classes: Sequence[str], templates: Sequence[str]) -> Words:
        """Raises :class:`UsageError` where the model has no tokenizer."""
        if model.tokenizer is None:
            raise UsageError(f"model {model.config.name!r}", "it has no tokenizer", "Give one: DualEncoder(config, tokenizer=…)")
        ids_NL = model.tokenizer([template.replace("{}", name) for template in templates for name in classes])
        if model.text.crops:
            ids_NL = ids_NL[:, : max(int(lengths(ids_NL, model.text.pad_id).max()), 1)]
        return Words(ids_NL.unflatten(0, (len(templates), len(classes))).to(model.device))

    def rows(self, model: DualEncoder, class_C: Tensor, draw: Generator) -> Tensor:
        """Unit rows (C, D) of some classes in one template drawn at random, with gradient."""
        template = int(torch.randint(len(self.ids_PKL), (1,), generator=draw))
        return model.text_features(self.ids_PKL[template, class_C.to(self.ids_PKL.device)])


def classes_of(label_B: Tensor, count: int, most: int, draw: Generator) -> Tensor:
    """Which of ``count`` classes a step compares, ascending: all, or those of the batch and others drawn until there are ``most``."""
    if count <= most:
        return torch.arange(count)
    inside = torch.zeros(count, dtype=torch.bool)
    inside[label_B] = True
    rest = (~inside).nonzero()[:, 0]
    inside[rest[torch.randperm(len(rest), generator=draw)[: max(most - int(inside.sum()), 0)]]] = True
    return inside.nonzero()[:, 0]


def image_rows(work: Work, model: DualEncoder, index_B: Tensor, crops: bool = True) -> Tensor:
    """Unit rows (B, D) of labelled pictures by ``model``, with gradient, cropped and mirrored at random with ``crops``."""
    return model.image_features(work.pictures(index_B, work.shots.draw if crops else None).to(model.device))


def against_words(
    work: Work, model: DualEncoder, towers: Iterable[str], crops: bool = True, most: int = MOST
) -> Callable[[Tensor], Tensor]:
    """The module's loss of the labelled pictures at ``index_B``.

    Args:
        model: what is trained, a copy of ``work.model``.
        towers: which of them are trained.
    """
    shots, names = work.shots, tuple(towers)
    words = Words.of(model, shots.classes, shots.templates) if "text" in names else None

    def loss(index_B: Tensor) -> Tensor:
        label_B = shots.label_S[index_B]
        image_BD = image_rows(work, model, index_B, crops) if "image" in names else shots.image_SD[index_B].to(model.device)
        class_C = classes_of(label_B, len(shots.classes), most, shots.draw)
        text_CD = shots.text_KD[class_C].to(model.device) if words is None else words.rows(model, class_C, shots.draw)
        return F.cross_entropy(shots.scale * image_BD @ text_CD.T, torch.searchsorted(class_C, label_B).to(model.device))

    return loss


def descend(
    work: Work,
    parameters: Iterable[nn.Parameter],
    loss_of: Callable[[Tensor], Tensor],
    *,
    steps: int,
    lr: float,
    batch: int,
    decay: float = 0.0,
) -> tuple[float, ...]:
    """Train ``parameters`` by AdamW for ``steps`` steps, rounded up to whole passes; mean loss of each pass.

    The learning rate falls along a half cosine. Passes are over the labelled pictures in an order drawn anew.
    """
    count = len(work.shots.label_S)
    epochs = max(1, math.ceil(steps / math.ceil(count / batch)))
    with trainable(parameters) as chosen:
        return fit(
            chosen,
            loss_of,
            count,
            work.shots.draw,
            epochs=epochs,
            lr=lr,
            batch=batch,
            optimizer=torch.optim.AdamW,
            weight_decay=decay,
        )


def weights_of(model: DualEncoder, tower: str) -> list[nn.Parameter]:
    """Weights of a tower and its projection; not what the model keeps fixed by itself (a stored centre)."""
    found = [*getattr(model, tower).parameters(), *getattr(model, f"{tower}_projection").parameters()]
    fixed = {id(p) for module in model.modules() if isinstance(module, Centre) for p in module.parameters()}
    return [parameter for parameter in found if id(parameter) not in fixed]


def fine_tuned(work: Work, towers: str, *, steps: int, lr: float, batch: int, decay: float) -> Tuned:
    """A copy of the model with every weight of the towers trained by :func:`against_words`."""
    model = copy_of(work.model)
    every = {id(p): p for tower in TOWERS[towers] for p in weights_of(model, tower)}  # one that both share, once
    losses = descend(work, every.values(), against_words(work, model, TOWERS[towers]), steps=steps, lr=lr, batch=batch, decay=decay)
    return Tuned(model, sum(p.numel() for p in every.values()), losses)
