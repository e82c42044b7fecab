"""A vision transformer with convolutions of its own beside blocks that it may share: an early stem, and maps fed in along the way.

Paper: You et al., "Learning Visual Representation from Modality-Shared Contrastive Language-Image Pre-training", arXiv:2207.12661,
its two auxiliary designs: residual convolutions in place of the patch matmul and the first block (early specialisation), and a light
convolutional branch whose maps of every scale are adapted and added to the tokens after some blocks (efficient parallel branch). Both
together are MS-CLIP-S.

Where the paper and its code leave a choice: norms are group norms by default, so that a batch's pictures stay apart (the code has batch
norm); a map reaches the tokens by a depthwise convolution that strides over whole patches and a pointwise one that starts at zero, so that
training begins without the branch; the class token gets the mean of what the patches get. Stem and branch have weights of their own.

Shapes: B rows, C channels, H height, W width, T tokens, D width.
"""

from __future__ import annotations

import itertools
from collections.abc import Set
from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from diptych.core.errors import UsageError
from diptych.core.types import TokenMethod, Tokens
from diptych.towers.base import check_taps
from diptych.towers.layers import ACTIVATIONS
from diptych.towers.residual import Norm, Residual, conv3x3, init_convolutions, norm_layer
from diptych.towers.vision import VisionTransformer, ViTConfig


class SpecialisedConfig(ViTConfig):
    """A ViT's config, with the convolutions.

    Args:
        stem: channels of the early convolutions, each of which halves the picture: ``2 ** len(stem)`` is the patch.
        branch: channels of the parallel branch's maps, halved in the same way; ``()`` leaves the branch out.
        lateral: after which blocks (0 is the first) each map of the branch is added, as many as ``branch`` has.
        norm, groups: of the convolutions.
    """

    kind: Literal["specialised"] = "specialised"  # type: ignore[assignment]
    stem: tuple[int, ...]
    branch: tuple[int, ...] = ()
    lateral: tuple[int, ...] = ()
    norm: Norm = "group"
    groups: int = Field(default=8, ge=1)

    @model_validator(mode="after")
    def _halves(self) -> SpecialisedConfig:
        if 2 ** len(self.stem) != self.patch:
            raise ValueError(f"stem {self.stem} halves {len(self.stem)} times, which is not patch {self.patch}")
        if any(side % self.patch for side in self.image_size):
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch {self.patch}")
        if len(self.branch) != len(self.lateral) or len(self.branch) > len(self.stem):
            raise ValueError(f"branch {self.branch} and lateral {self.lateral} differ in length, or halve more than the stem")
        if any(not 0 <= after < self.depth for after in self.lateral) or len(set(self.lateral)) != len(self.lateral):
            raise ValueError(f"lateral {self.lateral} must name different blocks of 0 to {self.depth - 1}")
        odd = [wide for wide in (*self.stem, *self.branch) if wide % self.groups]
        if self.norm == "group" and odd:
            raise ValueError(f"{odd[0]} channels are not a multiple of groups {self.groups}")
        return self


class Pyramid(nn.Module):
    """A 3×3 convolution and residual blocks, each halving the picture; gives the map after each."""

    def __init__(self, channels: tuple[int, ...], config: SpecialisedConfig) -> None:
        super().__init__()
        self.first = conv3x3(3, channels[0], 2, config.norm)
        self.norm = norm_layer(config.norm, channels[0], config.groups)
        pairs = itertools.pairwise(channels)
        self.stages = nn.ModuleList(Residual(wide, out, 2, config.norm, "relu", config.groups) for wide, out in pairs)
        self.activation = ACTIVATIONS["relu"]

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        maps = [self.activation(self.norm(self.first(x_BCHW)))]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps


class Adapter(nn.Module):
    """A map of the branch to what is added to the tokens: depthwise over whole patches, then pointwise from zero."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, stride, stride=stride, groups=channels)
        self.pointwise = nn.Linear(channels, width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x_BCHW).flatten(2).transpose(1, 2))


class SpecialisedTransformer(VisionTransformer):
    """Image tower of kind ``specialised``."""

    config: SpecialisedConfig
    takes_prompts = False

    def __init__(self, config: SpecialisedConfig) -> None:
        super().__init__(config)
        self.stem = Pyramid(config.stem, config)
        self.patch = nn.Linear(config.stem[-1], config.width, bias=config.patch_bias)
        if config.branch:
            self.branch = Pyramid(config.branch, config)
            strides = [config.patch >> (i + 1) for i in range(len(config.branch))]
            self.adapters = nn.ModuleList(Adapter(wide, config.width, step) for wide, step in zip(config.branch, strides, strict=True))
        init_convolutions(self)
        for adapter in getattr(self, "adapters", ()):
            nn.init.zeros_(adapter.pointwise.weight)
            nn.init.zeros_(adapter.pointwise.bias)

    def embed(self, pixels_BCHW: Tensor) -> Tokens:
        """The stem's last map as patches; positions, prefix tokens and pre-norm as in a ViT."""
        height, width = pixels_BCHW.shape[-2:]
        if height % self.config.patch or width % self.config.patch:
            raise UsageError(f"pictures of {height}×{width}", f"the sides are no multiples of {self.config.patch}", "Resize the images")
        x_BCHW = self.stem(pixels_BCHW)[-1]
        return self.place(self.patch(x_BCHW.flatten(2).transpose(1, 2)), (x_BCHW.shape[-2], x_BCHW.shape[-1]))

    def forward(
        self, pixels_BCHW: Tensor, tokens: TokenMethod | None = None, taps: Set[str] = frozenset()
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As a ViT; with a branch the tokens must stay on their grid, so that token methods are refused."""
        if not self.config.branch:
            return super().forward(pixels_BCHW, tokens, taps)
        if tokens is not None:
            why = "the parallel branch adds a map to the whole grid of tokens"
            raise UsageError("a token method with image tower 'specialised'", why, "Leave out image.branch or the token method")
        check_taps(taps, {"image.tokens"})
        state, maps = self.embed(pixels_BCHW), self.branch(pixels_BCHW)
        x_BTD = state.x_BTD
        for index, block in enumerate(self.blocks):
            x_BTD = block(x_BTD)
            if index in self.config.lateral:
                at = self.config.lateral.index(index)
                added_BTD = self.adapters[at](maps[at])
                prefix_BTD = added_BTD.mean(dim=1, keepdim=True).expand(-1, self.prefix, -1)
                x_BTD = x_BTD + torch.cat([prefix_BTD, added_BTD], dim=1)
        state = replace(state, x_BTD=x_BTD)
        return self.pool(state), {"image.tokens": self.patches(state)} if taps else {}


TOWER = ("specialised", "image", SpecialisedConfig, SpecialisedTransformer)
