"""Layers that both towers share: norm, activations, attention, block.

Shapes: B rows, T tokens, Q query tokens, D width, H heads, K width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

Activation = Literal["gelu", "quick_gelu", "gelu_tanh", "relu", "silu"]


def quick_gelu(x: Tensor) -> Tensor:
    """``x · sigmoid(1.702 x)``, the approximation of GELU that the first CLIP models were trained with."""
    return x * torch.sigmoid(1.702 * x)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its tanh approximation (SigLIP)."""
    return functional.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "quick_gelu": quick_gelu,
    "gelu_tanh": gelu_tanh,
    "relu": functional.relu,
    "silu": functional.silu,
}


class LayerNorm(nn.LayerNorm):
    """Layer norm computed in float32 whatever the input's precision."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype == torch.float32 or input.dtype == torch.float64:
            return functional.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)
        weight, bias = self.weight.float(), self.bias.float()
        return functional.layer_norm(input.float(), self.normalized_shape, weight, bias, self.eps).to(input.dtype)


class ChannelNorm(LayerNorm):
    """Layer norm over the channels of a map (B, C, H, W), each place by itself; fastest in channels-last memory."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Seam(Protocol):
    """What a block calls between its attention and its MLP: tokens in, perhaps fewer tokens out.

    Attributes:
        uses: what it wants to see of the attention; see :meth:`Attention.look`.
    """

    uses: frozenset[str]

    def __call__(self, x_BTD: Tensor, seen: dict[str, Tensor]) -> Tensor: ...


