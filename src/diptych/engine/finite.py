"""Finds where the first value that is not finite came from: which module, which samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from diptych.core.errors import DiptychError
from diptych.core.types import Batch

NAMED_IDS = 5


def _tensors(value: Any) -> list[Tensor]:
    """Every floating tensor inside a module's output (tensors, tuples, dicts, dataclasses)."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        return [t for inner in value.values() for t in _tensors(inner)]
    if isinstance(value, (tuple, list)):
        return [t for inner in value for t in _tensors(inner)]
    fields = getattr(value, "__dataclass_fields__", {})
    return [t for name in fields for t in _tensors(getattr(value, name))]


def _bad_rows(tensor: Tensor, rows: int) -> list[int]:
    """Which of ``rows`` batch rows are not finite; all of them where the tensor's first axis is another one."""
    if tensor.ndim == 0 or len(tensor) != rows:
        return list(range(rows))
    return (~torch.isfinite(tensor).flatten(1).all(1)).nonzero().flatten().tolist() if tensor.ndim > 1 else list(range(rows))


def explain(module: nn.Module, run_again: Callable[[], Any], batch: Batch, step: int, saved: str) -> DiptychError:
    """The error to raise after a step that gave a value that is not finite.

    Args:
        module: whose submodules are watched in the order in which they finish.
        run_again: repeats forward and backward on ``batch`` without an update.
        saved: where the last good checkpoint is, in words.
    """
    first: list[tuple[str, list[int]]] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            for tensor in _tensors(output):
                if not first and not torch.isfinite(tensor).all():
                    first.append((name, _bad_rows(tensor, len(batch))))

        return hook

    weights = [name for name, p in module.named_parameters() if not torch.isfinite(p).all()]
    hooks = [inner.register_forward_hook(watch(name)) for name, inner in module.named_modules() if name]
    try:
        run_again()
    finally:
        for hook in hooks:
            hook.remove()
    gradients = [name for name, p in module.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
    rows = list(range(len(batch)))
    if weights:
        where = f"weights of {weights[0]} are not finite"
    elif first:
        name, rows = first[0]
        where = f"first in the output of {name}"
    elif gradients:
        where = f"first in the gradient of {gradients[-1]}, with a finite forward pass"
    else:
        where = "in the loss or on another rank; the towers' own pass over this rank's batch is finite"
    ids = ", ".join(batch.ids[row] for row in rows[:NAMED_IDS])
    more = f" and {len(rows) - NAMED_IDS} more" if len(rows) > NAMED_IDS else ""
    return DiptychError(
        f"step {step}: a value that is not finite, {where.removeprefix('model.')}".replace("output of model.", "output of ")
        .replace("gradient of model.", "gradient of ")
        .replace("weights of model.", "weights of "),
        f"the samples were {ids}{more}; {saved}",
        "Lower optim.lr, lengthen optim.warmup or look at these samples",
    )
