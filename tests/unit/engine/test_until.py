"""After a share of the budget pictures are read whole again: until then the tower sees what the token method leaves."""

from __future__ import annotations

import pytest
import torch
from toys import Toys, run

from diptych.core.errors import UsageError
from diptych.engine.build import build_loader, build_model, build_tokens
from diptych.engine.loop import train
from diptych.engine.parallel import Ranks
from diptych.engine.step import Stepper

CPU = Ranks(0, 1, 0, torch.device("cpu"))


def stepped(progress: float, *settings: str) -> list[torch.Tensor]:
    """The trained parameters after one step at ``progress``."""
    config = run("init={preset: study-vit, text_from: mini}", *settings)
    model = build_model(config)
    stepper = Stepper(config, model, CPU, build_tokens(config, CPU.device))
    with build_loader(config, Toys(), model, CPU) as loader:
        stepper(next(loader), 0, 1e-3, progress)
    return [p.detach() for p in model.image.parameters()]


@pytest.mark.parametrize("name", ["random-mask", "a-clip", "tome", "evit"])
def test_afterwards_a_step_is_a_plain_step(name):
    settings = (f"tokens.name={name}", "tokens.until=0.75")
    plain = stepped(0.75)
    whole, half = stepped(0.75, *settings), stepped(0.74, *settings)
    assert all(torch.equal(a, b) for a, b in zip(whole, plain, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(half, plain, strict=True))


def test_a_run_reads_whole_pictures_from_then_on(tmp_path):
    config = run(
        "init={preset: study-vit, text_from: mini}",
        "tokens.name=random-mask",
        "tokens.options.ratio=0.5",
        "tokens.until=0.5",
        "budget.steps=4",
    )
    model, lengths = build_model(config), []
    hook = model.image.blocks[0].register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    train(config, tmp_path, model=model, dataset=Toys())
    hook.remove()
    assert lengths == [32 + 1] * 2 + [64 + 1] * 2


def test_an_objective_that_looks_through_the_method_reads_whole_pictures_too():
    settings = ("objective.name=a-clip", "tokens.name=a-clip", "tokens.until=0.5")
    whole, plain = stepped(0.5, *settings), stepped(0.5, "objective.name=a-clip")
    assert all(torch.equal(a, b) for a, b in zip(whole, plain, strict=True))


@pytest.mark.parametrize("value", ["0", "1.5", "-1"])
def test_a_share_out_of_range_is_refused(value):
    with pytest.raises(UsageError, match="until"):
        run("tokens.name=random-mask", f"tokens.until={value}")


def test_nothing_is_scored_that_is_not_used(monkeypatch):
    def look(self, see):
        raise AssertionError("looked")

    monkeypatch.setattr("diptych.tokens.a_clip.AClip.look", look)
    stepped(0.5, "tokens.name=a-clip", "tokens.until=0.5")
    with pytest.raises(AssertionError, match="looked"):
        stepped(0.4, "tokens.name=a-clip", "tokens.until=0.5")
