"""What a method that changes a tower is given: the parent, its rows, and the pictures themselves.

Shapes: B pictures, C channels, H height, W width, S labelled pictures, U pictures without labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from diptych.adapt.parts.shots import Shots
from diptych.core.errors import UsageError

if TYPE_CHECKING:
    from diptych.towers.dual import DualEncoder


@dataclass(frozen=True, slots=True)
class Pictures:
    """Prepared pictures in random access; decoded when they are asked for, and kept.

    Args:
        read: indices to uint8 ``(B, 3, H, W)`` at the model's size.
        index: which of them these are, in order.
    """

    read: Callable[[Tensor], Tensor]
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def take(self, index: Tensor) -> Pictures:
        """Only those at ``index``."""
        return replace(self, index=self.index[index])

    def __call__(self, index_B: Tensor, draw: Generator | None = None) -> Tensor:
        """uint8 pictures ``(B, 3, H, W)``.

        Args:
            index_B: which ones, among these.
            draw: random crops and mirrored pictures by these numbers; None gives them as they are.
        """
        image_BCHW = self.read(self.index[index_B])
        return image_BCHW if draw is None else cropped(image_BCHW, draw)


def cropped(image_BCHW: Tensor, draw: Generator, least: float = 0.5) -> Tensor:
    """A random crop of each picture (``least`` to all of its area, its own aspect) at the old size, mirrored half of the time, uint8."""
    count, _, height, width = image_BCHW.shape
    side_B = (least + (1 - least) * torch.rand(count, generator=draw)).sqrt()
    low_B2 = torch.rand(count, 2, generator=draw) * (1 - side_B)[:, None]
    mirror_B = torch.where(torch.rand(count, generator=draw) < 0.5, -1.0, 1.0)
    zero_B = torch.zeros(count)
    centre_B2 = 2 * (low_B2 + side_B[:, None] / 2) - 1
    across = torch.stack([side_B * mirror_B, zero_B, centre_B2[:, 0]], dim=1)
    down = torch.stack([zero_B, side_B, centre_B2[:, 1]], dim=1)
    grid = F.affine_grid(torch.stack([across, down], dim=1), [count, 3, height, width], align_corners=False)
    made = F.grid_sample(image_BCHW.float().cpu(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return made.round().clamp(0, 255).to(torch.uint8).to(image_BCHW.device)


@dataclass(frozen=True, slots=True)
class Tuned:
    """What training a tower gave.

    Args:
        model: the adapted model: other weights, or prompts; a head or a rule where the method has one.
        numbers: how many numbers were trained.
        losses: of each epoch, or step where there are few.
    """

    model: DualEncoder
    numbers: int
    losses: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Work:
    """A model to adapt, with its rows and pictures.

    Args:
        model: the parent; it stays as it is.
        shots: its rows; see :class:`~diptych.adapt.parts.shots.Shots`.
        pictures: the labelled pictures, in the order of ``shots.image_SD``.
        free: pictures without labels, in the order of ``shots.pool_UD``.
    """

    model: DualEncoder
    shots: Shots
    pictures: Pictures
    free: Pictures

    def __post_init__(self) -> None:
        for name, have, want in (("pictures", self.pictures, self.shots.image_SD), ("free", self.free, self.shots.pool_UD)):
            if len(have) != len(want):
                raise UsageError(f"adapt, {name}", f"{len(have)} pictures for {len(want)} rows", "Give one picture a row")

    def take(self, index: Tensor) -> Work:
        """Only the labelled pictures at ``index``."""
        return replace(self, shots=self.shots.take(index), pictures=self.pictures.take(index))
