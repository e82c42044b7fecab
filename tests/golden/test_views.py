"""The losses on views give lightly's values and gradients on the same rows (recorded by ``make_views.py``).

Where definitions differ: lightly's VICReg, as its authors' code, halves the variance term that the paper's algorithm 1 sums over both
views, so its weight of 25 is 12.5 here. lightly has BYOL's negative cosine; the recorder turns it into the paper's squared distance.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from diptych.core import registry
from diptych.core.types import Pairs

HERE = Path(__file__).parent / "views"
LOSSES = json.loads((HERE / "losses.json").read_text(encoding="utf-8"))


def options(identity: str, numbers: list[float]) -> dict[str, Any]:
    """Ours for the numbers in the name of a recorded case."""
    if identity == "simclr":
        return {"temperature": numbers[0]}
    if identity == "barlow-twins":
        return {"off_diagonal": numbers[0]}
    if identity == "vicreg":
        return {"invariance_weight": numbers[0], "variance_weight": numbers[1] / 2, "covariance_weight": numbers[2]}
    if identity == "w-mse":
        return {"size": int(numbers[1]), "ridge": numbers[2]}
    return {}


def taps(identity: str, views: Tensor, numbers: list[float], order: Tensor) -> dict[str, Tensor]:
    """The recorded rows as the objective reads them; W-MSE in the order in which lightly cut its sub-batches."""
    if identity == "byol":
        return dict(zip(("p.0", "p.1", "t.0", "t.1"), views, strict=True))
    if identity == "w-mse":
        return {"z": views[: int(numbers[0]), order].transpose(0, 1)}
    return {"z.0": views[0], "z.1": views[1]}


@pytest.mark.parametrize("name", LOSSES)
def test_equals_lightly(name):
    identity, *rest = name.split()
    numbers, stored = [float(number) for number in rest], load_file(HERE / "rows.safetensors")
    views = stored["views"].requires_grad_()
    given, empty = taps(identity, views, numbers, stored["order"]), torch.zeros(views.shape[1], 1)
    one, none = torch.ones(()), torch.arange(views.shape[1])
    pairs = Pairs(empty, empty, empty, empty, 0, one, None, none, none, given, given)
    loss = registry.find(identity, "views").function(pairs, **options(identity, numbers))
    loss.total.backward()
    assert loss.total.item() == pytest.approx(LOSSES[name], abs=1e-10)
    torch.testing.assert_close(views.grad, stored[f"grad {name}"], rtol=0, atol=1e-10)


def test_every_case_has_weight():
    """No recorded value is a trivial one, and no gradient is zero."""
    stored = load_file(HERE / "rows.safetensors")
    assert len(LOSSES) == 10
    for name, value in LOSSES.items():
        assert value > 0.05
        assert stored[f"grad {name}"].abs().max() > 1e-3