class Attention(nn.Module):
    """Multi-head self-attention with one matmul for queries, keys and values (arXiv:1706.03762, section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def _split(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x_BTD: Tensor, bias: Tensor | None = None, causal: bool = False, uses: frozenset[str] | None = None) -> Any:
        """Attention of all tokens to all (or, causal, to earlier) tokens.

        Args:
            x_BTD: tokens.
            bias: added to the logits, broadcastable to (B, heads, T, T).
            causal: token t sees tokens 0 … t.
            uses: what :meth:`look` shall show; the answer is then a tuple of the tokens and that.
        """
        q, k, v = map(self._split, self.qkv(x_BTD).chunk(3, dim=-1))
        if bias is not None and causal:
            length = x_BTD.shape[1]
            bias = bias + torch.full((length, length), float("-inf"), device=bias.device, dtype=bias.dtype).triu(1)
        mask = None if bias is None else bias.to(q.dtype)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal and bias is None)
        y_BTD = self.out(y.transpose(1, 2).flatten(2))
        return y_BTD if uses is None else (y_BTD, self.look(q, k, mask, uses))

    @staticmethod
    def look(q_BHTK: Tensor, k_BHTK: Tensor, mask: Tensor | None, uses: frozenset[str]) -> dict[str, Tensor]:
        """``"keys"`` (B, T, K) and ``"class_attention"`` of token 0 (B, T), float32, averaged over heads; only those in ``uses``."""
        seen = {}
        if "keys" in uses:
            seen["keys"] = k_BHTK.mean(dim=1).float()
        if "class_attention" in uses:
            logits_BHT = (q_BHTK[:, :, :1] @ k_BHTK.transpose(-1, -2)).float()[:, :, 0] * q_BHTK.shape[-1] ** -0.5
            if mask is not None:
                logits_BHT = logits_BHT + mask[..., 0, :].float()
            seen["class_attention"] = logits_BHT.softmax(dim=-1).mean(dim=1)
        return seen

    def row(self, x_BTD: Tensor, at: tuple[Tensor, Tensor] | tuple[slice, int], mask: Tensor | None = None) -> Tensor:
        """The same attention for one row a sample, (B, D): ``at`` indexes ``x_BTD`` to (B, D); ``mask`` adds to (B, heads, 1, T)."""
        q_BTD, k, v = self.qkv(x_BTD).chunk(3, dim=-1)
        q, k, v = self._split(q_BTD[at][:, None]), self._split(k), self._split(v)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask.to(q.dtype))
        return self.out(y.transpose(1, 2).flatten(2))[:, 0]

    def beside(self, first_1PD: Tensor, x_BSD: Tensor, at: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Causal attention of rows that all begin with the same P tokens: those once, (1, P, D), and each row's own, (B, S, D).

        Args:
            at: indexes ``x_BSD`` to (B, D), the only tokens whose answers are wanted, (B, 1, D); None is all.
        """
        q_first, k_first, v_first = map(self._split, self.qkv(first_1PD).chunk(3, dim=-1))
        q_BSD, k, v = self.qkv(x_BSD).chunk(3, dim=-1)
        y_first = functional.scaled_dot_product_attention(q_first, k_first, v_first, is_causal=True)
        own, before = x_BSD.shape[1], first_1PD.shape[1]
        seen = torch.ones(own, before + own, dtype=torch.bool, device=x_BSD.device).tril(before)
        seen = seen if at is None else seen[at[1], None, None]
        q = self._split(q_BSD if at is None else q_BSD[at][:, None])
        k, v = (
            torch.cat([shared.expand(len(x_BSD), -1, -1, -1), self._split(mine)], dim=2) for shared, mine in ((k_first, k), (v_first, v))
        )
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        return self.out(y_first.transpose(1, 2).flatten(2)), self.out(y.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers round an activation."""

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


class GatedMlp(nn.Module):
    """``down(activation(gate(x)) · value(x))`` (GeGLU, arXiv:2002.05202, section 2); gate and value are one matmul."""

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * hidden)
        self.down = nn.Linear(hidden, width)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(x).chunk(2, dim=-1)
        return self.down(self.activation(gate) * value)


class LayerScale(nn.Module):
    """A learned factor a channel on a residual branch (CaiT, arXiv:2103.17239, section 2)."""

    def __init__(self, width: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """Pre-norm transformer block: ``x + attention(norm(x))``, then ``x + mlp(norm(x))``.

    Args:
        hidden: width of the MLP's middle.
        causal: whether tokens see only earlier ones.
        layer_scale: initial value of a learned factor on both branches; None leaves it out.
        gated: the MLP is gated (:class:`GatedMlp`).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        activation: Activation = "gelu",
        eps: float = 1e-5,
        causal: bool = False,
        layer_scale: float | None = None,
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.norm1 = LayerNorm(width, eps=eps)
        self.attention = Attention(width, heads)
        self.norm2 = LayerNorm(width, eps=eps)
        self.mlp = (GatedMlp if gated else Mlp)(width, hidden, activation)
        self.scale1 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        self.scale2 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)

    def forward(self, x_BTD: Tensor, bias: Tensor | None = None, seam: Seam | None = None) -> Tensor:
        """Tokens after the block.

        Args:
            bias: additive attention bias, broadcastable to (B, heads, T, T).
            seam: called between attention and MLP; the MLP works on the tokens that it gives back.
        """
        if seam is None:
            x_BTD = x_BTD + self.scale1(self.attention(self.norm1(x_BTD), bias, self.causal))
        else:
            y_BTD, seen = self.attention(self.norm1(x_BTD), bias, self.causal, seam.uses)
            x_BTD = seam(x_BTD + self.scale1(y_BTD), seen)
        return x_BTD + self.scale2(self.mlp(self.norm2(x_BTD)))

    def row(self, x_BTD: Tensor, index_B: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """One row of what :meth:`forward` gives, exactly, for a fraction of the work: (B, D).

        Args:
            index_B: which token of each row; None is token 0.
            bias: additive, broadcastable to (B, heads, 1, T).
        """
        rows_B = torch.arange(len(x_BTD), device=x_BTD.device)
        at = (slice(None), 0) if index_B is None else (rows_B, index_B)
        if self.causal:
            last_B = torch.zeros_like(rows_B) if index_B is None else index_B
            later_BT = torch.arange(x_BTD.shape[1], device=x_BTD.device)[None] > last_B[:, None]
            hide = torch.zeros_like(later_BT, dtype=x_BTD.dtype).masked_fill(later_BT, float("-inf"))[:, None, None]
            bias = hide if bias is None else bias + hide
        x_BD = x_BTD[at] + self.scale1(self.attention.row(self.norm1(x_BTD), at, bias))
        return x_BD + self.scale2(self.mlp(self.norm2(x_BD)))

    def beside(self, first_1PD: Tensor, x_BSD: Tensor, index_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What a causal :meth:`forward` gives where all rows begin with the same P tokens, which are computed once.

        Args:
            first_1PD: those tokens; they come back as the next block reads them.
            x_BSD: what follows them in each row.
            index_B: which of a row's own tokens is wanted, (B, 1, D); None is all.
        """
        at = None if index_B is None else (torch.arange(len(x_BSD), device=x_BSD.device), index_B)
        y_first, y = self.attention.beside(self.norm1(first_1PD), self.norm1(x_BSD), at)
        first_1PD = first_1PD + self.scale1(y_first)
        x_BSD = (x_BSD if at is None else x_BSD[at][:, None]) + self.scale1(y)
        return first_1PD + self.scale2(self.mlp(self.norm2(first_1PD))), x_BSD + self.scale2(self.mlp(self.norm2(x_BSD)))


def may_shorten(block: nn.Module) -> TypeGuard[Block]:
    """Whether :meth:`Block.row` may stand for ``block(x)``: an unwrapped block that nobody hooks."""
    return type(block) is Block and not block._forward_hooks and not block._forward_pre_hooks


def init_blocks(blocks: nn.ModuleList, width: int) -> None:
    """CLIP's initial values for the blocks of one tower (arXiv:2103.00020; standard deviations by width and depth)."""
    attention_std, mlp_std = width**-0.5, (2 * width) ** -0.5
    out_std = attention_std * (2 * max(len(blocks), 1)) ** -0.5
    for block in blocks:
        if isinstance(block, Block):
            nn.init.normal_(block.attention.qkv.weight, std=attention_std)
            nn.init.normal_(block.attention.out.weight, std=out_std)
            nn.init.normal_(block.mlp.up.weight, std=mlp_std)
            nn.init.normal_(block.mlp.down.weight, std=out_std)
            for layer in (block.attention.qkv, block.attention.out, block.mlp.up, block.mlp.down):
                nn.init.zeros_(layer.bias)
