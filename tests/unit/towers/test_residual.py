"""Residual stages and folding batch norms away."""

from __future__ import annotations

import pytest
import torch

from diptych.core.errors import UsageError
from diptych.towers.conv import ConvConfig, ConvNet
from diptych.towers.hybrid import Hybrid, HybridConfig
from diptych.towers.residual import fold

HYBRID = {"stage": "residual", "stages": (16, 24), "stage_depths": (1, 2), "stem": 8, "width": 32, "depth": 1, "heads": 2, "mlp": 64}


def lived(tower: torch.nn.Module) -> torch.nn.Module:
    """The tower with norms as training would leave them, in evaluation mode."""
    draw = torch.Generator().manual_seed(0)
    for module in tower.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=draw))
            module.running_var.copy_(torch.rand(module.num_features, generator=draw) + 0.5)
            module.weight.data.copy_(torch.randn(module.num_features, generator=draw))
            module.bias.data.copy_(torch.randn(module.num_features, generator=draw))
    return tower.eval()


@pytest.mark.parametrize(
    ("tower", "side"),
    [
        (ConvNet(ConvConfig(norm="batch", stem=8, widths=(8, 16), depths=(1, 2), strides=(1, 2))), 32),
        (Hybrid(HybridConfig(norm="batch", conv_activation="relu", **HYBRID)), 64),
    ],
    ids=["conv", "hybrid"],
)
def test_folding_keeps_the_function_and_leaves_no_norm(tower, side):
    lived(tower)
    picture = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    plain = tower.folded()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in plain.modules())
    assert plain.config.norm == "none"
    with torch.no_grad():
        expected, found = tower(picture)[0], plain(picture)[0]
    assert (expected - found).abs().max() < 1e-4 * expected.abs().max()


def test_fold_against_a_hand_worked_case():
    conv, norm = torch.nn.Conv2d(1, 1, 1, bias=False), torch.nn.BatchNorm2d(1, eps=0.0)
    conv.weight.data.fill_(3.0)
    norm.running_mean.fill_(1.0)
    norm.running_var.fill_(4.0)
    norm.weight.data.fill_(10.0)
    norm.bias.data.fill_(0.5)
    kernel, bias = fold(conv, norm)
    assert kernel.item() == pytest.approx(15.0)  # 3 · 10 / √4
    assert bias.item() == pytest.approx(-4.5)  # 0.5 − 1 · 10 / √4


def test_only_batch_norms_fold():
    with pytest.raises(UsageError, match="only batch norms fold"):
        ConvNet(ConvConfig(norm="group")).folded()


def test_group_norm_needs_widths_that_divide():
    with pytest.raises(ValueError, match="multiple of groups"):
        HybridConfig(**{**HYBRID, "stem": 12, "norm": "group"})


def test_a_fresh_residual_block_is_its_shortcut():
    tower = ConvNet(ConvConfig(norm="batch", stem=8, widths=(8,), depths=(1,), strides=(1,))).eval()
    block = tower.stages[0]
    x_BCHW = torch.rand(1, 8, 4, 4)
    assert torch.equal(block(x_BCHW), x_BCHW)
