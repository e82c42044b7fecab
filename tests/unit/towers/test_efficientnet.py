"""EfficientNet-Lite0: shapes, padding and pooling against plain definitions; parity with the published code is in test_pocket.py."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from diptych.core.rng import generator
from diptych.core.types import Tokens
from diptych.towers.base import count_parameters
from diptych.towers.build import build_image_tower, parse_image_config
from diptych.towers.efficientnet import EfficientNetLite0, EfficientNetLite0Config, InvertedResidual, SameConv


@pytest.fixture(scope="module")
def tower() -> EfficientNetLite0:
    built = build_image_tower(parse_image_config({"kind": "efficientnet_lite0", "image_size": (64, 64)})).eval()
    assert isinstance(built, EfficientNetLite0)
    return built


def pixels(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(1, "pixels"))


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [7, 8])
def test_same_padding_is_tensorflows(kernel: int, stride: int, side: int) -> None:
    conv = SameConv(1, 1, kernel, stride)
    x = pixels(1, 1, side, side)
    got = conv(x)[0, 0].detach().double()
    out = -(-side // stride)
    total = max((out - 1) * stride + kernel - side, 0)
    weight, bias = conv.weight[0, 0].tolist(), conv.bias.item()
    assert got.shape == (out, out)
    for row in range(out):
        for column in range(out):
            value = bias
            for i in range(kernel):
                for j in range(kernel):
                    y, z = row * stride + i - total // 2, column * stride + j - total // 2
                    if 0 <= y < side and 0 <= z < side:
                        value += weight[i][j] * x[0, 0, y, z].item()
            assert got[row, column].item() == pytest.approx(value, abs=1e-5)


def test_inverted_residual_adds_its_input_only_where_shapes_agree() -> None:
    x = pixels(1, 4, 6, 6)
    for block, skips in (
        (InvertedResidual(4, 4, 3, 1, 2), True),
        (InvertedResidual(4, 6, 3, 1, 2), False),
        (InvertedResidual(4, 4, 3, 2, 2), False),
    ):
        inner = block.project(F.relu6(block.depthwise(F.relu6(block.expand(x)))))
        assert torch.allclose(block(x), inner + x if skips else inner)


def test_shapes_size_and_seams(tower: EfficientNetLite0) -> None:
    assert (
        count_parameters(tower) == 3_350_000
    )  # the published 4,652,008, less a 1,281,000 classifier, less one of two per normalised channel
    with torch.no_grad():
        tokens = tower.embed(pixels(2, 3, 64, 96))
        pooled, taps = tower(pixels(2, 3, 64, 96), taps=frozenset({"image.tokens"}))
        plain, _ = tower(pixels(2, 3, 64, 96))
    assert tokens.x_BTD.shape == (2, 6, 1280)
    assert tokens.grid == (2, 3)
    assert float(tokens.x_BTD.min()) >= 0
    assert float(tokens.x_BTD.max()) <= 6
    assert torch.allclose(pooled, tokens.x_BTD.mean(1), atol=1e-6)
    assert torch.allclose(plain, pooled)
    assert taps["image.tokens"].shape == (2, 6, 1280)


def test_merged_tokens_weigh_as_many_as_they_stand_for(tower: EfficientNetLite0) -> None:
    x_BTD = pixels(1, 4, 1280)
    merged = torch.stack([x_BTD[:, :3].mean(1), x_BTD[:, 3]], dim=1)
    sizes = torch.tensor([[3.0, 1.0]])
    assert torch.allclose(tower.pool(Tokens(merged, 0, (2, 2), sizes)), tower.pool(Tokens(x_BTD, 0, (2, 2))), atol=1e-6)


def test_a_picture_does_not_depend_on_its_batch(tower: EfficientNetLite0) -> None:
    x = pixels(3, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(tower.train()(x)[0][:1], tower.eval()(x[:1])[0], atol=1e-4)


def test_default_config_is_the_published_one() -> None:
    assert EfficientNetLite0Config().image_size == (224, 224)
