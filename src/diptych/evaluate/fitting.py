"""What probes and calibrations are fitted on: the train and validation splits of the set that is evaluated, never the test split.

Both come through :meth:`View.companion`, which refuses splits that hold a test picture. Labels are matched by class name, so a split may
list its classes in another order; pictures of other classes, and pictures without label, are left out.
Shapes: N pictures to fit on, M pictures to choose by, D joint width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from diptych.core.errors import UsageError
from diptych.evaluate.outcome import Question

HELD = 5  # one picture in so many is held out where there is no validation split


@dataclass(frozen=True, slots=True)
class Part:
    """Rows with labels among the question's classes, and their concepts."""

    image_ND: Tensor
    label_N: Tensor
    group_N: Tensor

    def __len__(self) -> int:
        return len(self.label_N)

    def take(self, index: Tensor) -> Part:
        """Only the rows at ``index``."""
        return Part(self.image_ND[index], self.label_N[index], self.group_N[index])

    def __add__(self, other: Part) -> Part:
        """Both, one after the other; their concepts are taken for different ones."""
        group_N = torch.cat([self.group_N, other.group_N + int(self.group_N.max()) + 1])
        return Part(torch.cat([self.image_ND, other.image_ND]), torch.cat([self.label_N, other.label_N]), group_N)


def part(question: Question, role: str, classes: Sequence[str] | None = None) -> Part:
    """The labelled pictures of one companion.

    Args:
        classes: only pictures of these, with labels among them; None takes the question's.

    Raises:
        UsageError: none of its pictures has one of the classes.
        SealedError: it is to be fitted on and holds test pictures.
    """
    split = question.view.companion(role)
    known = {name: k for k, name in enumerate(question.classes if classes is None else classes)}
    new = torch.tensor([known.get(name, -1) for name in split.classes] + [-1])  # the last is for pictures without label
    label_N = new[torch.where(split.table.label_N < 0, len(split.classes), split.table.label_N)]
    index_M = (label_N >= 0).nonzero()[:, 0]
    if not len(index_M):
        why = f"its {role} split has no picture with a label of the set's own classes"
        raise UsageError(f"set {question.view.data.name!r}", why, "Give the splits one list of class names")
    return Part(split.image_ND[index_M], label_N[index_M], split.table.group_N[index_M])


def asked(question: Question) -> tuple[Part, Tensor]:
    """The question's labelled pictures and their index."""
    index_N = (question.table.label_N >= 0).nonzero()[:, 0]
    return Part(question.image_ND[index_N], question.table.label_N[index_N], question.table.group_N[index_N]), index_N


def splits(question: Question) -> tuple[Part, Part]:
    """The train and the validation split; without one, :data:`HELD` of train are held out, drawn by the seed within each class."""
    train = part(question, "train")
    if question.view.has("validation"):
        return train, part(question, "validation")
    return hold_out(train, question.view.generator("hold out"))


def calibration(question: Question) -> Part:
    """The validation split, else the pictures that :func:`splits` holds out of train."""
    return part(question, "validation") if question.view.has("validation") else splits(question)[1]


def hold_out(train: Part, stream: Generator) -> tuple[Part, Part]:
    """Two parts without a picture in common: of each class with n pictures, n // :data:`HELD` (at least 1 where n > 1) go to the second.

    Raises:
        UsageError: no class has two pictures, so nothing can be held out.
    """
    order_N = torch.randperm(len(train), generator=stream)
    order_N = order_N[train.label_N[order_N].argsort(stable=True)]
    count_K = torch.bincount(train.label_N)
    start_K = count_K.cumsum(0) - count_K
    place_N = torch.arange(len(train)) - start_K[train.label_N[order_N]]
    held_K = torch.where(count_K > 1, (count_K // HELD).clamp(min=1), 0)
    held_N = place_N < held_K[train.label_N[order_N]]
    if not bool(held_N.any()):
        raise UsageError("train split", "no class has two pictures, so none can be held out to choose by", "Give a validation split")
    return train.take(order_N[~held_N].sort().values), train.take(order_N[held_N].sort().values)


def can_fit(question: Question) -> bool:
    """There are classes, labels and a train split."""
    return named(question) and question.more is not None and question.more.has("train")


def named(question: Question) -> bool:
    """There are classes and labels."""
    return bool(question.classes) and bool((question.table.label_N >= 0).any())


def scale(model: Any) -> float:
    """What the model multiplies similarities with. Raises :class:`UsageError` where it has none and so gives no probabilities."""
    if not hasattr(model, "scale"):
        raise UsageError(
            f"model {model.config.name!r}", "it has no scale, so its similarities are no logits", "Take one trained by contrast"
        )
    return float(torch.as_tensor(model.scale).detach())
