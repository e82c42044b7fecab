"""A small residual convolutional net for pictures of 32–96 px: quick on a CPU, the tower of the demo.

Paper: He et al., "Deep Residual Learning", arXiv:1512.03385, section 3.3 (two 3×3 convolutions a block). Works in channels-last memory.

Shapes: B rows, C channels, H height, W width, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from diptych.core.types import Tokens
from diptych.towers.base import ImageTower, TowerConfig
from diptych.towers.layers import ACTIVATIONS, Activation, LayerNorm
from diptych.towers.residual import Norm, Residual, conv3x3, init_convolutions, norm_layer, without_norms
from diptych.towers.vision import mean_of_patches


class ConvConfig(TowerConfig):
    """Everything that decides what a convolutional tower computes.

    Args:
        image_size: height and width in pixels; other sizes work too, since nothing is learned by position.
        stem: channels after the first convolution; ``stem_stride`` is its stride.
        widths, depths, strides: channels, blocks and stride of the first block of each stage.
        norm: ``"batch"`` is fastest to train, but couples the pictures of a batch (so that micro-batches and ranks change the
            result); ``"group"`` keeps them apart, with ``groups`` groups of channels; ``"none"`` is what folding leaves.
    """

    kind: Literal["conv"] = "conv"
    image_size: tuple[int, int] = (32, 32)
    stem: int = Field(default=32, ge=1)
    stem_stride: int = Field(default=1, ge=1)
    widths: tuple[int, ...] = (32, 64, 128)
    depths: tuple[int, ...] = (1, 1, 1)
    strides: tuple[int, ...] = (2, 2, 2)
    norm: Norm = "group"
    groups: int = Field(default=8, ge=1)
    activation: Activation = "relu"

    @property
    def width(self) -> int:
        """Channels of the last stage, which is the pooled row's width."""
        return self.widths[-1]

    @model_validator(mode="after")
    def _fits(self) -> ConvConfig:
        if not len(self.widths) == len(self.depths) == len(self.strides) or not self.widths:
            raise ValueError(f"widths {self.widths}, depths {self.depths} and strides {self.strides} differ in length")
        if min(*self.widths, *self.depths, *self.strides) < 1:
            raise ValueError("widths, depths and strides are at least 1")
        odd = [wide for wide in (self.stem, *self.widths) if wide % self.groups]
        if self.norm == "group" and odd:
            raise ValueError(f"width {odd[0]} is not a multiple of groups {self.groups}")
        return self


class ConvNet(ImageTower):
    """Image tower of kind ``conv``: ``embed`` gives the last map as tokens, ``pool`` the layer norm of their mean."""

    config: ConvConfig

    def __init__(self, config: ConvConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.image_size = config.width, config.image_size
        self.stem = conv3x3(3, config.stem, config.stem_stride, config.norm)
        self.stem_norm = norm_layer(config.norm, config.stem, config.groups)
        layers: list[nn.Module] = []
        channels = config.stem
        for out, depth, stride in zip(config.widths, config.depths, config.strides, strict=True):
            for index in range(depth):
                layers.append(Residual(channels, out, 1 if index else stride, config.norm, config.activation, config.groups))
                channels = out
        self.stages = nn.Sequential(*layers)
        self.blocks = nn.ModuleList()
        self.norm = LayerNorm(config.width)
        self.activation = ACTIVATIONS[config.activation]
        init_convolutions(self)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def embed(self, pixels_BCHW: Tensor) -> Tokens:
        """All convolutions; the last map as tokens (B, H·W, width)."""
        x_BCHW = pixels_BCHW.contiguous(memory_format=torch.channels_last)
        x_BCHW = self.stages(self.activation(self.stem_norm(self.stem(x_BCHW))))
        return Tokens(x_BCHW.flatten(2).transpose(1, 2), prefix=0, grid=(x_BCHW.shape[-2], x_BCHW.shape[-1]))

    def pool(self, tokens: Tokens) -> Tensor:
        """Layer norm of the mean over places: (B, width)."""
        return self.norm(mean_of_patches(tokens, tokens.x_BTD))

    def patches(self, tokens: Tokens) -> Tensor:
        return self.norm(tokens.x_BTD)

    def folded(self) -> ConvNet:
        """The same function in evaluation mode without batch norms: each is taken into the convolution before it."""
        return without_norms(self, {"stem": "stem_norm", "first": "norm1", "second": "norm2"})


TOWER = ("conv", "image", ConvConfig, ConvNet)
