"""Image and text towers against plain float64 loops and closed forms; seams, taps, shortcuts."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from diptych.core.errors import UsageError
from diptych.core.types import Tokens
from diptych.towers.base import size_bias
from diptych.towers.build import build_image_tower, build_text_tower, parse_image_config, towers
from diptych.towers.conv import ConvConfig
from diptych.towers.hybrid import HybridConfig
from diptych.towers.layers import Block, LayerNorm, gelu_tanh, quick_gelu
from diptych.towers.text import TransformerConfig
from diptych.towers.vision import ViTConfig, resize_positions

VIT = ViTConfig(image_size=(16, 24), patch=8, width=16, depth=2, heads=2, mlp=40)
TEXT = TransformerConfig(vocab=40, context=9, width=16, depth=2, heads=2, mlp=40)
IMAGES = [
    VIT,
    VIT.model_copy(update={"pool": "mean", "class_token": False, "registers": 2, "norm_last": "pooled"}),
    VIT.model_copy(update={"pool": "attention", "class_token": False, "norm_pre": False, "patch_bias": True}),
    HybridConfig(image_size=(32, 32), stem=8, stages=(8, 16), stage_depths=(1, 1), width=16, depth=2, heads=2, mlp=16),
    ConvConfig(image_size=(16, 16), stem=8, widths=(8, 16), depths=(1, 1), strides=(2, 2)),
]


def randomise(module: nn.Module) -> nn.Module:
    """Every parameter random, so that no zero or one hides a mistake."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in module.parameters():
            value.add_(torch.randn(value.shape, generator=draw) * 0.2)
    return module.eval()


def picture(config, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, *config.image_size, generator=torch.Generator().manual_seed(7))


def slow_attention(x_TD: Tensor, block: Block, causal: bool) -> Tensor:
    """One row of the batch, head by head, token by token, in float64."""
    attention, width = block.attention, x_TD.shape[1]
    weight, bias = attention.qkv.weight.double(), attention.qkv.bias.double()
    q, k, v = (x_TD @ weight[i * width : (i + 1) * width].T + bias[i * width : (i + 1) * width] for i in range(3))
    size = width // attention.heads
    out = torch.zeros_like(x_TD)
    for head, token in itertools.product(range(attention.heads), range(len(x_TD))):
        part = slice(head * size, (head + 1) * size)
        seen = token + 1 if causal else len(x_TD)
        chances = torch.stack([q[token, part] @ k[other, part] / math.sqrt(size) for other in range(seen)]).softmax(0)
        out[token, part] = sum(chances[other] * v[other, part] for other in range(seen))
    return out @ attention.out.weight.double().T + attention.out.bias.double()


