"""Barlow Twins by hand, in collapse, and in training."""

from __future__ import annotations

import pytest
import torch
from few_steps import few_steps

from diptych.core.types import Loss, Pairs
from diptych.objectives.views.barlow_twins import barlow_twins

HADAMARD = torch.tensor([[1.0, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]], dtype=torch.float64)  # columns of mean 0, at right angles


def loss(z0: torch.Tensor, z1: torch.Tensor, **options) -> Loss:
    columns, empty, none = {"z.0": z0, "z.1": z1}, torch.zeros(len(z0), 1), torch.arange(len(z0))
    return barlow_twins(Pairs(empty, empty, empty, empty, 0, torch.ones(()), None, none, none, columns, columns), **options)


def test_equal_views_without_redundancy_cost_nothing():
    assert loss(3 * HADAMARD + 7, 5 * HADAMARD).total.item() == pytest.approx(0, abs=1e-9)


def test_one_coordinate_said_three_times():
    """Diagonal 1; the six other correlations are 1."""
    same = HADAMARD[:, :1].expand(4, 3)
    assert loss(same, same, off_diagonal=0.01).total.item() == pytest.approx(6 * 0.01, abs=1e-4)


def test_unrelated_views_cost_the_width():
    found = loss(HADAMARD, HADAMARD[:, [1, 2, 0]], off_diagonal=0.01)
    assert found.terms["diagonal"].item() == pytest.approx(3)
    assert found.terms["off_diagonal"].item() == pytest.approx(3 * 0.01, abs=1e-4)


def test_collapse_costs_the_width_and_stays_finite():
    point = torch.full((5, 7), 0.3, requires_grad=True)
    found = loss(point, point.detach())
    found.total.backward()
    assert found.total.item() == pytest.approx(7)
    assert point.grad is not None
    assert torch.isfinite(point.grad).all()


def test_head_and_image_tower_learn():
    taught = few_steps("barlow-twins", steps=30)
    assert all(taught.moved().values())
    assert all(p.grad is not None for p in taught.stepper.model.image.parameters())
    assert taught.losses[-1] < 0.8 * taught.losses[0]
