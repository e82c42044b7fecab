"""Linear heads at the minimum of a smooth loss, by L-BFGS in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def minimum(loss_of: Callable[..., Tensor], *starts: Tensor, steps: int) -> list[Tensor]:
    """Float64 tensors where ``loss_of(*tensors)`` is least, from ``starts``; at most ``steps`` iterations."""
    tensors = [start.double().clone().requires_grad_() for start in starts]
    solver = torch.optim.LBFGS(
        tensors, max_iter=steps, history_size=20, tolerance_grad=1e-9, tolerance_change=1e-13, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        solver.zero_grad()
        value = loss_of(*tensors)
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    return [tensor.detach() for tensor in tensors]