def slow_norm(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight.double() + norm.bias.double()


def slow_block(x_TD: Tensor, block: Block, causal: bool) -> Tensor:
    x_TD = x_TD + slow_attention(slow_norm(x_TD, block.norm1), block, causal)
    up = slow_norm(x_TD, block.norm2) @ block.mlp.up.weight.double().T + block.mlp.up.bias.double()
    return x_TD + (0.5 * up * (1 + torch.erf(up / math.sqrt(2)))) @ block.mlp.down.weight.double().T + block.mlp.down.bias.double()


@pytest.mark.parametrize("causal", [False, True])
def test_block_is_the_plain_loop(causal: bool) -> None:
    block = randomise(Block(16, 2, 24, causal=causal))
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    wanted = torch.stack([slow_block(row.double(), block, causal) for row in x])  # type: ignore[arg-type]
    torch.testing.assert_close(block(x).double(), wanted, atol=1e-5, rtol=0)


def test_activations_are_their_formulas() -> None:
    x = torch.linspace(-4, 4, 33, dtype=torch.float64)
    torch.testing.assert_close(quick_gelu(x), x / (1 + (-1.702 * x).exp()))
    torch.testing.assert_close(gelu_tanh(x), 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


@pytest.mark.parametrize("causal", [False, True])
def test_one_row_equals_the_whole_block(causal: bool) -> None:
    block = randomise(Block(16, 2, 24, causal=causal, layer_scale=0.1))
    x, at = torch.randn(3, 6, 16), torch.tensor([0, 3, 5])
    bias = torch.randn(3, 1, 1, 6)
    torch.testing.assert_close(block.row(x, at, bias), block(x, bias)[torch.arange(3), at], atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(block.row(x), block(x)[:, 0], atol=2e-6, rtol=1e-5)


def test_patch_matmul_is_the_strided_convolution() -> None:
    tower = randomise(build_image_tower(VIT.model_copy(update={"patch_bias": True, "norm_pre": False})))
    x = picture(VIT)
    kernel = tower.patch.weight.reshape(16, 3, 8, 8)  # type: ignore[union-attr, operator]
    wanted = functional.conv2d(x, kernel, tower.patch.bias, stride=8).flatten(2).transpose(1, 2)  # type: ignore[arg-type]
    tokens = tower.embed(x)
    torch.testing.assert_close(tokens.x_BTD[:, 1:] - tower.position[1:], wanted, atol=1e-5, rtol=0)  # type: ignore[index]
    assert tokens.grid == (2, 3)
    assert tokens.prefix == 1


@pytest.mark.parametrize("config", IMAGES, ids=lambda config: f"{config.kind}-{getattr(config, 'pool', '')}")
def test_taps_and_an_idle_method_change_nothing(config) -> None:
    class Idle:
        calls = 0

        def after_embed(self, tokens: Tokens) -> Tokens:
            return tokens

        def after_block(self, index: int, tokens: Tokens) -> Tokens:
            Idle.calls += 1
            return tokens

    tower = randomise(build_image_tower(config))
    x = picture(config)
    plain, none = tower(x)
    with_taps, taps = tower(x, taps=frozenset({"image.tokens"}))
    assert none == {}
    assert plain.shape == (2, tower.width)
    torch.testing.assert_close(with_taps, plain, atol=1e-5, rtol=1e-5)
    if len(tower.blocks):
        with_method, _ = tower(x, tokens=Idle())
        torch.testing.assert_close(with_method, plain, atol=1e-5, rtol=1e-5)
    assert Idle.calls == len(tower.blocks)
    grid = tower.embed(x).grid
    assert taps["image.tokens"].shape == (2, grid[0] * grid[1], tower.width)
    with pytest.raises(UsageError, match=r"image\.tokens"):
        tower(x, taps=frozenset({"image.token"}))


def test_every_parameter_gets_a_gradient() -> None:
    for config in IMAGES:
        tower = randomise(build_image_tower(config))
        tower(picture(config))[0].square().sum().backward()
        assert not [name for name, value in tower.named_parameters() if value.grad is None or not value.grad.any()], config.kind


def test_merged_tokens_weigh_as_many_as_they_stand_for() -> None:
    tower = randomise(build_image_tower(IMAGES[1].model_copy(update={"registers": 0})))
    x_BTD = torch.randn(1, 3, 16)
    doubled = Tokens(torch.cat([x_BTD, x_BTD[:, :1]], dim=1), 0, (2, 2))
    merged = Tokens(x_BTD, 0, (2, 2), size_BT=torch.tensor([[2.0, 1.0, 1.0]]))
    block = tower.blocks[0]
    a, b = block(doubled.x_BTD), block(merged.x_BTD, bias=size_bias(merged))
    torch.testing.assert_close(a[:, :3], b, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tower.pool(replace(doubled, x_BTD=a)), tower.pool(replace(merged, x_BTD=b)), atol=1e-5, rtol=1e-5)


def test_positions_are_interpolated_for_other_sizes() -> None:
    ramp = torch.linspace(0, 1, 4)[:, None, None].expand(4, 4, 1).reshape(16, 1)
    grown = resize_positions(ramp, (4, 4), (8, 6)).reshape(8, 6)
    assert torch.equal(resize_positions(ramp, (4, 4), (4, 4)), ramp)
    torch.testing.assert_close(grown[:, 0], grown[:, 5])
    assert (grown[1:, 0] > grown[:-1, 0]).all()
    torch.testing.assert_close(resize_positions(torch.full((16, 2), 3.0), (4, 4), (7, 3)), torch.full((21, 2), 3.0))
    tower = randomise(build_image_tower(VIT))
    assert tower(torch.randn(2, 3, 40, 16))[0].shape == (2, 16)
    assert torch.equal(tower.embed(torch.ones(1, 3, 23, 31)).x_BTD, tower.embed(torch.ones(1, 3, 16, 24)).x_BTD)
    with pytest.raises(UsageError, match="smaller than one patch"):
        tower(torch.randn(1, 3, 7, 24))
    with pytest.raises(UsageError, match="multiples of 8"):
        build_image_tower(IMAGES[3])(torch.randn(1, 3, 36, 32))


def test_hooked_and_wrapped_last_blocks_are_really_called() -> None:
    tower = randomise(build_image_tower(VIT))
    seen = []
    tower.blocks[-1].register_forward_hook(lambda *_: seen.append(1))
    tower(picture(VIT))
    assert seen == [1]


def test_layer_norm_is_float32_inside() -> None:
    norm = LayerNorm(8)
    x = torch.randn(4, 8).bfloat16() * 100
    wanted = functional.layer_norm(x.float(), (8,)).bfloat16()
    assert torch.equal(norm(x), wanted)
    assert torch.equal(norm.bfloat16()(x), wanted)


@pytest.mark.parametrize("pool", ["argmax", "eos"])
def test_causal_text_may_be_cropped_and_pools_its_end(pool: str) -> None:
    config = TEXT.model_copy(update={"pool": pool, "eos_id": 39 if pool == "eos" else None})
    tower = randomise(build_text_tower(config))
    ids = torch.tensor([[1, 5, 39, 0, 0, 0, 0, 0, 0], [1, 7, 8, 39, 0, 0, 0, 0, 0]])
    whole, taps = tower(ids, taps=frozenset({"text.tokens"}))
    torch.testing.assert_close(whole, taps["text.tokens"][torch.arange(2), torch.tensor([2, 3])])
    torch.testing.assert_close(tower(ids[:, :4])[0], whole, atol=1e-5, rtol=1e-5)
    changed = ids.clone()
    changed[:, 5:] = 3
    torch.testing.assert_close(tower(changed)[0], whole, atol=1e-5, rtol=1e-5)
    with pytest.raises(UsageError, match="at most 9"):
        tower(torch.ones(1, 10, dtype=torch.long))


def test_bidirectional_text_reads_everything_and_takes_the_last_row() -> None:
    tower = randomise(build_text_tower(TEXT.model_copy(update={"causal": False, "pool": "last"})))
    assert not tower.causal
    ids = torch.tensor([[4, 5, 6, 1, 1, 1, 1, 1, 1]])
    rows, taps = tower(ids, taps=frozenset({"text.tokens"}))
    torch.testing.assert_close(rows, taps["text.tokens"][:, -1])
    assert not torch.allclose(tower(torch.tensor([[4, 5, 9, 1, 1, 1, 1, 1, 1]]))[0], rows)
    with pytest.raises(UsageError, match="exactly 9"):
        tower(ids[:, :5])


def test_towers_are_found_by_their_files() -> None:
    assert {("image", "vit"), ("image", "hybrid"), ("image", "conv"), ("text", "transformer")} <= set(towers())
    with pytest.raises(UsageError, match="vit"):
        parse_image_config({"kind": "vitt"})
    with pytest.raises(UsageError, match=r"dephts.*depth"):
        parse_image_config({"kind": "hybrid", "dephts": 3})
    with pytest.raises(UsageError, match="multiple"):
        parse_image_config({"kind": "hybrid", "image_size": (60, 64)})


def test_convolutional_blocks_start_as_their_shortcut() -> None:
    tower = build_image_tower(IMAGES[4]).eval()
    block = tower.stages[0]  # type: ignore[index]
    x = torch.randn(2, 8, 16, 16)
    torch.testing.assert_close(block(x), functional.avg_pool2d(x, 2).relu())
    assert next(iter(tower.parameters())).is_contiguous(memory_format=torch.channels_last)


def test_group_norm_keeps_the_pictures_of_a_batch_apart() -> None:
    tower = randomise(build_image_tower(IMAGES[4])).train()
    x = picture(IMAGES[4], 4)
    torch.testing.assert_close(tower(x)[0][:2], tower(x[:2])[0], atol=1e-5, rtol=1e-5)
