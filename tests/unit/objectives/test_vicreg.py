"""VICReg by hand, in collapse, and in training."""

from __future__ import annotations

import pytest
import torch
from few_steps import few_steps

from diptych.core.types import Loss, Pairs
from diptych.objectives.views.vicreg import vicreg

HADAMARD = torch.tensor([[1.0, 1, 1], [-1, 1, -1], [1, -1, -1], [-1, -1, 1]], dtype=torch.float64)  # columns of mean 0, at right angles


def loss(z0: torch.Tensor, z1: torch.Tensor, rows: slice = slice(None), **options) -> Loss:
    columns = {"z.0": z0, "z.1": z1}
    taps = {name: value[rows] for name, value in columns.items()}
    empty, none = torch.zeros(len(taps["z.0"]), 1), torch.arange(len(z0))
    return vicreg(Pairs(empty, empty, empty, empty, rows.start or 0, torch.ones(()), None, none, none, taps, columns), **options)


def test_nothing_to_mend_costs_nothing():
    assert loss(HADAMARD, HADAMARD).total.item() == pytest.approx(0)


def test_collapse_costs_the_missing_deviation():
    """Every standard deviation is sqrt(1e-4): two views lack 0.99 each."""
    point = torch.full((5, 7), 0.3, requires_grad=True)
    found = loss(point, point.detach())
    found.total.backward()
    assert found.total.item() == pytest.approx(25 * 2 * 0.99)
    assert point.grad is not None
    assert torch.isfinite(point.grad).all()


def test_terms_by_hand():
    """A shift of 0.5 costs 0.25; one coordinate said twice (variance 4/3) costs (4/3)² for each ordered pair, by the width."""
    found = loss(HADAMARD, HADAMARD + 0.5, invariance_weight=1)
    assert found.terms["invariance"].item() == pytest.approx(0.25)
    twice = HADAMARD[:, [0, 0, 1]]
    assert loss(twice, twice).terms["covariance"].item() == pytest.approx(2 * 2 * (4 / 3) ** 2 / 3)
    half = HADAMARD / 2
    expected = 25 * 2 * (1 - (1 / 3 + 1e-4) ** 0.5)
    assert loss(half, half).terms["variance"].item() == pytest.approx(expected)
    assert loss(half, half, target=0.5).terms["variance"].item() == 0


def test_halves_average_to_the_whole():
    z0, z1 = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    halves = [loss(z0, z1, slice(0, 3)).total.item(), loss(z0, z1, slice(3, 6)).total.item()]
    assert sum(halves) / 2 == pytest.approx(loss(z0, z1).total.item())


def test_head_and_image_tower_learn():
    taught = few_steps("vicreg", steps=30)
    assert all(taught.moved().values())
    assert all(p.grad is not None for p in taught.stepper.model.image.parameters())
    assert taught.losses[-1] < taught.losses[0] - 1
