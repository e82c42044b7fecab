"""EfficientNet-Lite0 image tower: inverted residual blocks, ReLU6, no squeeze-and-excitation.

Paper: Tan and Le, "EfficientNet", arXiv:1905.11946, table 1; the Lite variant (no squeeze-and-excitation, ReLU6 in place of swish, stem
and head not scaled) is the one that its authors published for small devices. Reference code: github.com/tensorflow/tpu,
models/official/efficientnet/lite.

Batch normalisation is folded into the convolutions: w' = w·γ/√(σ²+ε), b' = β − μ·γ/√(σ²+ε), with ε = 1e-3. The tower therefore acts on
each picture by itself, in training mode as in evaluation, and is meant to start from converted weights.

Shapes: B pictures, C channels, H height, W width; the last map of C channels is handed on as H·W tokens.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field
from torch import Tensor, channels_last, nn
from torch.nn import functional as F

from diptych.core.types import Tokens
from diptych.towers.base import ImageTower, TowerConfig

STAGES = (  # repeats, kernel, stride, expansion, channels out
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280


class EfficientNetLite0Config(TowerConfig):
    """Any size works (the map has a 32nd of the sides, rounded up); the released weights were trained at 224."""

    kind: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    image_size: tuple[int, int] = Field(default=(224, 224))


class SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "SAME" padding: ⌈size/stride⌉ out, the odd row or column of zeros below and right."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels_in, channels_out, kernel, stride=stride, groups=groups, bias=True)

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        rows, columns = (max((math.ceil(side / stride) - 1) * stride + kernel - side, 0) for side in input.shape[-2:])
        if rows % 2 == 0 and columns % 2 == 0:
            return F.conv2d(input, self.weight, self.bias, self.stride, (rows // 2, columns // 2), groups=self.groups)
        padded = F.pad(input, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return F.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups)


class InvertedResidual(nn.Module):
    """Widen by ``expansion``, filter each channel, narrow without activation; added to its input where the shapes agree."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.expand = SameConv(channels_in, hidden) if expansion > 1 else None
        self.depthwise = SameConv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = SameConv(hidden, channels_out)
        self.skip = stride == 1 and channels_in == channels_out

    def forward(self, x_BCHW: Tensor) -> Tensor:
        hidden = x_BCHW if self.expand is None else F.relu6(self.expand(x_BCHW))
        out = self.project(F.relu6(self.depthwise(hidden)))
        return x_BCHW + out if self.skip else out


class EfficientNetLite0(ImageTower):
    """Stem → 16 inverted residual blocks → 1×1 head → mean over positions: B, 1280.

    ``embed`` runs the whole convolutional part and gives the final map as tokens. ``blocks`` is empty, so that token methods, which have
    nothing to spare here, are refused. Pixels are expected as (x − 127)/128 on 0–255, which the model's preprocessing states as mean
    127/255 and deviation 128/255.
    """

    def __init__(self, config: EfficientNetLite0Config) -> None:
        super().__init__()
        self.config = config
        self.width, self.image_size = HEAD, config.image_size
        self.stem = SameConv(3, STEM, 3, 2)
        layers, channels = [], STEM
        for repeats, kernel, stride, expansion, channels_out in STAGES:
            for index in range(repeats):
                layers.append(InvertedResidual(channels, channels_out, kernel, stride if index == 0 else 1, expansion))
                channels = channels_out
        self.features = nn.Sequential(*layers)
        self.head = SameConv(channels, HEAD)
        self.blocks = nn.ModuleList()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming-normal kernels (fan out) and zero biases."""
        for module in self.modules():
            if isinstance(module, SameConv):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def embed(self, pixels_BCHW: Tensor) -> Tokens:
        """The last feature map as tokens B, ⌈H/32⌉·⌈W/32⌉, 1280, all ≥ 0 and ≤ 6."""
        x_BCHW = F.relu6(self.stem(pixels_BCHW.contiguous(memory_format=channels_last)))
        x_BCHW = F.relu6(self.head(self.features(x_BCHW)))
        return Tokens(x_BCHW.flatten(2).transpose(1, 2), prefix=0, grid=(x_BCHW.shape[2], x_BCHW.shape[3]))

    def pool(self, tokens: Tokens) -> Tensor:
        """Mean over positions, weighted by how many each token stands for: B, 1280."""
        if tokens.size_BT is None:
            return tokens.x_BTD.mean(1)
        weight_BT1 = tokens.size_BT.to(tokens.x_BTD.dtype).unsqueeze(-1)
        return (tokens.x_BTD * weight_BT1).sum(1) / weight_BT1.sum(1)

    def finish(self, tokens: Tokens) -> Tensor:
        """The same as ``pool``: there is no block to shorten."""
        return self.pool(tokens)


TOWER = ("efficientnet_lite0", "image", EfficientNetLite0Config, EfficientNetLite0)
