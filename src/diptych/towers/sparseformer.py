"""SparseFormer tower: a few latent tokens look at places of the picture that they choose, then transformer blocks as in a ViT.

Papers: Gao et al., "SparseFormer: Sparse Visual Recognition via Limited Latent Tokens", arXiv:2304.03768, section 3 (tokens with regions of
interest, sampling, adaptive mixing, adjustment of regions); Gao et al., "Bootstrapping SparseFormers from Vision Foundation Models",
arXiv:2312.01987, section 3 (the focusing transformer in front of blocks that are inherited from a ViT; :func:`bootstrap`).
Code: https://github.com/showlab/sparseformer

Each latent token has an embedding and a region (x0, y0, x1, y1) in 0…1 of the picture. The focusing transformer is one block, used several
times: every token samples points of its region out of a map of early convolutions, mixes them with weights made from its embedding,
learns where its region is, attends to the others, and moves its region. A last sampling at the blocks' width follows; then come the class
token and the inherited blocks. The paper cuts the gradient of sampling places to the length of one map cell; here the optimiser's
clipping has to do.

Shapes: B rows, C channels of the map, H height, W width, N latent tokens, P points, D width.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.core.errors import UsageError
from diptych.core.types import Tokens
from diptych.towers.base import ImageTower, TowerConfig, size_bias
from diptych.towers.dual import DualConfig, DualEncoder
from diptych.towers.layers import Activation, Block, ChannelNorm, LayerNorm, Mlp, init_blocks, may_shorten
from diptych.towers.vision import VisionTransformer


class SparseFormerConfig(TowerConfig):
    """Everything that decides what a SparseFormer computes.

    Args:
        image_size: height and width in pixels.
        stem: channels of the map; ``stem_stride`` is how many pixels its cells are apart.
        tokens: latent tokens; their regions start as a square grid of overlapping halves, and as the whole picture beyond the square.
        points: sampled in each region, a square number.
        focus_width, focus_heads: of the focusing transformer; ``repeats`` is how often its one block is used.
        mixer: width inside the network that makes the mixing weights.
        width, depth, heads, mlp, activation, norm_eps, layer_scale: of the blocks, as in a ViT.
    """

    kind: Literal["sparseformer"] = "sparseformer"
    image_size: tuple[int, int]
    stem: int = Field(default=64, ge=1)
    stem_stride: Literal[1, 2, 4] = 4
    tokens: int = Field(default=49, ge=1)
    points: int = Field(default=16, ge=1)
    focus_width: int = Field(default=384, ge=1)
    focus_heads: int = Field(default=6, ge=1)
    repeats: int = Field(default=4, ge=1)
    mixer: int = Field(default=128, ge=1)
    width: int = Field(ge=1)
    depth: int = Field(ge=1)
    heads: int = Field(ge=1)
    mlp: int = Field(ge=1)
    activation: Activation = "gelu"
    norm_eps: float = 1e-5
    layer_scale: float | None = None

    @model_validator(mode="after")
    def _fits(self) -> SparseFormerConfig:
        if math.isqrt(self.points) ** 2 != self.points:
            raise ValueError(f"points {self.points} is not a square number")
        for wide, heads in ((self.width, self.heads), (self.focus_width, self.focus_heads)):
            if wide % heads:
                raise ValueError(f"width {wide} is not a multiple of heads {heads}")
        if self.focus_width % 8 or self.width % 8:
            raise ValueError("widths are multiples of 8, for the encoding of regions")
        return self


def adjusted(region_BN4: Tensor, change_BN4: Tensor) -> Tensor:
    """Regions moved by a share of their size and scaled by the exponential of the rest (arXiv:2304.03768, section 3.2)."""
    middle, size = (region_BN4[..., 2:] + region_BN4[..., :2]) / 2, region_BN4[..., 2:] - region_BN4[..., :2]
    middle, size = middle + change_BN4[..., :2] * size, size * change_BN4[..., 2:].exp()
    return torch.cat([middle - size / 2, middle + size / 2], dim=-1)


def places(region_BN4: Tensor, offset_BNP2: Tensor) -> Tensor:
    """Points in regions, (B, N, P, 2) as x, y in 0…1: offsets, made to spread over a third each way, times the region's size."""
    spread = (offset_BNP2 - offset_BNP2.mean(2, keepdim=True)) / (3 * offset_BNP2.std(2, keepdim=True, unbiased=False) + 1e-5)
    middle, size = (region_BN4[..., 2:] + region_BN4[..., :2]) / 2, region_BN4[..., 2:] - region_BN4[..., :2]
    return middle[:, :, None] + spread * size[:, :, None]


