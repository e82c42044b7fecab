"""Heads, pooled rows of views, and the measure of collapse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from diptych.core.errors import UsageError
from diptych.objectives.parts.heads import mlp
from diptych.objectives.parts.views import pooled_views, spread
from diptych.tokens.random_mask import random_mask
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset
from diptych.towers.see import See


def kinds(head: nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in head]


def test_layers_of_a_head():
    assert kinds(mlp([3, 4])) == ["Linear"]
    assert kinds(mlp([3, 4, 5])) == ["Linear", "ReLU", "Linear"]
    assert kinds(mlp([3, 4, 4, 5], norm="batch")) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert kinds(mlp([3, 4, 5], norm="layer", norm_out=True)) == ["Linear", "LayerNorm", "ReLU", "Linear", "LayerNorm"]


def test_a_norm_takes_the_bias_and_the_output_norm_has_no_parameters():
    head = mlp([3, 4, 5], norm="batch", norm_out=True)
    assert [name for name, _ in head.named_parameters()] == ["0.weight", "1.weight", "1.bias", "3.weight"]
    assert [name for name, _ in mlp([3, 4, 5]).named_parameters()] == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_batch_norm_uses_the_batch_even_in_evaluation_mode():
    head = mlp([3, 8, 5], norm="batch", norm_out=True).eval()
    out = head(torch.randn(64, 3, generator=torch.Generator().manual_seed(0)) + 3)
    assert out.mean(0).abs().max() < 1e-5
    assert (out.var(0, unbiased=False) - 1).abs().max() < 1e-2
    assert not dict(head.named_buffers())


def seen(count: int = 3, rows: int = 4) -> See:
    model = DualEncoder(preset("tiny")).eval()
    draw = torch.Generator().manual_seed(1)
    views = {f"view.{i}": torch.randint(0, 256, (rows, 3, 32, 32), generator=draw, dtype=torch.uint8) for i in range(count)}
    return See(model, views["view.0"], None, draw, views)


def test_views_are_pooled_in_order():
    see = seen()
    rows = pooled_views(see, 3)
    assert len(rows) == 3
    for index, row in enumerate(rows):
        alone, _ = see.model.image(see.model.normalise(see.extra[f"view.{index}"]))
        torch.testing.assert_close(row, alone, atol=1e-5, rtol=0)


def test_a_missing_view_is_told():
    with pytest.raises(UsageError, match=r"takes 4 views, 'view.3' is missing"):
        pooled_views(seen(), 4)


def test_the_token_method_works_on_views_of_the_trained_model_only():
    see = seen()
    masked = replace(see, tokens=random_mask(ratio=0.5))
    plain = torch.cat(pooled_views(see, 2))
    assert not torch.allclose(torch.cat(pooled_views(masked, 2)), plain, atol=1e-3)
    torch.testing.assert_close(torch.cat(pooled_views(masked, 2, model=see.model)), plain)


def test_a_token_method_that_looks_sees_the_views():
    class Looking:
        def __init__(self) -> None:
            self.seen: list[torch.Tensor] = []

        def look(self, see: See) -> None:
            self.seen.append(see.image_BCHW)

        def after_embed(self, tokens):
            return tokens

        def after_block(self, index, tokens):
            return tokens

    looking, see = Looking(), seen()
    pooled_views(replace(see, tokens=looking), 2)
    assert torch.equal(looking.seen[0], torch.cat([see.extra["view.0"], see.extra["view.1"]]))


def test_spread_of_the_sphere_and_of_a_point():
    far = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert spread(far).item() == pytest.approx(1.0, abs=0.01)
    assert spread(torch.ones(8, 16)).item() == pytest.approx(0.0, abs=1e-6)
