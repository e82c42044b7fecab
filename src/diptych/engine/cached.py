"""Gradient cache: a large contrastive batch in the memory of a small one, with the same gradient.

Paper: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", arXiv:2101.06983, section 3.2.

Rows of all parts are computed without a graph; the loss gives the gradient of the rows; each part then goes through the
towers again, with a graph, and passes its rows' gradient on. What is random is drawn from a seed by step and part, so
that the second pass draws what the first drew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from diptych.core.types import Loss
from diptych.engine.encode import Encoded


def backward(
    parts: Sequence[Callable[[], Encoded]], loss_of: Callable[[Encoded], Loss], hold: Callable[[bool], AbstractContextManager]
) -> Loss:
    """Accumulate the gradient of ``loss_of`` over all parts together; peak memory is one part's graph and all rows.

    Args:
        parts: each computes one part's rows, the same ones at every call.
        loss_of: the loss of the rows of all parts, in order.
        hold: ``hold(last)`` is a context in which gradients of ranks are averaged only when ``last`` is true.
    """
    with torch.no_grad():
        first = [part() for part in parts]
    whole = _leaves(first)
    loss = loss_of(whole)
    loss.total.backward()
    start = 0
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        with hold(last):
            again = part()
            stop = start + len(again.image_BD)
            tensors, grads = _pair(again, whole, slice(start, stop), last)
            torch.autograd.backward(tensors, grads)
            start = stop
    return Loss(loss.total.detach(), {n: t.detach() for n, t in loss.terms.items()}, loss.report)


def _leaves(parts: Sequence[Encoded]) -> Encoded:
    """Rows of all parts as leaves that collect their gradient."""

    def leaf(tensor: Tensor) -> Tensor:
        return tensor.detach().requires_grad_(tensor.is_floating_point())

    bias = parts[0].bias
    return Encoded(
        leaf(torch.cat([p.image_BD for p in parts])),
        leaf(torch.cat([p.text_BD for p in parts])),
        leaf(parts[0].scale),
        None if bias is None else leaf(bias),
        {name: leaf(torch.cat([p.taps[name] for p in parts])) for name in parts[0].taps},
    )


def _pair(again: Encoded, whole: Encoded, rows: slice, last: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Tensors of the second pass that have a graph, each with the gradient that the loss gave it."""
    pairs = [(again.image_BD, whole.image_BD), (again.text_BD, whole.text_BD)]
    pairs += [(again.taps[name], whole.taps[name]) for name in again.taps]
    found = [(tensor, leaf.grad[rows]) for tensor, leaf in pairs if tensor.requires_grad and leaf.grad is not None]
    if last:
        shared = [(again.scale, whole.scale), (again.bias, whole.bias)]
        found += [
            (tensor, leaf.grad)
            for tensor, leaf in shared
            if tensor is not None and leaf is not None and tensor.requires_grad and leaf.grad is not None
        ]
    return [tensor for tensor, _ in found], [grad for _, grad in found]