def encoded(region_BN4: Tensor, width: int) -> Tensor:
    """Sines and cosines (B, N, width) of the four edges of regions at frequencies from π to 128 π."""
    frequency = torch.logspace(0, math.log10(128), width // 8, device=region_BN4.device, dtype=region_BN4.dtype) * math.pi
    angle = (region_BN4[..., None] * frequency).flatten(2)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class Glance(nn.Module):
    """Tokens sample their regions and take in what is there: sampling, adaptive mixing (arXiv:2304.03768, section 3.2), region encoding."""

    def __init__(self, width: int, channels: int, points: int, mixer: int, eps: float) -> None:
        super().__init__()
        self.width, self.channels, self.points = width, channels, points
        side = math.isqrt(points)
        axis = (torch.arange(side) + 0.5) / side - 0.5
        grid_P2 = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).flatten(0, 1)
        self.place_norm, self.place = LayerNorm(width, eps=eps), nn.Linear(width, 2 * points)
        self.mix_norm, self.mix_in = LayerNorm(width, eps=eps), nn.Linear(width, mixer)
        self.mix_out = nn.Linear(mixer, channels * channels + points * points)
        self.out = nn.Linear(channels * points, width)
        self.where_norm, self.where = LayerNorm(width, eps=eps), nn.Linear(width, width)
        with torch.no_grad():
            self.place.weight.zero_()
            self.place.bias.copy_(grid_P2.flatten() if points > 1 else torch.zeros(2))
            self.mix_out.weight.zero_()
            nn.init.xavier_uniform_(self.mix_out.bias[: channels**2].view(channels, channels))
            nn.init.xavier_uniform_(self.mix_out.bias[channels**2 :].view(points, points))

    def forward(self, map_BCHW: Tensor, x_BND: Tensor, region_BN4: Tensor) -> Tensor:
        """Tokens after the glance."""
        batch, count = x_BND.shape[:2]
        offset_BNP2 = self.place(self.place_norm(x_BND)).unflatten(-1, (self.points, 2))
        place_BNP2 = places(region_BN4, offset_BNP2.to(region_BN4.dtype))
        sample = F.grid_sample(map_BCHW, 2 * place_BNP2.to(map_BCHW.dtype) - 1, padding_mode="border", align_corners=False)
        sample_NPC = sample.permute(0, 2, 3, 1).flatten(0, 1)
        weights = self.mix_out(self.mix_in(self.mix_norm(x_BND))).flatten(0, 1)
        channel, point = weights.split([self.channels**2, self.points**2], dim=1)
        mixed = F.gelu(sample_NPC @ channel.unflatten(1, (self.channels, self.channels)).to(sample_NPC.dtype))
        mixed = F.gelu(point.unflatten(1, (self.points, self.points)).to(mixed.dtype) @ mixed)
        x_BND = x_BND + self.out(mixed.flatten(1)).unflatten(0, (batch, count))
        return x_BND + self.where(self.where_norm(encoded(region_BN4, self.width).to(x_BND.dtype)))


class Stem(nn.Module):
    """A 7×7 convolution, ReLU, a 3×3 maximum, and a layer norm over channels; each of the first strides halves the map."""

    def __init__(self, channels: int, stride: int, eps: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 7, stride=2 if stride > 1 else 1, padding=3)
        self.pool_stride = 2 if stride > 2 else 1
        self.norm = ChannelNorm(channels, eps=eps)
        nn.init.kaiming_normal_(self.first.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.first.bias)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.norm(F.max_pool2d(F.relu(self.first(x_BCHW)), 3, self.pool_stride, 1))


