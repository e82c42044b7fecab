"""Hybrid tower in the manner of ViTamin: convolutional stem and stages, then transformer blocks with gated MLPs on few tokens.

Paper: Chen et al., "ViTamin: Designing Scalable Vision Models in the Vision-Language Era", arXiv:2404.02132, figure 3
(stem of two convolutions, two stages of inverted residuals with channel layer norm, transformer with GeGLU, mean pooling, no class token).
Reference code: https://github.com/Beckschen/ViTamin. Small pictures need fewer halvings, so every stride is a setting.

Shapes: B rows, C channels, H height, W width, T tokens, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from diptych.core.errors import UsageError
from diptych.core.types import Tokens
from diptych.towers.base import ImageTower, TowerConfig
from diptych.towers.layers import ACTIVATIONS, Activation, Block, ChannelNorm, LayerNorm, init_blocks
from diptych.towers.residual import Norm, Residual, conv3x3, init_convolutions, norm_layer, without_norms
from diptych.towers.vision import mean_of_patches, resize_positions


class HybridConfig(TowerConfig):
    """Everything that decides what a hybrid tower computes.

    Args:
        image_size: height and width in pixels, multiples of the product of all strides.
        stem: channels of the stem; ``stem_stride`` is 1 or 2.
        stages: channels of each convolutional stage; the first block of a stage halves the map.
        stage_depths: blocks of each stage.
        stage: ``"inverted"`` residuals with channel norms (the paper's), or plain ``"residual"`` blocks of 3×3 convolutions with
            ``norm`` (see ``residual.py``), which a CPU computes four times faster at 64 px.
        norm, groups: of residual stages; ``conv_activation`` belongs to stem and stages.
        expansion: how many times wider an inverted residual is inside.
        join_stride: stride of the convolution that makes tokens out of the last map.
        width, depth, heads: of the transformer; ``mlp`` is the width of its (``gated``) MLP's middle.
        position: learned positions on the tokens.
    """

    kind: Literal["hybrid"] = "hybrid"
    image_size: tuple[int, int] = (64, 64)
    stem: int = Field(default=32, ge=1)
    stem_stride: Literal[1, 2] = 2
    stages: tuple[int, ...] = (48, 96)
    stage_depths: tuple[int, ...] = (1, 2)
    stage: Literal["inverted", "residual"] = "inverted"
    norm: Norm = "group"
    groups: int = Field(default=8, ge=1)
    conv_activation: Activation = "gelu"
    expansion: int = Field(default=4, ge=1)
    join_stride: Literal[1, 2] = 1
    width: int = Field(default=192, ge=1)
    depth: int = Field(default=6, ge=1)
    heads: int = Field(default=3, ge=1)
    mlp: int = Field(default=384, ge=1)
    gated: bool = True
    position: bool = True
    activation: Activation = "gelu"
    norm_eps: float = 1e-6

    @property
    def stride(self) -> int:
        """Pixels between neighbouring tokens."""
        return self.stem_stride * 2 ** len(self.stages) * self.join_stride

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.image_size[0] // self.stride, self.image_size[1] // self.stride

    @model_validator(mode="after")
    def _fits(self) -> HybridConfig:
        if len(self.stages) != len(self.stage_depths) or not self.stages or min(self.stage_depths) < 1:
            raise ValueError(f"stages {self.stages} need as many depths of at least 1, got {self.stage_depths}")
        odd = [wide for wide in (self.stem, *self.stages) if wide % self.groups]
        if self.stage == "residual" and self.norm == "group" and odd:
            raise ValueError(f"width {odd[0]} is not a multiple of groups {self.groups}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if any(side % self.stride or not side for side in self.image_size):
            raise ValueError(f"image_size {self.image_size} is not a multiple of the strides' product {self.stride}")
        return self


class InvertedResidual(nn.Module):
    """``shortcut(x) + project(depthwise(expand(norm(x))))`` (MBConv, arXiv:1801.04381, with the norm first)."""

    def __init__(self, channels: int, out: int, stride: int, expansion: int, activation: Activation, eps: float) -> None:
        super().__init__()
        inside = out * expansion
        self.norm = ChannelNorm(channels, eps=eps)
        self.expand = nn.Conv2d(channels, inside, 1)
        self.depthwise = nn.Conv2d(inside, inside, 3, stride=stride, padding=1, groups=inside)
        self.project = nn.Conv2d(inside, out, 1)
        self.shortcut = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()
        self.stride = stride
        self.activation = ACTIVATIONS[activation]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.activation(self.expand(self.norm(x_BCHW)))
        y_BCHW = self.project(self.activation(self.depthwise(y_BCHW)))
        if self.stride > 1:
            x_BCHW = functional.avg_pool2d(x_BCHW, 3, self.stride, 1, count_include_pad=False)
        return y_BCHW + self.shortcut(x_BCHW)


class Stem(nn.Module):
    """Convolution, norm, activation, convolution (and a second norm before residual stages)."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        plain = config.stage == "residual"
        norm: Norm = config.norm if plain else "none"
        self.first = conv3x3(3, config.stem, config.stem_stride, norm)
        self.norm1 = norm_layer(norm, config.stem, config.groups) if plain else ChannelNorm(config.stem, eps=config.norm_eps)
        self.second = conv3x3(config.stem, config.stem, 1, norm)
        self.norm2 = norm_layer(norm, config.stem, config.groups)
        self.activation = ACTIVATIONS[config.conv_activation]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.norm2(self.second(self.activation(self.norm1(self.first(x_BCHW)))))


def _stage_block(config: HybridConfig, channels: int, out: int, stride: int) -> nn.Module:
    if config.stage == "residual":
        return Residual(channels, out, stride, config.norm, config.conv_activation, config.groups)
    return InvertedResidual(channels, out, stride, config.expansion, config.conv_activation, config.norm_eps)


class Hybrid(ImageTower):
    """Image tower of kind ``hybrid``: ``embed`` is the convolutional part, then blocks, then the mean of the normed tokens."""

    config: HybridConfig
    gives = frozenset({"keys"})

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.image_size = config.width, config.image_size
        self.stem = Stem(config)
        layers: list[nn.Module] = []
        channels = config.stem
        for out, depth in zip(config.stages, config.stage_depths, strict=True):
            for index in range(depth):
                stride = 1 if index else 2
                layers.append(_stage_block(config, channels, out, stride))
                channels = out
        self.stages = nn.Sequential(*layers)
        self.join_norm = nn.Identity() if config.stage == "residual" else ChannelNorm(channels, eps=config.norm_eps)
        self.join = nn.Conv2d(channels, config.width, 3, stride=config.join_stride, padding=1)
        if config.position:
            self.position = nn.Parameter(torch.randn(config.grid[0] * config.grid[1], config.width) * 0.02)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp, config.activation, config.norm_eps, gated=config.gated)
            for _ in range(config.depth)
        )
        self.norm = LayerNorm(config.width, eps=config.norm_eps)
        init_blocks(self.blocks, config.width)
        init_convolutions(self)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def embed(self, pixels_BCHW: Tensor) -> Tokens:
        """Stem, stages and joining convolution; a map of (H / stride, W / stride) tokens with positions."""
        height, width = pixels_BCHW.shape[-2:]
        if height % self.config.stride or width % self.config.stride:
            why = f"this tower halves down to one token in {self.config.stride} pixels"
            raise UsageError(f"pictures of {height}×{width}", why, f"Use sides that are multiples of {self.config.stride}")
        x_BCHW = self.stem(pixels_BCHW.contiguous(memory_format=torch.channels_last))
        x_BCHW = self.join(self.join_norm(self.stages(x_BCHW)))
        grid = (x_BCHW.shape[-2], x_BCHW.shape[-1])
        x_BTD = x_BCHW.flatten(2).transpose(1, 2)
        if self.config.position:
            x_BTD = x_BTD + resize_positions(self.position, self.config.grid, grid)
        return Tokens(x_BTD, prefix=0, grid=grid)

    def pool(self, tokens: Tokens) -> Tensor:
        """Mean of the normed tokens, weighted by how many patches each stands for: (B, width)."""
        return mean_of_patches(tokens, self.norm(tokens.x_BTD))

    def patches(self, tokens: Tokens) -> Tensor:
        return self.norm(tokens.x_BTD)

    def folded(self) -> Hybrid:
        """The same function in evaluation mode without batch norms: each is taken into the convolution before it."""
        return without_norms(self, {"first": "norm1", "second": "norm2"})


TOWER = ("hybrid", "image", HybridConfig, Hybrid)
