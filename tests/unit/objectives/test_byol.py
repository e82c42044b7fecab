"""BYOL by hand, its stopped gradients, its copy, and in training."""

from __future__ import annotations

import pytest
import torch
from few_steps import few_steps

from diptych.core.types import Pairs
from diptych.objectives.views.byol import Method, Options, byol
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset
from diptych.towers.see import See

RIGHT = {"p.0": [[2.0, 0.0]], "t.1": [[5.0, 0.0]], "p.1": [[0.0, 1.0]], "t.0": [[0.0, 3.0]]}


def pairs(progress: float = 0.0, **taps) -> Pairs:
    rows = {name: torch.as_tensor(value) for name, value in taps.items()}
    empty, none = torch.zeros(len(rows["p.0"]), 1), torch.arange(len(rows["p.0"]))
    state = {"progress": torch.tensor(progress, dtype=torch.float64)}
    return Pairs(empty, empty, empty, empty, 0, torch.ones(()), None, none, none, rows, {}, state)


def test_by_hand():
    assert byol(pairs(**RIGHT)).total.item() == pytest.approx(0)
    opposite = {**RIGHT, "t.1": [[-1.0, 0.0]], "t.0": [[0.0, -1.0]]}
    assert byol(pairs(**opposite)).total.item() == pytest.approx(8)
    one_way = {**RIGHT, "t.1": [[0.0, 1.0]]}
    found = byol(pairs(**one_way))
    assert found.total.item() == pytest.approx(2)
    assert found.terms["first_to_second"].item() == pytest.approx(2)


def test_collapse_is_seen_in_the_report_not_in_the_loss():
    rows = {name: torch.ones(4, 3) for name in RIGHT}
    found = byol(pairs(**rows))
    assert found.total.item() == pytest.approx(0, abs=1e-6)
    assert found.report["spread"].item() == pytest.approx(0, abs=1e-6)


def test_momentum_rises_along_half_a_cosine():
    method = Method(DualEncoder(preset("tiny")), Options(momentum=0.9))
    assert [method.momentum(share) for share in (0.0, 0.5, 1.0)] == pytest.approx([0.9, 0.95, 1.0])


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.1), (0.5, 0.05), (1.0, 0.0)])
def test_the_projectors_copy_takes_in_a_share(progress, share):
    method = Method(DualEncoder(preset("tiny")), Options(momentum=0.9))
    before = [copy.clone() for copy in method.copies]
    with torch.no_grad():
        for parameter in method.projector.parameters():
            parameter.add_(1.0)
    method(pairs(progress, **RIGHT))
    for copy, old in zip(method.copies, before, strict=True):
        torch.testing.assert_close(copy, old + share)


def test_targets_come_of_the_copies_and_have_no_graph():
    model, other = DualEncoder(preset("tiny"), seed=0), DualEncoder(preset("tiny"), seed=1)
    method = Method(model, Options(norm="none"))
    views = torch.randint(0, 256, (2, 4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    extra = {"view.0": views[0], "view.1": views[1]}
    see = See(model, views[0], None, torch.Generator(), extra, ema=other)
    rows = method.rows(see)
    assert [name for name, row in sorted(rows.items()) if row.requires_grad] == ["p.0", "p.1"]
    pooled, _ = other.image(other.normalise(views[1]))
    torch.testing.assert_close(rows["t.1"], method.projector(pooled), atol=1e-5, rtol=0)
    with torch.no_grad():
        for copy in method.copies:
            copy.mul_(2.0)
    assert not torch.allclose(method.rows(see)["t.1"], rows["t.1"], atol=1e-3)
    torch.testing.assert_close(method.rows(see)["p.1"], rows["p.1"])


def test_heads_learn_and_the_copies_follow_behind():
    taught = few_steps("byol", "objective.options.momentum=0.5")
    method = taught.method
    assert all(taught.moved().values())
    assert set(method.state_dict()) >= {"copy_0", "copy_1"}
    for name, copy in zip(method.names, method.copies, strict=True):
        live, start = dict(method.projector.named_parameters())[name], taught.before[f"projector.{name}"]
        assert 0 < (copy - start).norm() < (live - start).norm()
    assert all(p.grad is None for p in taught.stepper.follower.copy.parameters())
