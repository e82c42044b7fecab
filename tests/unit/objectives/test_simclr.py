"""SimCLR by hand, in collapse, on two ranks' shares, and in training."""

from __future__ import annotations

import math

import pytest
import torch
from few_steps import few_steps

from diptych.core.errors import UsageError
from diptych.core.types import Loss, Pairs
from diptych.objectives.views.simclr import chance, simclr


def loss(z0, z1, rows=slice(None), **options) -> Loss:
    columns = {"z.0": torch.as_tensor(z0), "z.1": torch.as_tensor(z1)}
    taps = {name: value[rows] for name, value in columns.items()}
    n = len(columns["z.0"])
    empty, one = torch.zeros(len(taps["z.0"]), 1), torch.ones(())
    return simclr(Pairs(empty, empty, empty, empty, rows.start or 0, one, None, torch.arange(n), torch.arange(n), taps, columns), **options)


def test_two_pictures_by_hand():
    """Equal views of two pictures at right angles, temperature 1: each row sees its other view at 1 and two rows at 0."""
    rows = [[3.0, 0.0], [0.0, 5.0]]
    assert loss(rows, rows, temperature=1.0).total.item() == pytest.approx(math.log(math.e + 2) - 1)
    assert loss(rows, rows, temperature=1.0).report["view_accuracy"] == 1


def test_collapse_costs_chance():
    rows = torch.ones(5, 4)
    found = loss(rows, rows)
    assert found.total.item() == pytest.approx(chance(5))
    assert found.report["spread"].item() == pytest.approx(0, abs=1e-6)


def test_halves_average_to_the_whole():
    z0, z1 = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    halves = [loss(z0, z1, slice(0, 3)).total, loss(z0, z1, slice(3, 6)).total]
    assert halves[0].item() != pytest.approx(halves[1].item())
    assert sum(half.item() for half in halves) / 2 == pytest.approx(loss(z0, z1).total.item())


@pytest.mark.parametrize("assignment", ["objective.options.layers=1", "objective.options.norm=batch", "objective.options.layers=0"])
def test_head_and_image_tower_learn(assignment):
    taught = few_steps("simclr", assignment)
    assert all(taught.moved().values())
    model = taught.stepper.model
    assert all(p.grad is not None for p in model.image.parameters())
    assert all(p.grad is None for p in [*model.text.parameters(), *model.image_projection.parameters(), model.log_scale])


def test_loss_falls():
    """Views that differ by a flip only are soon told apart from other drawings."""
    losses = few_steps("simclr", 'data.views=[{"flip": 0.5}, {"flip": 0.5}]', steps=30).losses
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])


def test_gradient_cache_is_exact_without_a_batch_norm_and_refused_with_one():
    whole, parts = few_steps("simclr", steps=2), few_steps("simclr", "data.micro=4", steps=2)
    assert parts.losses == pytest.approx(whole.losses, abs=1e-4)
    with pytest.raises(UsageError, match="trainable batch norm"):
        few_steps("simclr", "data.micro=4", "objective.options.norm=batch")
