"""First in, first out: rows of earlier batches, in buffers.

Shapes: N rows of all ranks, Q places, D width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Queue(nn.Module):
    """Rows of several kinds under one numbering; equal on ranks that are given equal rows.

    Args:
        widths: width of each kind of rows.
        size: Q. A batch that is larger leaves its last Q rows.
    """

    concept: Tensor
    count: Tensor

    def __init__(self, widths: Mapping[str, int], size: int) -> None:
        super().__init__()
        self.kinds, self.size = tuple(widths), size
        for kind, width in widths.items():
            self.register_buffer(f"rows_{kind}", torch.zeros(size, width))
        self.register_buffer("concept", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))  # rows that ever came in

    def state(self) -> dict[str, Tensor]:
        """``queue.KIND`` (Q, D), ``queue.concept`` (Q,), ``queue.full`` (Q,) (is a place taken): copies, for this step's loss."""
        full = torch.arange(self.size, device=self.count.device) < self.count
        held = {f"queue.{kind}": self.get_buffer(f"rows_{kind}").clone() for kind in self.kinds}
        return held | {"queue.concept": self.concept.clone(), "queue.full": full}

    @torch.no_grad()
    def put(self, rows: Mapping[str, Tensor], concept_N: Tensor) -> None:
        """Let the oldest rows go and take in these."""
        begun = len(concept_N) - min(len(concept_N), self.size)
        place = (self.count + torch.arange(begun, len(concept_N), device=self.count.device)) % self.size
        for kind in self.kinds:
            buffer = self.get_buffer(f"rows_{kind}")
            buffer[place] = rows[kind][begun:].to(buffer.dtype)
        self.concept[place] = concept_N[begun:]
        self.count += len(concept_N)
