"""AdamW with weight-decay groups, the schedule, and the moving average of weights.

Papers: AdamW, Loshchilov & Hutter, arXiv:1711.05101, algorithm 2; cosine, Loshchilov & Hutter, arXiv:1608.03983, equation 5
(one cycle); moving average, Polyak & Juditsky 1992, with the usual warm-up of its decay.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from diptych.engine.run import OptimConfig


def decays(parameter: Tensor) -> bool:
    """Whether weight decay applies: to matrices, tables and kernels, not to vectors and scalars."""
    return parameter.ndim >= 2


def build(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW (fused) on the trainable parameters, in groups with and without weight decay."""
    groups = []
    for alike in by_kind(p for p in model.parameters() if p.requires_grad):
        for decay, flag in ((config.weight_decay, True), (0.0, False)):
            if members := [p for p in alike if decays(p) is flag]:
                groups.append({"params": members, "weight_decay": decay})
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def by_kind(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Shards apart from plain tensors, since one kernel cannot take both; empty kinds are left out."""
    plain: list[Tensor] = []
    shards: list[Tensor] = []
    for tensor in tensors:
        (shards if hasattr(tensor, "full_tensor") else plain).append(tensor)
    return [kind for kind in (plain, shards) if kind]


def clip(model: nn.Module, limit: float | None) -> Tensor:
    """Scale all gradients so that their common norm is at most ``limit``; returns the norm before that."""
    kinds = by_kind(p for p in model.parameters() if p.grad is not None)
    norms = [nn.utils.get_total_norm([p.grad for p in kind if p.grad is not None]) for kind in kinds]
    norm = torch.stack([getattr(n, "full_tensor", lambda n=n: n)() for n in norms]).norm()
    if limit is not None:
        for kind in kinds:
            nn.utils.clip_grads_with_norm_(kind, limit, norm)
    return norm


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
        for average, weights in zip(by_kind(self.average.values()), by_kind(live[n].detach() for n in self.average), strict=True):
            torch._foreach_lerp_(average, weights, 1.0 - decay)

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
