"""A second model that judges answers, and a student of which some tensors are moved for one picture and put back.

Shapes: V views, H height, W width of a picture or of the text tower, K classes, D joint width, M context tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diptych.adapt.attach import copy_of, norms
from diptych.adapt.parts.context import Names
from diptych.adapt.parts.stream import words
from diptych.core.errors import UsageError

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder

_judging: set[str] = set()


@contextmanager
def judge(name: str) -> Iterator[DualEncoder]:
    """The second model. Raises :class:`UsageError` where its own answers would ask for itself."""
    from diptych.towers.formats.load import load

    if name in _judging:
        raise UsageError(f"reward {name!r}", "that model is itself rewarded by this one, without end", "Name a model without such a rule")
    _judging.add(name)
    try:
        yield load(name).with_rule(None).with_head(None).eval()
    finally:
        _judging.remove(name)


class Moving:
    """Tensors that are tuned for a picture, and where the next picture starts.

    Args:
        tensors: leaves; what they hold now is the parent's start.
        lr: learning rate.
    """

    def __init__(self, tensors: Sequence[Tensor], lr: float) -> None:
        self.tensors, self.lr = [tensor.requires_grad_() for tensor in tensors], lr
        self.parent = [tensor.detach().clone() for tensor in tensors]
        self.forget()

    def forget(self) -> None:
        """The next picture starts from the parent."""
        self.start = [tensor.clone() for tensor in self.parent]

    @torch.no_grad()
    def begin(self) -> None:
        """To the start, with a new optimiser."""
        for tensor, start in zip(self.tensors, self.start, strict=True):
            tensor.copy_(start)
        self.optimizer = torch.optim.AdamW(self.tensors, lr=self.lr, weight_decay=5e-4)

    def step(self, loss: Tensor) -> None:
        """One step; nothing else gets a gradient."""
        for tensor, gradient in zip(self.tensors, torch.autograd.grad(loss, self.tensors), strict=True):
            tensor.grad = gradient
        self.optimizer.step()

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """The start goes towards what was tuned."""
        self.start = [torch.lerp(tensor, start, momentum) for tensor, start in zip(self.tensors, self.start, strict=True)]


def student(model: DualEncoder, labels: tuple[str, ...], numbers: dict[str, Tensor], options: dict[str, Any]) -> tuple[Moving, Callable]:
    """What is tuned, and from views (V, 3, H, W) to a function that gives their logits (V, K) as it is tuned."""
    scale = model.scale.detach()
    if options["tunes"] == "norms":
        own, text_KD = copy_of(model.with_rule(None)), words(model, labels, options["templates"]).to(scale)
        tuned = Moving(norms(own), options["lr"])
        return tuned, lambda seen_VCHW: lambda index: scale * own.image_features(seen_VCHW[index]) @ text_KD.T
    context_MW = numbers["context"].to(scale).clone()
    names = Names(model, [options["after"].replace("{}", label) for label in labels], len(context_MW))

    def see(seen_VCHW: Tensor) -> Callable[[Tensor], Tensor]:
        with torch.no_grad():
            image_VD = scale * model.image_features(seen_VCHW)
        return lambda index: image_VD[index] @ names.rows(context_MW).T

    return Moving([context_MW], options["lr"]), see
