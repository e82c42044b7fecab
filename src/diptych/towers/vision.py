"""Vision transformer with the switches that released image–text models need.

Papers: ViT (arXiv:2010.11929), CLIP (arXiv:2103.00020, section 2.4), SigLIP (arXiv:2303.15343; attention pooling as in
arXiv:2106.04560, section 3.4).
Shapes: B rows, C channels, H height, W width, T tokens, D width, P patch side.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from diptych.core.errors import UsageError
from diptych.core.types import Tokens
from diptych.towers.base import ImageTower, TowerConfig, size_bias
from diptych.towers.layers import Activation, Block, LayerNorm, Mlp, init_blocks, may_shorten


class ViTConfig(TowerConfig):
    """Everything that decides what a vision transformer computes.

    Args:
        image_size: height and width in pixels; what is left over beyond whole patches is cut off right and below.
        patch: side of a patch in pixels.
        mlp: width of the MLP's middle.
        pool: ``"class"`` token, ``"mean"`` of the patch tokens, or ``"attention"`` (one learned query, SigLIP's head).
        norm_pre: layer norm between embedding and first block (CLIP has it, SigLIP not).
        norm_last: where the final norm stands: on ``"tokens"`` before pooling or on the ``"pooled"`` row; the same for the class token.
        patch_bias: bias of the patch embedding.
        layer_scale: initial value of layer scale; None leaves it out.
    """

    kind: Literal["vit"] = "vit"
    image_size: tuple[int, int]
    patch: int = Field(ge=1)
    width: int = Field(ge=1)
    depth: int = Field(ge=1)
    heads: int = Field(ge=1)
    mlp: int = Field(ge=1)
    pool: Literal["class", "mean", "attention"] = "class"
    class_token: bool = True
    registers: int = Field(default=0, ge=0)
    norm_pre: bool = True
    norm_last: Literal["tokens", "pooled"] = "tokens"
    patch_bias: bool = False
    activation: Activation = "gelu"
    norm_eps: float = 1e-5
    layer_scale: float | None = None

    @model_validator(mode="after")
    def _fits(self) -> ViTConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if min(self.image_size) < self.patch:
            raise ValueError(f"image_size {self.image_size} is smaller than one patch of {self.patch}")
        if self.pool == "class" and not self.class_token:
            raise ValueError("pool 'class' needs class_token")
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.image_size[0] // self.patch, self.image_size[1] // self.patch


class AttentionPool(nn.Module):
    """One learned query attends to all tokens, then a residual MLP (the head of SigLIP; arXiv:2106.04560, section 3.4)."""

    def __init__(self, width: int, heads: int, hidden: int, activation: Activation, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm = LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, hidden, activation)

    def forward(self, x_BTD: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, D) out of tokens; ``bias`` adds to the attention logits, broadcastable to (B, heads, 1, T)."""
        width = x_BTD.shape[-1]
        q = functional.linear(self.query, self.qkv.weight[:width], self.qkv.bias[:width]).expand(len(x_BTD), -1, -1)
        k, v = functional.linear(x_BTD, self.qkv.weight[width:], self.qkv.bias[width:]).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=None if bias is None else bias.to(q.dtype))
        row_BD = self.out(y.transpose(1, 2).flatten(2))[:, 0]
        return row_BD + self.mlp(self.norm(row_BD))


