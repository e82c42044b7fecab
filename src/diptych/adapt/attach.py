"""The only code that changes a tower: low-rank and singular-value changes of any matrix, and which parameters are trained; all reversible.

A change is a parametrisation of a weight: the parent's tensor stays where it is, untouched, and what the layer multiplies with is made of
it at each use. Detaching gives the parent's tensor back, bit for bit; merging writes the changed weight in its place, after which the
tower is an ordinary one. A fused projection of queries, keys and values is three matrices, each with its own change. The parent's tensors
get no gradient through a change. A matrix that two towers share is changed once, for both.

Papers: Hu et al. (LoRA), arXiv:2106.09685, section 4.1; singular values: Koleilat et al. (CLIP-SVD), arXiv:2509.03740, and
Han et al. (SVDiff), arXiv:2303.11305, section 3.2.

Shapes: O outputs, I inputs, R rank, P matrices in a fused weight.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn.utils import parametrize

from diptych.core.errors import UsageError
from diptych.towers.dual import DualEncoder


class LowRank(nn.Module):
    """``weight + scale * up @ down`` for each of the P matrices of a fused weight; ``up`` starts at zero, so nothing changes at first."""

    def __init__(self, weight_OI: Tensor, rank: int, scale: float, parts: int, draw: Generator) -> None:
        super().__init__()
        rows, columns = weight_OI.shape
        bound = 1 / math.sqrt(columns)
        down = (torch.rand(parts, rank, columns, generator=draw) * 2 - 1) * bound
        self.down = nn.Parameter(down.to(weight_OI))
        self.up = nn.Parameter(weight_OI.new_zeros(parts, rows // parts, rank))
        self.scale = scale

    def forward(self, weight_OI: Tensor) -> Tensor:
        return weight_OI.detach() + self.scale * (self.up @ self.down).flatten(0, 1)


class Singular(nn.Module):
    """``weight + U diag(change) Vᵀ`` for each of the P matrices: their singular values are what is trained, zero changes nothing.

    ``start`` has the parent's singular values, the largest first, as ``(P, R)``. They are found in float64.
    """

    left: Tensor
    right: Tensor
    start: Tensor

    def __init__(self, weight_OI: Tensor, parts: int) -> None:
        super().__init__()
        left, start, right = torch.linalg.svd(weight_OI.detach().double().unflatten(0, (parts, -1)), full_matrices=False)
        self.register_buffer("left", left.to(weight_OI), persistent=False)
        self.register_buffer("right", right.to(weight_OI), persistent=False)
        self.register_buffer("start", start.to(weight_OI), persistent=False)
        self.change = nn.Parameter(torch.zeros_like(self.start))

    def forward(self, weight_OI: Tensor) -> Tensor:
        return weight_OI.detach() + ((self.left * self.change[:, None]) @ self.right).flatten(0, 1)


@dataclass(frozen=True)
class Attached:
    """Changes on a model, and the way back: one of :meth:`detach` and :meth:`merge`, once.

    Args:
        model: the changed model; its weights are those that :meth:`merge` writes to, so it should be a copy (:func:`copy_of`).
        layers: the linear layers whose weight is parametrised.
        changes: the parametrisation of each.
    """

    model: DualEncoder
    layers: tuple[nn.Linear, ...]
    changes: tuple[nn.Module, ...]

    def parameters(self) -> list[nn.Parameter]:
        """What is to be trained."""
        return [parameter for change in self.changes for parameter in change.parameters()]

    def numbers(self) -> int:
        """How many numbers are trained."""
        return sum(p.numel() for p in self.parameters())

    def detach(self) -> DualEncoder:
        """The model as it was before, bit for bit. Raises :class:`UsageError` where the changes are gone already."""
        return self._off(merged=False)

    def merge(self) -> DualEncoder:
        """The model with the changes written into its weights: an ordinary model of the same shape. Raises as :meth:`detach` does."""
        return self._off(merged=True)

    def _off(self, merged: bool) -> DualEncoder:
        for layer, change in zip(self.layers, self.changes, strict=True):
            if not parametrize.is_parametrized(layer, "weight") or layer.parametrizations["weight"][0] is not change:  # type: ignore[index]
                raise UsageError("attached changes", "they were merged or detached already", "Attach them again first")
        with torch.no_grad():
            for layer in self.layers:
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=merged)
                layer._parameters["bias"] = layer._parameters.pop("bias")  # behind the weight again, as in any linear layer
        return self.model


def linears(model: DualEncoder, towers: Iterable[str] = ("image", "text"), names: Iterable[str] = ()) -> dict[str, nn.Linear]:
    """Linear layers inside the towers' blocks and attention pooling by their dotted names, in order; one that both share, once.

    Args:
        towers: ``"image"``, ``"text"``.
        names: ends of the dotted names to keep (``"qkv"``, ``"mlp.up"``); all by default.

    Raises:
        UsageError: a tower is unknown, or nothing is left.
    """
    ends, found, seen = tuple(names), {}, set()
    for tower in _known(towers):
        for part in ("blocks", "attention_pool"):
            for path, module in getattr(getattr(model, tower), part, nn.Identity()).named_modules():
                if isinstance(module, nn.Linear) and module not in seen and (not ends or f".{path}".endswith(tuple(f".{e}" for e in ends))):
                    found[f"{tower}.{part}.{path}"] = module
                    seen.add(module)
    if not found:
        what = f"linear layers {', '.join(ends)}" if ends else "linear layers in blocks"
        raise UsageError(
            f"model {model.config.name!r}", f"its {' and '.join(towers)} tower has no {what}", "Choose another tower or method"
        )
    return found


def _known(towers: Iterable[str]) -> tuple[str, ...]:
    """The towers' names. Raises :class:`UsageError` for another one."""
    names = tuple(towers)
    if wrong := next((name for name in names if name not in ("image", "text")), None):
        raise UsageError(f"tower {wrong!r}", "a dual encoder has an image and a text tower", "Say image or text")
    return names


