"""The power spherical density against integrals, VI-SimSiam's stopped gradients, and what its concentration learns."""

from __future__ import annotations

import math

import pytest
import torch
from few_steps import few_steps

from diptych.core.types import Pairs
from diptych.objectives.views.vi_simsiam import Method, Options, log_density, vi_simsiam
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset
from diptych.towers.see import See


def circle(n: int = 20_000) -> torch.Tensor:
    angle = torch.arange(n, dtype=torch.float64) * (2 * math.pi / n)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


@pytest.mark.parametrize("kappa", [0.001, 1.0, 7.5, 80.0])
def test_density_on_the_circle_sums_to_one_with_the_mean_cosine(kappa):
    points = circle()
    mean = torch.tensor([[0.6, 0.8]], dtype=torch.float64).expand_as(points)
    density = log_density(points, mean, torch.full((len(points),), kappa, dtype=torch.float64)).exp() * (2 * math.pi / len(points))
    assert density.sum().item() == pytest.approx(1, abs=1e-6)
    assert (density * (points * mean).sum(1)).sum().item() == pytest.approx(kappa / (kappa + 1), abs=1e-6)


def test_no_concentration_is_one_over_the_surface():
    target, mean = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    assert log_density(target, mean, torch.zeros(1)).item() == pytest.approx(-math.log(4 * math.pi), abs=1e-6)


def test_opposite_target_is_improbable_yet_finite():
    mean = torch.tensor([[1.0, 0.0, 0.0]], requires_grad=True)
    value = log_density(torch.tensor([[-1.0, 0.0, 0.0]]), mean, torch.tensor([50.0]))
    value.sum().backward()
    assert -1000 < value.item() < -500
    assert mean.grad is not None
    assert torch.isfinite(mean.grad).all()


def test_concentration_falls_where_targets_scatter():
    """The maximum of the likelihood gives small κ to the rows whose targets scatter, large κ to those whose targets lie near."""
    draw = torch.Generator().manual_seed(0)
    mean = torch.randn(400, 8, generator=draw)
    noise = torch.cat([torch.full((200, 1), 0.3), torch.full((200, 1), 3.0)])
    target = mean + noise * torch.randn(400, 8, generator=draw)
    raw = torch.zeros(2, requires_grad=True)
    optimiser = torch.optim.Adam([raw], lr=0.1)
    for _ in range(200):
        kappa = raw.exp().repeat_interleave(200)
        taps = {"m.0": mean, "m.1": mean, "t.0": target, "t.1": target, "k.0": kappa, "k.1": kappa}
        empty, none = torch.zeros(400, 1), torch.arange(400)
        loss = vi_simsiam(Pairs(empty, empty, empty, empty, 0, torch.ones(()), None, none, none, taps)).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    near, far = raw.exp().tolist()
    assert near > 10 * far


def test_targets_have_no_graph_and_concentrations_keep_their_bounds():
    model = DualEncoder(preset("tiny"))
    method = Method(model, Options(max_concentration=90.0))
    views = torch.randint(0, 256, (2, 6, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    see = See(model, views[0], None, torch.Generator(), {"view.0": views[0], "view.1": views[1]})
    rows = method.rows(see)
    assert [name for name, row in sorted(rows.items()) if not row.requires_grad] == ["t.0", "t.1"]
    assert rows["m.0"].shape == rows["t.0"].shape == (6, 128)
    assert rows["k.0"].shape == (6,)
    last = method.predictor[-1]
    for bias, edge in ((100.0, 90.0), (-100.0, 1e-3)):
        with torch.no_grad():
            last.weight[-1].zero_()
            last.bias[-1] = bias
        torch.testing.assert_close(method.rows(see)["k.0"], torch.full((6,), edge))


def test_heads_learn():
    taught = few_steps("vi-simsiam", steps=30)
    assert all(taught.moved().values())
    assert taught.losses[-1] < taught.losses[0] - 5