class SparseFormer(ImageTower):
    """Image tower of kind ``sparseformer``: ``embed`` is the focusing transformer; blocks and class token are as in a ViT."""

    config: SparseFormerConfig
    gives = frozenset({"keys", "class_attention"})

    def __init__(self, config: SparseFormerConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.image_size = config.width, config.image_size
        narrow, eps = config.focus_width, config.norm_eps
        self.stem = Stem(config.stem, config.stem_stride, eps)
        self.embedding = nn.Parameter(torch.randn(narrow))
        self.region = nn.Parameter(_first_regions(config.tokens))
        self.glance = Glance(narrow, config.stem, config.points, config.mixer, eps)
        self.focus = Block(narrow, config.focus_heads, 4 * narrow, "gelu", eps)
        self.adjust_norm, self.adjust = LayerNorm(narrow, eps=eps), Mlp(narrow, narrow, "gelu")
        self.adjust.down = nn.Linear(narrow, 4)
        nn.init.zeros_(self.adjust.down.weight)
        nn.init.zeros_(self.adjust.down.bias)
        self.widen = nn.Linear(narrow, config.width)
        self.last_glance = Glance(config.width, config.stem, config.points, config.mixer, eps)
        self.class_token = nn.Parameter(torch.randn(config.width) * config.width**-0.5)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp, config.activation, eps, layer_scale=config.layer_scale)
            for _ in range(config.depth)
        )
        self.norm = LayerNorm(config.width, eps=eps)
        init_blocks(self.blocks, config.width)

    def embed(self, pixels_BCHW: Tensor) -> Tokens:
        """The latent tokens after the focusing transformer, class token first; the grid counts them in one row."""
        map_BCHW, batch = self.stem(pixels_BCHW), len(pixels_BCHW)
        x_BND = self.embedding.expand(batch, self.config.tokens, -1)
        region_BN4 = self.region.float().expand(batch, -1, -1)
        for _ in range(self.config.repeats):
            x_BND = self.focus(self.glance(map_BCHW, x_BND, region_BN4))
            region_BN4 = adjusted(region_BN4, self.adjust(self.adjust_norm(x_BND)).float())
        x_BND = self.last_glance(map_BCHW, self.widen(x_BND), region_BN4)
        first_B1D = self.class_token.to(x_BND.dtype).expand(batch, 1, -1)
        return Tokens(torch.cat([first_B1D, x_BND], dim=1), prefix=1, grid=(1, self.config.tokens))

    def pool(self, tokens: Tokens) -> Tensor:
        """The normed class token, (B, width)."""
        return self.norm(tokens.x_BTD[:, 0])

    def patches(self, tokens: Tokens) -> Tensor:
        return self.norm(tokens.x_BTD[:, tokens.prefix :])

    def finish(self, tokens: Tokens) -> Tensor:
        last = self.blocks[-1]
        return self.norm(last.row(tokens.x_BTD, bias=size_bias(tokens))) if may_shorten(last) else super().finish(tokens)


def _first_regions(count: int) -> Tensor:
    """A square grid of regions half as wide and high as the picture; those beyond the square are the whole picture."""
    side = math.isqrt(count)
    axis = torch.arange(side) / max(1, side - 1) * 0.5 if side > 1 else torch.tensor([0.25])
    corner = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).flatten(0, 1)
    whole = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(count - side * side, 4)
    return torch.cat([torch.cat([corner, corner + 0.5], dim=1), whole])


@torch.no_grad()
def bootstrap(teacher: DualEncoder, skip: int = 1, seed: int = 0, **settings: Any) -> DualEncoder:
    """A model whose image tower is a SparseFormer in front of the last blocks of ``teacher``'s ViT; the rest is the teacher's.

    Blocks, final norm, class token (with its position), projections, text tower, scale and bias are copied; the focusing part is new.

    Args:
        skip: first blocks that are not inherited (the paper leaves out 4 of 12).
        settings: of :class:`SparseFormerConfig`: ``tokens``, ``stem`` …

    Raises:
        UsageError: the teacher's image tower is no ViT with a class token, or has no blocks beyond ``skip``.
    """
    tower = teacher.image
    if not isinstance(tower, VisionTransformer) or tower.config.pool != "class":
        raise UsageError(
            f"bootstrap from image tower {tower.config.kind!r}", "it is not a ViT that pools a class token", "Use a model such as CLIP"
        )
    old = tower.config
    if not 0 <= skip < old.depth:
        raise UsageError(f"bootstrap skip={skip}", f"the tower has {old.depth} blocks", f"Take 0 to {old.depth - 1}")
    same = {name: getattr(old, name) for name in ("image_size", "width", "heads", "mlp", "activation", "norm_eps", "layer_scale")}
    image = SparseFormerConfig(**same, **settings, depth=old.depth - skip)
    config: DualConfig = teacher.config.model_copy(
        update={"image": image, "name": f"{teacher.config.name}-sparse", "parent": teacher.config.name}
    )
    model = DualEncoder(config, tokenizer=teacher.tokenizer, seed=seed)
    kept = {name: value for name, value in teacher.state_dict().items() if not name.startswith("image.")}
    kept |= {f"image.norm.{name}": value for name, value in tower.norm.state_dict().items()}
    for index, block in enumerate(tower.blocks[skip:]):
        kept |= {f"image.blocks.{index}.{name}": value for name, value in block.state_dict().items()}
    kept["image.class_token"] = tower.norm_pre(tower.class_token + tower.position[0])
    model.load_state_dict(kept, strict=False)
    return model.to(teacher.device)


TOWER = ("sparseformer", "image", SparseFormerConfig, SparseFormer)
