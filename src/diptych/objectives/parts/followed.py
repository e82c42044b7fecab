"""A projector with a moving average of its weights, for objectives whose targets come of an average tower (BYOL, A-CLIP).

Shapes: B rows, W a tower's width, D the projector's.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


def cosine_decay(start: float, progress: Any) -> Any:
    """The average's decay: ``start`` at first, 1 at the end, along half a cosine (BYOL, arXiv:2006.07733, section 3.3)."""
    cosine = torch.cos(math.pi * progress) if isinstance(progress, Tensor) else math.cos(math.pi * progress)
    return 1 - (1 - start) * (cosine + 1) / 2


class FollowedProjector(nn.Module):
    """Base of a method: its ``projector``, and the projector's average as buffers, in the order of the parameters."""

    projector: nn.Sequential

    def follow(self, projector: nn.Sequential) -> None:
        """Take ``projector`` as the method's own, its average starting as it is."""
        self.projector = projector
        self.names = [name for name, _ in projector.named_parameters()]
        for index, parameter in enumerate(projector.parameters()):
            self.register_buffer(f"copy_{index}", parameter.detach().clone())

    @property
    def copies(self) -> list[Tensor]:
        """The average's weights."""
        return [self.get_buffer(f"copy_{index}") for index in range(len(self.names))]

    @torch.no_grad()
    def target(self, pooled_BW: Tensor) -> Tensor:
        """(B, D) by the average's weights, without a graph."""
        return functional_call(self.projector, dict(zip(self.names, self.copies, strict=True)), (pooled_BW,))

    @torch.no_grad()
    def take_in(self, decay: Any) -> None:
        """The average takes in a share 1 − ``decay`` of the weights as they are."""
        for copy, parameter in zip(self.copies, self.projector.parameters(), strict=True):
            copy.lerp_(parameter.detach(), torch.as_tensor(1 - decay, dtype=copy.dtype, device=copy.device))
