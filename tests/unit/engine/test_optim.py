"""Schedule, groups, average and clipping against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from diptych.engine import optim
from diptych.engine.budget import Budget
from diptych.engine.run import BudgetConfig, OptimConfig


def test_cosine_with_warm_up_by_hand():
    """10 steps, 2 of warm-up: lr/2, lr, then the half cosine over 8."""
    config = OptimConfig(lr=2.0, warmup=0.2)
    rates = [optim.rate(config, step / 10, 0.1) for step in range(10)]
    assert rates[:2] == pytest.approx([1.0, 2.0])
    assert rates[2:] == pytest.approx([2.0 * 0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(8)])
    floor = OptimConfig(lr=2.0, warmup=0.0, floor=0.1)
    assert optim.rate(floor, 1.0, 0.1) == pytest.approx(0.2)
    assert optim.rate(OptimConfig(lr=2.0, schedule="constant"), 0.9, 0.1) == 2.0


def test_decay_is_for_matrices_only():
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Conv2d(1, 2, 3))
    model[2].weight.requires_grad_(False)
    groups = optim.build(model, OptimConfig(weight_decay=0.3)).param_groups
    assert {(g["weight_decay"], tuple(tuple(p.shape) for p in g["params"])) for g in groups} == {
        (0.3, ((4, 3),)),
        (0.0, ((4,), (4,), (4,), (2,))),
    }


def test_average_follows_its_recursion():
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    ema, wanted = optim.Ema(model, 0.5), 0.0
    for n, value in enumerate((1.0, 2.0, 3.0, -1.0), start=1):
        model.weight.data.fill_(value)
        ema.update()
        decay = min(0.5, (1 + n) / (10 + n))
        wanted = decay * wanted + (1 - decay) * value
        assert ema.average["weight"].item() == pytest.approx(wanted, abs=1e-6)
    with ema.in_place():
        assert model.weight.item() == pytest.approx(wanted, abs=1e-6)
    assert model.weight.item() == -1.0


def test_clip_equals_torch():
    torch.manual_seed(0)
    one, two = nn.Linear(5, 5), nn.Linear(5, 5)
    two.load_state_dict(one.state_dict())
    for model in (one, two):
        model(torch.arange(5.0)).square().sum().backward()
    norm = optim.clip(one, 0.5)
    torch.testing.assert_close(norm, nn.utils.clip_grad_norm_(two.parameters(), 0.5))
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_budget_counts_steps_samples_epochs_and_seconds():
    assert Budget(BudgetConfig(samples=100), 16, 0).steps_limit == 7
    assert Budget(BudgetConfig(epochs=2), 16, 60).steps_limit == 7
    clock = Budget(BudgetConfig(seconds=1000), 16, 0)
    clock.start(step=5, seconds=500)
    assert clock.progress == pytest.approx(0.5, abs=0.01)
    assert clock.step_share == pytest.approx(0.1, abs=0.01)
    assert not clock.spent
    clock.start(step=9, seconds=1000)
    assert clock.spent
