"""Going back towards the parent: as far as the limit asks, never further, and not at all where it is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import diptych
from diptych.adapt.attach import copy_of
from diptych.adapt.parts.work import Tuned
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.evaluate.material import material
from diptych.recipes import adapt as recipe
from diptych.recipes import retain
from diptych.towers.head import Head, HeadConfig
from diptych.towers.prompts import Prompts


@pytest.fixture(scope="module", autouse=True)
def small():
    """A small choosing set of eight classes: what is tested is how the share is found, not how large the set is."""
    data = material("pictograms/groups")
    part = data.take(torch.arange(0, len(data.source), 60))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retain, "material", lambda name: part)
        yield


@pytest.fixture(scope="module")
def parent():
    return diptych.load("mini")


@pytest.fixture(scope="module")
def tuned(parent):
    """A model that has lost much: its image tower's projection is another one."""
    child = copy_of(parent)
    draw = generator(0, "forgets")
    with torch.no_grad():
        weight = child.get_parameter("image_projection.weight")
        weight.copy_(weight.std() * torch.randn(weight.shape, generator=draw))
    return Tuned(child, 1, (0.5,))


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def lost(parent, model) -> float:
    return 100 * float((retain.hits(parent, None) - retain.hits(model, None)).mean())


def test_a_limit_of_0_gives_a_model_that_loses_nothing_on_the_choosing_set(parent, tuned):
    before = state(tuned.model)
    held, told = retain.hold(parent, tuned, 0.0, None)
    assert lost(parent, tuned.model) > 5
    assert lost(parent, held.model) <= 0
    assert told.share < 1
    assert told.lost[0] == (1.0, pytest.approx(lost(parent, tuned.model)))
    assert (held.numbers, held.losses) == (tuned.numbers, tuned.losses)
    assert "taken back" in told.told()
    assert all(torch.equal(value, before[name]) for name, value in tuned.model.state_dict().items())


def test_a_generous_limit_leaves_the_model_as_it_was_trained(parent, tuned):
    held, told = retain.hold(parent, tuned, 100.0, None)
    assert held.model is tuned.model
    assert (told.share, len(told.lost)) == (1.0, 1)
    assert "nothing was taken back" in told.told()


def test_the_first_share_within_the_limit_is_taken_and_weights_lie_between(parent, tuned):
    limit = lost(parent, tuned.model) / 2
    held, told = retain.hold(parent, tuned, limit, None)
    shares, losses = zip(*told.lost, strict=True)
    assert shares == retain.SHARES[: len(shares)]
    assert all(value > limit for value in losses[:-1])
    assert losses[-1] <= limit
    assert 0 < told.share < 1
    name = "image_projection.weight"
    mixed = (1 - told.share) * parent.state_dict()[name] + told.share * tuned.model.state_dict()[name]
    torch.testing.assert_close(held.model.state_dict()[name], mixed, atol=1e-6, rtol=1e-5)


def test_prompts_go_back_too_and_a_head_is_left_behind(parent):
    child = copy_of(parent).with_prompts(Prompts.of(text=[torch.randn(4, parent.text.width, generator=generator(0, "p"))]), ("{}",))
    child = child.with_head(Head.of(HeadConfig(classes=("a", "b"), width=parent.embed_dim), weight=torch.zeros(2, parent.embed_dim)))
    part = retain.towards(parent, child, 0.3)
    assert part.prompts is not None
    assert part.prompts.config.share == 0.3
    assert part.head is None
    none = retain.towards(parent, child, 0.0)
    torch.testing.assert_close(none.encode_text(["a dog"]), parent.encode_text(["a dog"]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("limit", [-1.0, -0.001])
def test_a_negative_limit_is_one_clear_line_before_anything_runs(parent, tuned, limit: float, tmp_path: Path):
    with pytest.raises(UsageError, match="points of accuracy"):
        retain.hold(parent, tuned, limit, None)
    with pytest.raises(UsageError, match="lose at most"):
        recipe.adapt(parent, str(tmp_path / "not there"), lose_at_most=limit)
