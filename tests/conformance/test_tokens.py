"""What every token method must show; runs for each one that the registry finds."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from diptych.core import registry
from diptych.core.rng import generator
from diptych.core.types import Middle, MiddleMethod, Tokens
from diptych.towers.presets import preset

IDS = [entry.id for entry in registry.entries() if entry.family == "tokens"]
RATIOS = (0.25, 0.5, 0.75)


def method(identity: str, ratio: float, seed: int = 0) -> Any:
    made = registry.find(identity, "tokens").function(ratio=ratio)
    if hasattr(made, "generator"):
        made.generator.manual_seed(seed)
    return made


def looking(made: Any, model: Any, pixels_BCHW: torch.Tensor) -> Any:
    """The method after its look at the pictures, where it takes one, with ``model`` as its own average."""
    if hasattr(made, "look"):
        made.look(SimpleNamespace(ema=model, image_BCHW=pixels_BCHW))
    return made


def towers() -> Any:
    from diptych.towers.dual import DualEncoder

    return DualEncoder(preset("tiny")).eval()


def embedded(batch: int = 3, grid: tuple[int, int] = (4, 6), prefix: int = 1, width: int = 8) -> Tokens:
    x_BTD = torch.randn(batch, prefix + grid[0] * grid[1], width, generator=generator(0, "tokens"))
    return Tokens(x_BTD, prefix, grid)


def through(made: Any, tokens: Tokens, blocks: int = 3) -> Tokens:
    """Through the method alone, with random keys and attentions between; methods that look at pictures get the scores at once."""
    draw = generator(0, "middle")
    if hasattr(made, "look"):
        made.score_BHW = torch.rand(len(tokens.x_BTD), *tokens.grid, generator=draw)
    tokens = made.after_embed(tokens)
    for index in range(blocks):
        if isinstance(made, MiddleMethod) and made.acts(index, blocks):
            batch, count, _ = tokens.x_BTD.shape
            keys = torch.randn(batch, count, 4, generator=draw) if "keys" in made.uses else None
            attention = torch.rand(batch, count, generator=draw) / count if "class_attention" in made.uses else None
            tokens = made.between(tokens, Middle(index, blocks, keys, attention))
        tokens = made.after_block(index, tokens)
    return tokens


@pytest.mark.parametrize("identity", IDS)
def test_ratio_0_is_the_identity(identity):
    before = embedded()
    after = through(method(identity, 0.0), before)
    assert torch.equal(after.x_BTD, before.x_BTD)
    assert after.size_BT is None or bool((after.size_BT == 1).all())


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("identity", IDS)
def test_sizes_sum_to_the_token_count(identity, ratio, prefix):
    """Merged tokens stand for all patches together; kept tokens are different patches, one each."""
    before = embedded(prefix=prefix)
    after = through(method(identity, ratio), before)
    patches = after.x_BTD.shape[1] - prefix
    assert patches < 24
    assert torch.equal(after.x_BTD[:, :prefix], before.x_BTD[:, :prefix])
    if after.size_BT is not None:
        assert after.size_BT[:, -patches:].sum(1).tolist() == [24.0] * 3
    else:
        assert after.kept_BT is not None
        assert after.kept_BT.shape == (3, patches)
        for row, kept in enumerate(after.kept_BT.tolist()):
            assert len(set(kept)) == patches
            assert torch.equal(after.x_BTD[row, prefix:], before.x_BTD[row, prefix:][kept])


@pytest.mark.parametrize("identity", IDS)
def test_gradients_reach_kept_tokens(identity):
    before = embedded()
    before.x_BTD.requires_grad_()
    after = through(method(identity, 0.5), before)
    (after.x_BTD * torch.arange(1.0, 9.0)).sum().backward()
    assert before.x_BTD.grad is not None
    reached = before.x_BTD.grad.abs().sum(-1) > 0
    assert reached[:, : before.prefix].all()
    if after.size_BT is None:
        assert after.kept_BT is not None
        assert torch.equal(reached[:, before.prefix :].nonzero()[:, 1].view(3, -1), after.kept_BT.sort(1).values)
    else:
        assert reached.all()


@pytest.mark.parametrize("identity", IDS)
def test_same_seed_same_tokens_in_a_tower(identity):
    model = towers()
    pixels = torch.rand(4, 3, 32, 32, generator=generator(0, "pixels"))
    rows = [model.image_features(pixels, tokens=looking(method(identity, 0.5, seed), model, pixels)) for seed in (1, 1, 2)]
    assert torch.equal(rows[0], rows[1])
    assert rows[0].shape == (4, 32)
    if hasattr(method(identity, 0.5), "generator"):
        assert not torch.equal(rows[0], rows[2])


@pytest.mark.parametrize("identity", IDS)
def test_no_row_sees_another(identity):
    """A picture's tokens are the same alone and among others; what is drawn at random aside."""
    model = towers()
    pixels = torch.rand(4, 3, 32, 32, generator=generator(0, "pixels"))
    if hasattr(method(identity, 0.5), "generator"):
        pytest.skip("draws for the whole batch at once")
    together = model.image_features(pixels, tokens=looking(method(identity, 0.5), model, pixels))
    for row in range(4):
        alone = model.image_features(pixels[row : row + 1], tokens=looking(method(identity, 0.5), model, pixels[row : row + 1]))
        torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize("identity", IDS)
def test_ratio_0_leaves_a_tower_as_it_is(identity):
    model = towers()
    pixels = torch.rand(4, 3, 32, 32, generator=generator(0, "pixels"))
    rows = model.image_features(pixels, tokens=looking(method(identity, 0.0), model, pixels))
    torch.testing.assert_close(rows, model.image_features(pixels), atol=1e-6, rtol=0)


def test_flip_keeps_every_patch_equally_often():
    """A share of 1 - ratio of 4,000 images keeps each patch, within five standard deviations."""
    after = through(method("random-mask", 0.75), embedded(batch=4000, width=1))
    assert after.kept_BT is not None
    counts = torch.bincount(after.kept_BT.flatten(), minlength=24).float()
    assert after.kept_BT.shape[1] == 6
    assert (counts / 4000 - 0.25).abs().max() < 5 * (0.25 * 0.75 / 4000) ** 0.5


@pytest.mark.parametrize("prefix", [0, 1, 3])
@pytest.mark.parametrize("ratio", [*RATIOS, 0.99])
def test_flip_equals_its_reference(ratio, prefix):
    path = Path(__file__).parents[1] / "reference" / "random_mask.py"
    twin = runpy.run_path(str(path))["reference"]
    before = embedded(prefix=prefix, width=2)
    after = method("random-mask", ratio, seed=3).after_embed(before)
    noise = torch.rand(3, 24, generator=torch.Generator().manual_seed(3)).tolist()
    tokens, kept = twin(before.x_BTD.tolist(), prefix, noise, ratio)
    assert after.x_BTD.tolist() == tokens
    assert after.kept_BT is not None
    assert after.kept_BT.tolist() == kept
