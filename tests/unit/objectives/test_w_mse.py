"""Whitening and its gradient, W-MSE's sub-batches against the loop, collapse, and training."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from few_steps import few_steps

from diptych.core.errors import UsageError
from diptych.core.types import Loss, Pairs
from diptych.objectives.views.w_mse import _InverseRoot, w_mse, whiten


def twin() -> Any:
    path = Path(__file__).parents[2] / "reference" / "w_mse.py"
    spec = importlib.util.spec_from_file_location("reference_w_mse", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(n: int = 12, views: int = 3, width: int = 3) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    common = torch.randn(n, 1, width, generator=draw, dtype=torch.float64)
    return common + 0.5 * torch.randn(n, views, width, generator=draw, dtype=torch.float64)


def loss(z: torch.Tensor, part: slice = slice(None), **options) -> Loss:
    empty, none = torch.zeros(len(z[part]), 1), torch.arange(len(z))
    pairs = Pairs(empty, empty, empty, empty, part.start or 0, torch.ones(()), None, none, none, {"z": z[part]}, {"z": z})
    return w_mse(pairs, **options)


@pytest.mark.parametrize("whitening", ["cholesky", "zca"])
def test_whitened_rows_have_the_identity_for_covariance(whitening):
    white = whiten(rows(40)[:, 0] @ torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), whitening, 0.0)
    assert white.mean(0).abs().max() < 1e-12
    torch.testing.assert_close(white.T.cov(), torch.eye(3, dtype=torch.float64))


def test_zca_stays_nearer_to_the_rows_than_cholesky():
    z = rows(40)[:, 0]
    z = z - z.mean(0)
    assert (whiten(z, "zca", 0.0) - z).norm() < (whiten(z, "cholesky", 0.0) - z).norm()


def test_gradient_of_the_inverse_root():
    a = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    matrix = (a @ a.T + torch.eye(4, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: _InverseRoot.apply((m + m.T) / 2), matrix)


def test_gradient_of_the_inverse_root_where_eigenvalues_are_equal():
    """At the identity d(S ** -0.5) is -dS / 2."""
    eye = torch.eye(3, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    _InverseRoot.apply(eye).backward(grad + grad.T)
    torch.testing.assert_close(eye.grad, -(grad + grad.T) / 2)


@pytest.mark.parametrize("whitening", ["cholesky", "zca"])
@pytest.mark.parametrize("size", [6, 12])
def test_sub_batches_equal_the_loop(whitening, size):
    z, reference = rows(), twin().reference
    theirs = reference(None, None, None, 1.0, 0.0, taps={"z": z.tolist()}, whitening=whitening, size=size)
    assert loss(z, whitening=whitening, size=size).total.item() == pytest.approx(theirs, abs=1e-12)


def test_sub_batches_differ_from_the_whole():
    assert loss(rows(), size=6).total.item() != pytest.approx(loss(rows()).total.item(), abs=1e-3)


def test_equal_views_cost_nothing_and_shrinking_gains_nothing():
    """Rows that come nearer to one point are whitened apart again: no loss is saved by collapse."""
    same = rows(views=1).expand(12, 3, 3)
    assert loss(same).total.item() == pytest.approx(0, abs=1e-9)
    assert loss(1e-4 * rows() + 5, ridge=0.0).total.item() == pytest.approx(loss(rows(), ridge=0.0).total.item(), abs=1e-6)


def test_a_point_stays_finite():
    point = torch.full((6, 2, 3), 0.5, requires_grad=True)
    found = loss(point)
    found.total.backward()
    assert found.total.item() == pytest.approx(2)
    assert point.grad is not None
    assert torch.isfinite(point.grad).all()


def test_halves_average_to_the_whole():
    halves = [loss(rows(), slice(0, 6)).total.item(), loss(rows(), slice(6, 12)).total.item()]
    assert sum(halves) / 2 == pytest.approx(loss(rows()).total.item())


def test_sizes_that_do_not_fit_are_told():
    with pytest.raises(UsageError, match="does not divide a batch of 12"):
        loss(rows(), size=5)
    with pytest.raises(UsageError, match="3 rows have no full covariance of 3"):
        loss(rows(), size=3, ridge=0.0)
    assert torch.isfinite(loss(rows(), size=3).total)
    with pytest.raises(UsageError, match="no full covariance of 64"):
        few_steps("w-mse", "objective.options.size=64")


@pytest.mark.parametrize("positives", [2, 4])
def test_head_and_image_tower_learn(positives):
    taught = few_steps("w-mse", f"objective.options.positives={positives}", "objective.options.width=8", "objective.options.whitening=zca")
    assert all(taught.moved().values())
    assert all(p.grad is not None for p in taught.stepper.model.image.parameters())
