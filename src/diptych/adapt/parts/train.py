"""The loop that adaptation methods share: a few tensors, an optimiser, a schedule, batches of labelled pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor


def fit(
    tensors: Sequence[Tensor],
    loss_of: Callable[[Tensor], Tensor],
    count: int,
    draw: Generator,
    *,
    epochs: int,
    lr: float,
    batch: int = 32,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
    warm: int = 0,
    after_epoch: Callable[[int], None] | None = None,
    **settings: float,
) -> tuple[float, ...]:
    """Train ``tensors`` by ``loss_of(index_B)``; the learning rate falls along a half cosine. Gives the mean loss of each epoch.

    Args:
        tensors: leaves that require a gradient.
        loss_of: indices of labelled pictures to a scalar loss.
        count: labelled pictures.
        draw: of their order.
        warm: first epochs at the constant rate 1e-5 (CoOp, arXiv:2109.01134, section 4.1).
        after_epoch: called with the number of epochs done.
        settings: of the optimiser.
    """
    chosen = optimizer(list(tensors), lr=lr, **settings)
    steps = math.ceil(count / batch)
    losses, done = [], 0
    with torch.enable_grad():
        for epoch in range(epochs):
            total = torch.zeros(())
            for part in torch.randperm(count, generator=draw).split(batch):
                for group in chosen.param_groups:
                    group["lr"] = 1e-5 if epoch < warm else lr * (1 + math.cos(math.pi * done / (epochs * steps))) / 2
                loss = loss_of(part)
                chosen.zero_grad()
                loss.backward()
                chosen.step()
                total = total + loss.detach().cpu() * len(part) / count
                done += 1
            losses.append(float(total))
            if after_epoch is not None:
                after_epoch(epoch + 1)
    return tuple(losses)
