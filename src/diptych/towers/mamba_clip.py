"""Image tower of selective-scan blocks: patches are read as sequences in two or four orders, and no token attends to another.

Paper: Huang et al., "CLIP-Mamba: CLIP Pretrained Mamba Models with OOD and Hessian Evaluation", arXiv:2404.19394. The scan and
the block are those of Mamba (arXiv:2312.00752, algorithm 2 and section 3.4); orders are Vim's two (arXiv:2401.09417, algorithm 1) or
VMamba's four (arXiv:2401.10166, section 4.2). Reference code: https://github.com/raytrun/mamba-clip.

Relations: the paper trains VMamba and Simba backbones of its authors' choice; here every block is Mamba's own in each order, without MLP
between, patches carry learned positions, and the mean of the normed tokens is the picture. A is discretised exactly (zero-order hold) and
B by Euler's rule, as Mamba's code does. Every order has its own convolution, projections, A and D, as in Vim.

The scan itself (``scan.py``), per row, channel e and state n::

    for t in range(T):
        h[e, n] = exp(dt[t, e] * A[e, n]) * h[e, n] + dt[t, e] * B[t, n] * x[t, e]
        y[t, e] = sum(C[t, n] * h[e, n] for n in range(N))

Shapes: B rows, T tokens, D width, E inner channels, N states, R rank of dt, K orders.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from diptych.core.card import Card
from diptych.core.errors import UsageError
from diptych.core.types import Tokens
from diptych.towers.base import ImageTower, TowerConfig
from diptych.towers.layers import LayerNorm
from diptych.towers.scan import selective_scan
from diptych.towers.vision import mean_of_patches, resize_positions

CARD = Card(
    id="mamba-clip",
    name="Mamba-CLIP",
    family="tower",
    paper="CLIP-Mamba: CLIP Pretrained Mamba Models with OOD and Hessian Evaluation (arXiv:2404.19394)",
    where="VMamba and Simba towers trained as CLIP's; the scan is Mamba's (arXiv:2312.00752, algorithm 2)",
    code="https://github.com/raytrun/mamba-clip",
    claim="A selective-scan image tower comes near a ViT's zero-shot accuracy at fewer parameters; its loss is sharper",
    published="67 M Mamba on par with 307 M ViT over 26 sets; a sharper loss by its Hessian (abstract)",
)


class MambaConfig(TowerConfig):
    """Everything that decides what a selective-scan tower computes.

    Args:
        image_size: height and width in pixels, multiples of ``patch``.
        expand: inner channels are ``expand × width``.
        state: N, states a channel.
        conv: taps of the causal convolution before the scan.
        rank: R of the step size; None is width / 16, rounded up.
        scan: ``"bidirectional"`` reads patches row by row, forth and back; ``"cross"`` also column by column.
    """

    kind: Literal["mamba"] = "mamba"
    image_size: tuple[int, int]
    patch: int = Field(ge=1)
    width: int = Field(ge=1)
    depth: int = Field(ge=1)
    expand: int = Field(default=2, ge=1)
    state: int = Field(default=16, ge=1)
    conv: int = Field(default=4, ge=1)
    rank: int | None = Field(default=None, ge=1)
    scan: Literal["bidirectional", "cross"] = "bidirectional"
    norm_eps: float = 1e-5

    @model_validator(mode="after")
    def _fits(self) -> MambaConfig:
        if any(side % self.patch or not side for side in self.image_size):
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch {self.patch}")
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.image_size[0] // self.patch, self.image_size[1] // self.patch


def orders(tokens: int, grid: tuple[int, int], scan: str, device: torch.device) -> Tensor:
    """Which token stands at place t of each order, (K, T); a cross scan of fewer tokens than the grid is a :class:`UsageError`."""
    rows_T = torch.arange(tokens, device=device)
    if scan == "bidirectional":
        return torch.stack([rows_T, rows_T.flip(0)])
    if tokens != grid[0] * grid[1]:
        why = f"a cross scan reads columns of the whole grid, {grid[0]}×{grid[1]}, and there are {tokens} tokens"
        raise UsageError("image tower 'mamba'", why, "Use scan 'bidirectional' with a token method or another picture size")
    columns_T = rows_T.view(grid).T.flatten()
    return torch.stack([rows_T, rows_T.flip(0), columns_T, columns_T.flip(0)])


class Mixer(nn.Module):
    """Project to x and gate, convolve and scan x in every order, sum, gate, project back."""

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        inner, rank = config.expand * config.width, config.rank or -(-config.width // 16)
        ways = 2 if config.scan == "bidirectional" else 4
        self.config, self.rank = config, rank
        self.enter = nn.Linear(config.width, 2 * inner, bias=False)
        self.leave = nn.Linear(inner, config.width, bias=False)
        nn.init.normal_(self.leave.weight, std=(inner * config.depth) ** -0.5)
        self.conv = nn.Parameter(torch.empty(ways, config.conv, inner).uniform_(-1, 1) * config.conv**-0.5)
        self.conv_bias = nn.Parameter(torch.zeros(ways, inner))
        self.select = nn.Parameter(torch.empty(ways, inner, rank + 2 * config.state).uniform_(-1, 1) * inner**-0.5)
        self.step = nn.Parameter(torch.empty(ways, rank, inner).uniform_(-1, 1) * rank**-0.5)
        first_KE = torch.exp(torch.empty(ways, inner).uniform_(math.log(1e-3), math.log(1e-1)))
        self.step_bias = nn.Parameter(first_KE + torch.log(-torch.expm1(-first_KE)))  # softplus of it is first_KE
        self.log_a = nn.Parameter(torch.arange(1, config.state + 1).float().log()[:, None].repeat(ways, 1, inner))
        self.skip = nn.Parameter(torch.ones(ways, inner))

    def _convolved(self, x_KTBE: Tensor) -> Tensor:
        """Each channel's causal convolution along T, then SiLU."""
        taps, length = self.config.conv, x_KTBE.shape[1]
        padded = functional.pad(x_KTBE, (0, 0, 0, 0, taps - 1, 0))
        y_KTBE = self.conv_bias[:, None, None] + sum(padded[:, j : j + length] * self.conv[:, j, None, None] for j in range(taps))
        return functional.silu(y_KTBE)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Tokens (B, T, D) in, the same shape out."""
        x_TBE, gate_TBE = self.enter(x_BTD.transpose(0, 1)).chunk(2, dim=-1)
        order_KT = orders(len(x_TBE), self.config.grid, self.config.scan, x_BTD.device)
        x_KTBE = self._convolved(x_TBE[order_KT])
        flat_KGE = x_KTBE.flatten(1, 2)
        dt, b, c = (flat_KGE @ self.select).unflatten(1, x_KTBE.shape[1:3]).split([self.rank, self.config.state, self.config.state], dim=-1)
        dt_KGE = functional.softplus(dt.flatten(1, 2) @ self.step + self.step_bias[:, None])
        y_KTBE = selective_scan(x_KTBE, dt_KGE.view(x_KTBE.shape), -self.log_a.exp(), b, c) + x_KTBE * self.skip[:, None, None]
        back_KT = order_KT.argsort(dim=1)
        y_TBE = torch.stack([y_TBE[back_T] for y_TBE, back_T in zip(y_KTBE, back_KT, strict=True)]).sum(0)
        return self.leave(y_TBE * functional.silu(gate_TBE)).transpose(0, 1)


class MambaBlock(nn.Module):
    """``x + mixer(norm(x))``."""

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.norm = LayerNorm(config.width, eps=config.norm_eps)
        self.mixer = Mixer(config)

    def forward(self, x_BTD: Tensor, bias: Tensor | None = None) -> Tensor:
        """Tokens after the block. ``bias``, by which merged tokens weigh in attention, has no meaning in a scan and is refused."""
        if bias is not None:
            raise UsageError("merged tokens", "a scan has no attention in which they could weigh more", "Use a method that drops tokens")
        return x_BTD + self.mixer(self.norm(x_BTD))


class Mamba(ImageTower):
    """Image tower of kind ``mamba``."""

    config: MambaConfig
    takes_prompts = False

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.image_size = config.width, config.image_size
        self.patch = nn.Linear(3 * config.patch**2, config.width)
        self.position = nn.Parameter(torch.randn(config.grid[0] * config.grid[1], config.width) * 0.02)
        self.blocks = nn.ModuleList(MambaBlock(config) for _ in range(config.depth))
        self.norm = LayerNorm(config.width, eps=config.norm_eps)

    def embed(self, pixels_BCHW: Tensor) -> Tokens:
        """Patches by one matmul, and positions."""
        side = self.config.patch
        batch, channels, height, width = pixels_BCHW.shape
        if height % side or width % side:
            raise UsageError(f"pictures of {height}×{width}", f"the sides are no multiples of {side}", "Resize the images")
        grid = (height // side, width // side)
        x = pixels_BCHW.reshape(batch, channels, grid[0], side, grid[1], side)
        x_BTD = self.patch(x.permute(0, 2, 4, 1, 3, 5).reshape(batch, grid[0] * grid[1], channels * side * side))
        return Tokens(x_BTD + resize_positions(self.position, self.config.grid, grid), prefix=0, grid=grid)

    def pool(self, tokens: Tokens) -> Tensor:
        """Mean of the normed tokens: (B, width)."""
        return mean_of_patches(tokens, self.patches(tokens))

    def patches(self, tokens: Tokens) -> Tensor:
        """Normed tokens (B, T, width)."""
        return self.norm(tokens.x_BTD)


TOWER = ("mamba", "image", MambaConfig, Mamba)