def parts_of(name: str) -> int:
    """How many matrices a weight of this name holds: a fused query, key and value projection has three."""
    return 3 if name.endswith("qkv") else 1


def attach(model: DualEncoder, layers: dict[str, nn.Linear], make: Callable[[str, Tensor], nn.Module]) -> Attached:
    """Put ``make(name, weight)`` on the weight of each layer.

    Raises:
        UsageError: a layer carries a change already, is another model's, or stands there under two names.
    """
    if not set(layers.values()) <= set(model.modules()):
        raise UsageError("layers to change", "one of them is another model's", "Name them by linears(model) of the model itself")
    for name, layer in layers.items():
        if parametrize.is_parametrized(layer):
            raise UsageError(f"layer {name}", "it carries a change already", "Merge or detach that first")
    if len(set(layers.values())) < len(layers):
        raise UsageError("layers to change", "one of them is there under two names", "Name each once; see linears()")
    changes = tuple(make(name, layer.weight) for name, layer in layers.items())
    for layer, change in zip(layers.values(), changes, strict=True):
        parametrize.register_parametrization(layer, "weight", change)
    return Attached(model, tuple(layers.values()), changes)


def lora(model: DualEncoder, layers: dict[str, nn.Linear], draw: Generator, *, rank: int = 4, alpha: float = 4.0) -> Attached:
    """Low-rank changes of scale ``alpha / rank`` on ``layers`` (LoRA, section 4.1), which change nothing until they are trained."""
    return attach(model, layers, lambda name, weight: LowRank(weight, rank, alpha / rank, parts_of(name), draw))


def singular_values(model: DualEncoder, layers: dict[str, nn.Linear]) -> Attached:
    """Trainable changes of the singular values of ``layers``; the model computes exactly what it did until they are trained."""
    return attach(model, layers, lambda name, weight: Singular(weight, parts_of(name)))


def copy_of(model: DualEncoder) -> DualEncoder:
    """A copy with weights of its own, none of them trainable, in evaluation mode; the given model stays as it is."""
    made = copy.deepcopy(model).eval()
    return made.requires_grad_(False)


def norms(model: DualEncoder, towers: Iterable[str] = ("image",)) -> list[nn.Parameter]:
    """Gains and biases of the towers' layer norms (those behind the blocks too), in order, each once.

    Raises:
        UsageError: a tower is unknown, or none has a layer norm.
    """
    names = _known(towers)
    modules = [module for tower in names for module in getattr(model, tower).modules() if isinstance(module, nn.LayerNorm)]
    found = list({id(parameter): parameter for module in modules for parameter in module.parameters()}.values())
    if not found:
        raise UsageError(f"model {model.config.name!r}", f"its {' and '.join(names)} tower has no layer norm", "Choose another method")
    return found


@contextmanager
def trainable(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """The parameters with gradients inside, as they were afterwards."""
    chosen = list(parameters)
    before = [parameter.requires_grad for parameter in chosen]
    for parameter in chosen:
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad():
            yield chosen
    finally:
        for parameter, wanted in zip(chosen, before, strict=True):
            parameter.requires_grad_(wanted).grad = None


@torch.no_grad()
def between(parent: DualEncoder, child: DualEncoder, share: float) -> DualEncoder:
    """Weights ``(1 - share) * parent + share * child`` (WiSE-FT, arXiv:2109.01903, section 3), a copy; its config is the child's.

    Raises:
        UsageError: the two are not of one architecture.
    """
    mine, theirs = parent.state_dict(), child.state_dict()
    wanted = {name for name in theirs if not name.startswith(("head.", "prompts.", "rule."))}
    if wanted - set(mine) or any(mine[name].shape != theirs[name].shape for name in wanted):
        raise UsageError("interpolation", "the two models have not the same towers", "Interpolate a model with its own parent")
    made = copy_of(child)
    for name, value in made.state_dict().items():
        if name in wanted and value.is_floating_point():
            value.copy_(torch.lerp(mine[name].to(value), theirs[name].to(value), share))
    return made
