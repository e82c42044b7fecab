"""The residual block of two 3×3 convolutions that the conv and hybrid towers share, and folding its batch norms away.

Papers: He et al., "Deep Residual Learning", arXiv:1512.03385, section 3.3; averaging shortcut: arXiv:1812.01187, section 4.2 (ResNet-D).

Shapes: B rows, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from diptych.core.errors import UsageError
from diptych.towers.layers import ACTIVATIONS, Activation

Norm = Literal["batch", "group", "none"]


def norm_layer(norm: Norm, channels: int, groups: int) -> nn.Module:
    """Batch norm, group norm with ``groups`` groups, or nothing."""
    if norm == "none":
        return nn.Identity()
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(groups, channels)


def conv3x3(channels: int, out: int, stride: int, norm: Norm) -> nn.Conv2d:
    """A 3×3 convolution; it has a bias where no norm follows."""
    return nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=norm == "none")


class Residual(nn.Module):
    """``activation(shortcut(x) + norm(conv(activation(norm(conv(x))))))``; a block with a norm starts as its shortcut."""

    def __init__(self, channels: int, out: int, stride: int, norm: Norm, activation: Activation, groups: int) -> None:
        super().__init__()
        self.stride = stride
        self.first = conv3x3(channels, out, stride, norm)
        self.norm1 = norm_layer(norm, out, groups)
        self.second = conv3x3(out, out, 1, norm)
        self.norm2 = norm_layer(norm, out, groups)
        self.shortcut = nn.Conv2d(channels, out, 1, bias=False) if channels != out else nn.Identity()
        self.activation = ACTIVATIONS[activation]

    def start_as_shortcut(self) -> None:
        """Zero the last gain of the branch."""
        if isinstance(self.norm2, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.zeros_(self.norm2.weight)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.norm2(self.second(self.activation(self.norm1(self.first(x_BCHW)))))
        if self.stride > 1:
            x_BCHW = functional.avg_pool2d(x_BCHW, self.stride, ceil_mode=True, count_include_pad=False)
        return self.activation(self.shortcut(x_BCHW) + y_BCHW)


def init_convolutions(module: nn.Module) -> None:
    """Normal kernels with variance 2 / fan-out (arXiv:1502.01852, section 2.2), biases zero; residual branches start at zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, std=(2 / fan_out) ** 0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for layer in module.modules():
        if isinstance(layer, Residual):
            layer.start_as_shortcut()


@torch.no_grad()
def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Kernel and bias of the one convolution that equals ``norm(conv(x))`` in evaluation mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain_C = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    kernel = conv.weight.double() * gain_C[:, None, None, None]
    bias = norm.bias.double() - norm.running_mean.double() * gain_C
    return kernel.to(conv.weight.dtype), bias.to(conv.weight.dtype)


def without_norms(tower: Any, pairs: dict[str, str]) -> Any:
    """A tower of ``norm="none"`` that computes what ``tower`` computes in evaluation mode.

    Args:
        tower: built with ``norm="batch"``.
        pairs: name of a convolution → name of the batch norm behind it, in each module that has both.

    Raises:
        UsageError: the tower's norm is not ``"batch"``.
    """
    if tower.config.norm != "batch":
        raise UsageError(f"folding norm {tower.config.norm!r}", "only batch norms fold into convolutions", "Keep the tower as it is")
    state = {name: value.detach().clone() for name, value in tower.state_dict().items()}
    for path, module in tower.named_modules():
        for conv, norm in pairs.items():
            if isinstance(getattr(module, norm, None), nn.BatchNorm2d):
                prefix = f"{path}." if path else ""
                kernel, bias = fold(getattr(module, conv), getattr(module, norm))
                state = {name: value for name, value in state.items() if not name.startswith(f"{prefix}{norm}.")}
                state |= {f"{prefix}{conv}.weight": kernel, f"{prefix}{conv}.bias": bias}
    plain = type(tower)(tower.config.model_copy(update={"norm": "none"}))
    plain.load_state_dict(state)
    return plain.eval()
