"""Groups of patch tokens become one token each.

Shapes: B rows, T tokens (prefix first), N patch tokens, M of them after merging, S sources, R targets, D width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from diptych.core.types import Tokens


def sizes(tokens: Tokens) -> Tensor:
    """How many original patches each patch token stands for, (B, N), float32."""
    patches = tokens.x_BTD.shape[1] - tokens.prefix
    if tokens.size_BT is None:
        return torch.ones(len(tokens.x_BTD), patches, device=tokens.x_BTD.device)
    return tokens.size_BT[:, -patches:].float()


def merge(tokens: Tokens, slot_BN: Tensor, count: int, proportional: bool) -> Tokens:
    """Patch token n goes into token ``slot_BN``, the mean of its members weighted by their sizes; prefix tokens stay.

    Args:
        slot_BN: for each patch token a number below ``count``; every number occurs.
        proportional: attention counts a merged token as often as it has patches.
    """
    x_BND = tokens.x_BTD[:, tokens.prefix :]
    batch, size_BN = len(x_BND), sizes(tokens)
    flat = (slot_BN + torch.arange(batch, device=slot_BN.device)[:, None] * count).flatten()
    size_BM = size_BN.new_zeros(batch * count).index_add(0, flat, size_BN.flatten())
    weight_BN1 = (size_BN.flatten() / size_BM[flat]).to(x_BND.dtype)[:, None]
    merged = x_BND.new_zeros(batch * count, x_BND.shape[-1]).index_add(0, flat, x_BND.flatten(0, 1) * weight_BN1)
    x_BTD = torch.cat([tokens.x_BTD[:, : tokens.prefix], merged.unflatten(0, (batch, count))], dim=1)
    return replace(tokens, x_BTD=x_BTD, size_BT=size_BM.view(batch, count), kept_BT=None, proportional=proportional)


def slots(target_BS: Tensor, moves_BS: Tensor, targets: int) -> Tensor:
    """Slots (B, S + R) of S sources followed by R targets, for :func:`merge`: sources that stay first, then the targets.

    Args:
        target_BS: the target of each source.
        moves_BS: which sources go into their target; in every row as many.
        targets: R.
    """
    first_B1 = (~moves_BS).sum(dim=1, keepdim=True)
    stay_BS = (~moves_BS).cumsum(dim=1) - 1
    source_BS = torch.where(moves_BS, first_B1 + target_BS, stay_BS)
    return torch.cat([source_BS, first_B1 + torch.arange(targets, device=target_BS.device)], dim=1)
