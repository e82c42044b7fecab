"""E-SSL by hand, its turned views, and in training."""

from __future__ import annotations

import math

import pytest
import torch
from few_steps import few_steps

from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.core.types import Pairs
from diptych.objectives.views.e_ssl import Method, Options, chance, e_ssl
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset
from diptych.towers.see import See


def pairs(turn: torch.Tensor, collapsed: bool = False) -> Pairs:
    z = torch.randn(2, len(turn), 4, generator=torch.Generator().manual_seed(0))
    z = torch.ones_like(z) if collapsed else z
    taps = {"z.0": z[0], "z.1": z[1], "turn": turn}
    empty, none = torch.zeros(len(turn), 1), torch.arange(len(turn))
    return Pairs(empty, empty, empty, empty, 0, torch.ones(()), None, none, none, taps, {name: taps[name] for name in ("z.0", "z.1")})


def test_without_weight_it_is_simclr():
    given = pairs(torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(1)))
    simclr = registry.find("simclr", "views").function(given, temperature=0.3).total
    assert e_ssl(given, weight=0.0, temperature=0.3).total.item() == pytest.approx(simclr.item())


def test_turns_by_hand():
    right = 50.0 * torch.eye(4).expand(3, 4, 4)
    assert e_ssl(pairs(right)).terms["turn"].item() == pytest.approx(0, abs=1e-6)
    assert e_ssl(pairs(right)).report["turn_accuracy"] == 1
    wrong = right.roll(1, dims=2)
    assert e_ssl(pairs(wrong), weight=2.0).terms["turn"].item() == pytest.approx(2 * 50)
    assert e_ssl(pairs(wrong)).report["turn_accuracy"] == 0


def test_rows_that_tell_nothing_cost_chance():
    assert e_ssl(pairs(torch.zeros(5, 4, 4), collapsed=True)).total.item() == pytest.approx(chance(5))
    assert chance(5) == pytest.approx(math.log(9) + 0.4 * math.log(4))


def test_row_r_is_the_picture_turned_r_times():
    model = DualEncoder(preset("tiny")).eval()
    method = Method(model, Options())
    views = torch.randint(0, 256, (3, 4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    see = See(model, views[0], None, torch.Generator(), {f"view.{i}": view for i, view in enumerate(views)})
    rows = method.rows(see)
    assert rows["turn"].shape == (4, 4, 4)
    turned = views[2]
    for turns in range(4):
        pooled, _ = model.image(model.normalise(turned))
        torch.testing.assert_close(rows["turn"][:, turns], method.teller(pooled), atol=1e-5, rtol=0)
        turned = turned.transpose(2, 3).flip(2)  # a quarter turn against the clock
    pooled, _ = model.image(model.normalise(views[1]))
    torch.testing.assert_close(rows["z.1"], method.head(pooled), atol=1e-5, rtol=0)


def test_pictures_that_are_not_square_are_refused():
    model = DualEncoder(preset("tiny"))
    model.image.image_size = (32, 48)
    with pytest.raises(UsageError, match="32 × 48"):
        Method(model, Options())


def test_both_heads_learn():
    taught = few_steps("e-ssl", steps=30)
    assert all(taught.moved().values())
    assert taught.reports[-1]["turn"] < taught.reports[0]["turn"] - 0.01
