"""The gradient cache against the one-shot batch."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from toys import Toys, run

from diptych.core.errors import UsageError
from diptych.core.types import Pairs
from diptych.engine.build import build_loader, build_model, build_tokens
from diptych.engine.parallel import Ranks, contrast
from diptych.engine.step import Stepper, freeze

CPU = Ranks(0, 1, 0, torch.device("cpu"))


def stepper_for(*settings: str, dropout: float = 0.0) -> Stepper:
    config = run(*settings)
    model = build_model(config)
    if dropout:
        for block in (*model.image.blocks, *model.text.blocks):
            block.mlp.down = nn.Sequential(block.mlp.down, nn.Dropout(dropout))
    freeze(model, config.init.frozen)
    return Stepper(config, model, CPU, build_tokens(config, CPU.device))


def gradients(stepper: Stepper) -> dict[str, torch.Tensor]:
    batch = next(build_loader(stepper.run, Toys(), stepper.model, CPU))
    loss = stepper._backward(batch, 3)
    found = {name: p.grad.clone() for name, p in stepper.model.named_parameters() if p.grad is not None}
    return {"loss": loss.total.detach(), **found}


@pytest.mark.parametrize("micro", [2, 8])
@pytest.mark.parametrize("settings", [(), ("objective.name=siglip",), ("init.freeze=[text]",), ("init.freeze=[image]",)], ids=str)
def test_equals_the_whole_batch(settings, micro):
    whole, parts = gradients(stepper_for(*settings)), gradients(stepper_for(*settings, f"data.micro={micro}"))
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, atol=1e-5, rtol=1e-5, msg=name)


def test_what_is_drawn_is_drawn_again():
    """With dropout and random tokens: the cache against the same parts kept with their graphs."""
    settings = ("data.micro=4", "tokens.name=random-mask", "tokens.options.ratio=0.5")
    cached = gradients(stepper_for(*settings, dropout=0.3))
    stepper = stepper_for(*settings, dropout=0.3)
    batch = next(build_loader(stepper.run, Toys(), stepper.model, CPU))
    from diptych.engine.step import _rows

    rows = [stepper._part(_rows(batch, slice(i * 4, i * 4 + 4)), 3, i)() for i in range(4)]
    image_BD, text_BD = torch.cat([r.image_BD for r in rows]), torch.cat([r.text_BD for r in rows])
    pairs = Pairs(image_BD, text_BD, image_BD, text_BD, 0, stepper.model.scale, None, batch.concept_B, batch.concept_B)
    loss = contrast(stepper.objective.method, pairs, CPU)
    loss.total.backward()
    torch.testing.assert_close(cached["loss"], loss.total.detach())
    for name, p in stepper.model.named_parameters():
        torch.testing.assert_close(cached[name], p.grad, atol=1e-6, rtol=1e-5, msg=name)
    other = gradients(stepper_for(*settings, "seed=1", dropout=0.3))
    assert not torch.allclose(other["loss"], cached["loss"])


def test_memory_is_one_part(monkeypatch):
    """The largest set of tensors that autograd keeps at once shrinks with the part."""

    def kept(*settings: str) -> int:
        stepper = stepper_for("data.batch=64", *settings)
        batch = next(build_loader(stepper.run, Toys(), stepper.model, CPU))
        live, peak = 0, 0

        class Held:
            def __init__(self, tensor: torch.Tensor) -> None:
                nonlocal live, peak
                self.tensor = tensor
                live += tensor.nbytes
                peak = max(peak, live)

            def __del__(self) -> None:
                nonlocal live
                live -= self.tensor.nbytes

        with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
            stepper._backward(batch, 0)
        return peak

    whole, parts = kept(), kept("data.micro=4")
    assert parts < whole / 4


def test_batch_norm_is_refused():
    config = run("data.micro=4")
    model = build_model(config)
    model.image.blocks.append(nn.BatchNorm1d(4))
    with pytest.raises(UsageError, match="batch norm"):
        Stepper(config, model, CPU)
    assert Stepper(run(), model, CPU).parts == 1
