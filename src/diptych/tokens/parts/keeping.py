"""Some patch tokens stay, the others are left out.

Shapes: B rows, T tokens (prefix first), P prefix tokens, K kept patches, D width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from diptych.core.types import Tokens


def keep(tokens: Tokens, kept_BK: Tensor) -> Tokens:
    """The prefix and the patch tokens at places ``kept_BK``, in that order; sizes and original places go with them."""
    x_BTD, prefix = tokens.x_BTD, tokens.prefix
    batch, kept = kept_BK.shape
    first_B1 = torch.arange(batch, device=x_BTD.device)[:, None] * x_BTD.shape[1]
    prefix_BP = torch.arange(prefix, device=x_BTD.device).expand(batch, prefix)
    rows_BT = first_B1 + torch.cat([prefix_BP, kept_BK + prefix], dim=1)
    x_BTD = x_BTD.flatten(0, 1).index_select(0, rows_BT.flatten()).unflatten(0, (batch, prefix + kept))
    size_BT = tokens.size_BT
    if size_BT is not None:
        size_BT = size_BT[:, -(tokens.x_BTD.shape[1] - prefix) :].gather(1, kept_BK)
    return replace(tokens, x_BTD=x_BTD, size_BT=size_BT, kept_BT=kept_BK if tokens.kept_BT is None else tokens.kept_BT.gather(1, kept_BK))
