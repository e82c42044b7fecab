"""Answers computed a block of pictures at a time, where each takes many numbers on the way."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MOST = 2**24


def in_blocks(function: Callable[[Tensor], Tensor], given_BX: Tensor, each: int) -> Tensor:
    """``function(given_BX)``, which works row by row, on blocks of so many rows that ``each`` numbers a row come to at most 2²⁴.

    Args:
        each: how many numbers ``function`` holds for one row at its widest.
    """
    if len(given_BX) * each <= MOST:
        return function(given_BX)
    return torch.cat([function(part) for part in given_BX.split(max(1, MOST // each))])
