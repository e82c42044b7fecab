"""SLIP as the sum of its two halves, which objectives on views go with it, and in training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from few_steps import few_steps
from torch.nn import functional as F

from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.core.types import Pairs
from diptych.engine.options import check_options
from diptych.objectives.pairs.slip import chance, slip


def pairs(n: int = 6) -> Pairs:
    draw = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(n, 5, generator=draw, dtype=torch.float64), dim=1) for _ in range(2))
    taps = {name: torch.randn(n, 4, generator=draw, dtype=torch.float64) for name in ("z.0", "z.1")}
    return Pairs(image, text, image, text, 0, torch.tensor(7.0), None, torch.arange(n), torch.arange(n), taps, taps)


@pytest.mark.parametrize("views", ["simclr", "barlow-twins", "vicreg"])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_is_clip_and_a_share_of_the_other(views, weight):
    given = pairs()
    clip = registry.find("clip", "objective").function(given, label_smoothing=0.1)
    other = registry.find(views, "views").function(given)
    found = slip(given, weight=weight, views=views, label_smoothing=0.1)
    assert found.total.item() == pytest.approx((clip.total + weight * other.total).item())
    assert sum(term.item() for term in found.terms.values()) == pytest.approx(found.total.item())
    assert {"image_accuracy", "spread"} <= set(found.report)


def test_chance_is_that_of_rows_that_tell_nothing():
    one = torch.ones(4, 3) / 3**0.5
    taps = {"z.0": one, "z.1": one}
    given = Pairs(one, one, one, one, 0, torch.tensor(1.0), None, torch.arange(4), torch.arange(4), taps, taps)
    assert slip(given).total.item() == pytest.approx(chance(4))


@pytest.mark.parametrize("views", ["byol", "vi-simsiam", "w-mse", "e-ssl"])
def test_objectives_that_do_not_compare_two_views_are_refused(views):
    with pytest.raises(UsageError, match="two views and need nothing else"):
        check_options("objective", "slip", {"views": views})


def test_objectives_that_need_more_than_their_heads_are_refused(monkeypatch):
    module = registry.find("vicreg", "views").load()
    monkeypatch.setattr(module, "CARD", replace(module.CARD, needs=frozenset({"ema"})))
    with pytest.raises(UsageError, match="need nothing else"):
        check_options("objective", "slip", {"views": "vicreg"})


def test_unknown_views_and_options_are_told():
    with pytest.raises(UsageError, match="Did you mean 'simclr'"):
        check_options("objective", "slip", {"views": "simclt"})
    with pytest.raises(UsageError, match="temperatur"):
        check_options("objective", "slip", {"view_options": {"temperatur": 1}})


def test_the_views_options_reach_their_head():
    taught = few_steps("slip", 'objective.options={"view_options": {"width": 16, "hidden": 24, "layers": 2}}', steps=1)
    assert taught.method.views.head[-1].weight.shape == (16, 24)
    paper = few_steps("slip", steps=1).method.views.head
    assert [type(layer).__name__ for layer in paper].count("BatchNorm1d") == 2


@pytest.mark.parametrize("views", ["simclr", "vicreg"])
def test_both_towers_and_the_head_learn(views):
    taught = few_steps("slip", f"objective.options.views={views}")
    assert all(taught.moved().values())
    model = taught.stepper.model
    for part in (model.image, model.text, model.image_projection, model.text_projection):
        assert all(p.grad is not None for p in part.parameters())


def test_views_train_the_image_tower_and_not_the_text():
    """The text side gets the gradient of CLIP alone, the image tower that of both."""
    both, clip = (few_steps("slip", f"objective.options.weight={w}", "optim.clip_grad=1000", steps=1).stepper.model for w in (1, 0))
    for mine, theirs in zip(both.text.parameters(), clip.text.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    assert not any(torch.allclose(a.grad, b.grad) for a, b in zip(both.image.parameters(), clip.image.parameters(), strict=True))
