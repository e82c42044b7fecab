"""AdamW with weight-decay groups, the schedule, and the moving average of weights.

Papers: AdamW, Loshchilov & Hutter, arXiv:1711.05101, algorithm 2; cosine, Loshchilov & Hutter, arXiv:1608.03983, equation 5
(one cycle); moving average, Polyak & Juditsky 1992, with the usual warm-up of its decay.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from diptych.engine.run import OptimConfig


def decays(parameter: Tensor) -> bool:
    """Whether weight decay applies: to matrices, tables and kernels, not to vectors and scalars."""
    return parameter.ndim >= 2


def build(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW (fused) on the trainable parameters, in two groups: with and without weight decay."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if decays(p)], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if not decays(p)], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def rate(config: OptimConfig, progress: float, step_share: float) -> float:
    """The learning rate of a step.

    Args:
        progress: share of the budget that is spent before the step, 0 to 1.
        step_share: share of the budget that one step takes; the first step of the warm-up gets ``lr × step_share / warmup``.
    """
    if progress < config.warmup:
        return config.lr * min((progress + step_share) / config.warmup, 1.0)
    if config.schedule == "constant":
        return config.lr
    along = min((progress - config.warmup) / (1.0 - config.warmup), 1.0)
    return config.lr * (config.floor + (1.0 - config.floor) * 0.5 * (1.0 + math.cos(math.pi * along)))


class Ema:
    """A moving average of the trainable parameters: ``a ← d·a + (1 − d)·w`` with d rising as (1 + n)/(10 + n) to ``decay``."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.model = model
        self.average = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        live = dict(self.model.named_parameters())
        names = list(self.average)
        torch._foreach_lerp_([self.average[n] for n in names], [live[n].detach() for n in names], 1.0 - decay)

    @contextmanager
    @torch.no_grad()
    def in_place(self) -> Iterator[None]:
        """Within the context the model has the averaged weights."""
        live = dict(self.model.named_parameters())
        kept = {name: live[name].detach().clone() for name in self.average}
        self.apply()
        try:
            yield
        finally:
            for name, value in kept.items():
                live[name].copy_(value)

    @torch.no_grad()
    def apply(self) -> None:
        """Give the model the averaged weights for good."""
        live = dict(self.model.named_parameters())
        for name, value in self.average.items():
            live[name].copy_(value)