def resize_positions(position_TD: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Learned positions of an ``old`` grid resampled to a ``new`` one (bicubic, antialiased), row-major."""
    if old == new:
        return position_TD
    grid_1DHW = position_TD.float().unflatten(0, old).permute(2, 0, 1)[None]
    resized = functional.interpolate(grid_1DHW, size=new, mode="bicubic", align_corners=False, antialias=True)
    return resized[0].permute(1, 2, 0).flatten(0, 1).to(position_TD.dtype)


class VisionTransformer(ImageTower):
    """Image tower of kind ``vit``."""

    config: ViTConfig

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.image_size = config.width, config.image_size
        self.patch = nn.Linear(3 * config.patch**2, config.width, bias=config.patch_bias)
        std = config.width**-0.5
        self.prefix = int(config.class_token) + config.registers
        self.gives = frozenset({"keys", "class_attention"} if config.class_token else {"keys"})
        if config.class_token:
            self.class_token = nn.Parameter(torch.randn(config.width) * std)
        if config.registers:
            self.registers = nn.Parameter(torch.randn(config.registers, config.width) * std)
        rows, columns = config.grid
        self.position = nn.Parameter(torch.randn(int(config.class_token) + rows * columns, config.width) * std)
        self.norm_pre = LayerNorm(config.width, eps=config.norm_eps) if config.norm_pre else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp, config.activation, config.norm_eps, layer_scale=config.layer_scale)
            for _ in range(config.depth)
        )
        self.norm = LayerNorm(config.width, eps=config.norm_eps)
        if config.pool == "attention":
            self.attention_pool = AttentionPool(config.width, config.heads, config.mlp, config.activation, config.norm_eps)
        init_blocks(self.blocks, config.width)

    def positions(self, grid: tuple[int, int]) -> tuple[Tensor | None, Tensor]:
        """Position of the class token (None without one) and of the patches of ``grid``, resampled where it is another one."""
        first = int(self.config.class_token)
        patches_TD = resize_positions(self.position[first:], self.config.grid, grid)
        return (self.position[0] if first else None), patches_TD

    def embed(self, pixels_BCHW: Tensor) -> Tokens:
        """Patches by one matmul (the same sum as a strided convolution), positions, prefix tokens, pre-norm."""
        side = self.config.patch
        batch, channels, height, width = pixels_BCHW.shape
        rows, columns = height // side, width // side
        if not rows or not columns:
            raise UsageError(f"an image of {height}×{width}", f"smaller than one patch of {side}×{side}", "Resize the images")
        x = pixels_BCHW[:, :, : rows * side, : columns * side].reshape(batch, channels, rows, side, columns, side)
        x_BTD = self.patch(x.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, channels * side * side))
        return self.place(x_BTD, (rows, columns))

    def place(self, x_BTD: Tensor, grid: tuple[int, int]) -> Tokens:
        """Embedded patches of ``grid`` with positions, behind the prefix tokens, after the pre-norm."""
        class_D, patches_TD = self.positions(grid)
        parts = [x_BTD + patches_TD]
        if self.config.registers:
            parts.insert(0, self.registers.expand(len(x_BTD), -1, -1).to(x_BTD.dtype))
        if class_D is not None:
            parts.insert(0, (self.class_token + class_D).expand(len(x_BTD), 1, -1))
        x_BTD = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        return Tokens(self.norm_pre(x_BTD), prefix=self.prefix, grid=grid)

    def pool(self, tokens: Tokens) -> Tensor:
        """(B, width) by the config's pooling; merged tokens weigh as many patches as they stand for."""
        if self.config.pool == "class":
            return self.norm(tokens.x_BTD[:, 0])
        x_BTD = tokens.x_BTD if self.config.norm_last == "pooled" else self.norm(tokens.x_BTD)
        if self.config.pool == "attention":
            row_BD = self.attention_pool(x_BTD, size_bias(tokens))
        else:
            row_BD = mean_of_patches(tokens, x_BTD)
        return self.norm(row_BD) if self.config.norm_last == "pooled" else row_BD

    def patches(self, tokens: Tokens) -> Tensor:
        return self.norm(tokens.x_BTD[:, tokens.prefix :])

    def finish(self, tokens: Tokens) -> Tensor:
        last = self.blocks[-1]
        if self.config.pool != "class" or not may_shorten(last):
            return super().finish(tokens)
        return self.norm(last.row(tokens.x_BTD, bias=size_bias(tokens)))


def mean_of_patches(tokens: Tokens, x_BTD: Tensor) -> Tensor:
    """Mean of the patch tokens ``x_BTD[:, prefix:]``, weighted by how many patches each stands for."""
    patches_BTD = x_BTD[:, tokens.prefix :]
    if tokens.size_BT is None:
        return patches_BTD.mean(dim=1)
    size_BT = tokens.size_BT[:, -patches_BTD.shape[1] :].to(patches_BTD.dtype)
    return (patches_BTD * size_BT[..., None]).sum(dim=1) / size_BT.sum(dim=1, keepdim=True)


TOWER = ("vit", "image", ViTConfig, VisionTransformer)
