"""A small denoiser of pictures, conditioned on one vector, and the two stages in which it teaches an image tower.

The core that GenHancer (arXiv:2503.19480) and un²CLIP (arXiv:2505.24517) share: first the denoiser learns to undo noise, given the tower's
global row (the tower does not move); then it is frozen, and its loss moves the tower.

Shapes: B rows, C channels, H height, W width, T patches, D the denoiser's width, V the condition's width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from diptych.towers.layers import Block, init_blocks


def time_features(time_B: Tensor, width: int) -> Tensor:
    """Sines and cosines of a time in 0…1, (B, width), as of positions (arXiv:1706.03762, section 3.5) up to 1,000."""
    rate = torch.exp(torch.arange(width // 2, device=time_B.device) * (-math.log(1000.0) / (width // 2)))
    angle = 1000.0 * time_B[:, None] * rate[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Denoiser(nn.Module):
    """A transformer over patches of a noisy picture; time and condition are added to every token before each block.

    Args:
        size: height and width of the pictures; both are multiples of ``patch``.
        condition: V.
        width, depth: of the transformer; heads are 32 wide.
    """

    def __init__(self, size: tuple[int, int], condition: int, width: int, depth: int, patch: int = 4) -> None:
        super().__init__()
        self.patch, self.width = patch, width
        tokens = (size[0] // patch) * (size[1] // patch)
        self.inward = nn.Linear(3 * patch * patch, width)
        self.position = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.time = nn.Linear(width, width)
        self.condition = nn.ModuleList(nn.Linear(condition, width) for _ in range(depth))
        self.blocks = nn.ModuleList(Block(width, max(1, width // 32), 4 * width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.outward = nn.Linear(width, 3 * patch * patch)
        init_blocks(self.blocks, width)
        nn.init.zeros_(self.outward.weight)
        nn.init.zeros_(self.outward.bias)

    def forward(self, noisy_BCHW: Tensor, time_B: Tensor, condition_BV: Tensor) -> Tensor:
        """What the denoiser takes for the target, (B, C, H, W)."""
        side, (batch, _, height, width) = self.patch, noisy_BCHW.shape
        x_BTD = nn.functional.unfold(noisy_BCHW, side, stride=side).transpose(1, 2)
        x_BTD = self.inward(x_BTD) + self.position + self.time(time_features(time_B, self.width))[:, None]
        for block, told in zip(self.blocks, self.condition, strict=True):
            x_BTD = block(x_BTD + told(condition_BV)[:, None])
        out_BTP = self.outward(self.norm(x_BTD))
        return nn.functional.fold(out_BTP.transpose(1, 2), (height, width), side, stride=side).view(batch, 3, height, width)


def frozen_call(module: nn.Module, *inputs: Tensor) -> Tensor:
    """``module(*inputs)`` whose gradient reaches the inputs and no weight."""
    return functional_call(module, {name: p.detach() for name, p in module.named_parameters()}, inputs)


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over everything, in float32 or wider."""
    wide = torch.promote_types(prediction.dtype, torch.float32)
    return ((prediction.to(wide) - target.detach().to(wide)) ** 2).mean()
