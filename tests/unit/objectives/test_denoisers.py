"""GenHancer and un²CLIP: who learns in which stage, and that the tower's gradient comes through the frozen denoiser."""

from __future__ import annotations

import pytest
import torch
from few_steps import few_steps

from diptych.core.errors import UsageError
from diptych.engine.options import check_options
from diptych.objectives.parts.denoiser import Denoiser, frozen_call

BOTH = ("genhancer", "un2clip")


def moved(taught, parts: str) -> bool:
    """Whether a part of the model is not what the run's seed makes it."""
    from diptych.engine.build import build_model

    fresh = dict(build_model(taught.stepper.run).named_parameters())
    now = dict(taught.stepper.model.named_parameters())
    return any(not torch.equal(now[name], fresh[name]) for name in fresh if name.startswith(parts))


@pytest.mark.parametrize("name", BOTH)
def test_the_tower_stands_still_while_the_denoiser_learns(name):
    taught = few_steps(name)  # progress stays 0
    assert not moved(taught, "image.")
    assert all(taught.moved()[key] for key in taught.moved() if key.startswith("denoiser.outward"))


@pytest.mark.parametrize("name", BOTH)
def test_the_denoiser_stands_still_while_the_tower_learns(name):
    taught = few_steps(name, "objective.options.first=0.0")
    # The denoiser's last layer starts at zero, so a frozen fresh one tells nothing: give it something to tell.
    assert not any(flag for key, flag in taught.moved().items() if key.startswith("denoiser."))
    inner = Denoiser((8, 8), 6, 32, 1)
    torch.nn.init.normal_(inner.outward.weight)
    condition = torch.randn(2, 6, requires_grad=True)
    frozen_call(inner, torch.randn(2, 3, 8, 8), torch.rand(2), condition).square().sum().backward()
    assert condition.grad is not None
    assert condition.grad.abs().sum() > 0
    assert all(p.grad is None for p in inner.parameters())


def test_end_to_end_moves_all_and_has_no_first_stage():
    taught = few_steps("genhancer", "objective.options={end_to_end: true, first: 0.0}", steps=6)
    assert moved(taught, "image.")
    with pytest.raises(UsageError, match="no first stage"):
        check_options("objective", "genhancer", {"end_to_end": True})


def test_a_denoiser_that_learns_beats_one_that_says_nothing():
    taught = few_steps("genhancer", steps=40)
    assert sum(taught.losses[-5:]) < 0.97 * sum(taught.losses[:5])
