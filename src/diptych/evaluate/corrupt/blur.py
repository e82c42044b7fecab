"""Defocus, glass, motion and zoom blur (Hendrycks and Dietterich, arXiv:1903.12261, section 4.1).

B pictures, C channels, H × W pixels, P of them, R rounds.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from diptych.evaluate.corrupt.pixels import SLACK, clipped_zoom, correlate, gaussian, gaussian_matrix, motion
from diptych.evaluate.corrupt.settings import Constants


def draw_nothing(image_BCHW: Tensor, c: Constants, generator: Generator) -> dict[str, Tensor]:
    """For corruptions without chance."""
    return {}


def disk(radius: float, softness: float) -> Tensor:
    """``(K, K)`` kernel of a disk: pixels within ``radius`` of the middle, then a small Gaussian of ``softness`` pixels.

    K is 17 up to a radius of 8. The Gaussian has 3 × 3 taps there and 5 × 5 above.
    """
    reach = 8 if radius <= 8 else int(radius)
    line = torch.arange(-reach, reach + 1, dtype=torch.float64)
    flat = ((line[:, None] ** 2 + line**2) <= radius**2).double()
    flat = (flat / flat.sum()).float()
    taps = 1 if radius <= 8 else 2
    smooth = gaussian_matrix(len(line), softness, "mirror", truncate=taps / softness)
    return smooth @ flat @ smooth.T


def defocus_blur(image_BCHW: Tensor, c: Constants) -> Tensor:
    """Correlated with a disk: a lens out of focus."""
    return correlate(image_BCHW, disk(*c))


def draw_glass(image_BCHW: Tensor, c: Constants, generator: Generator) -> dict[str, Tensor]:
    """Whole steps (down, right) from −reach to reach − 1 for every pixel and round."""
    reach, rounds = int(c[1]), int(c[2])
    shape = (len(image_BCHW), rounds, 2, *image_BCHW.shape[-2:])
    return {"step_BR2HW": torch.randint(-reach, reach, shape, generator=generator)}


def glass_blur(image_BCHW: Tensor, c: Constants, step_BR2HW: Tensor) -> Tensor:
    """Blurred, cut to whole levels, each pixel replaced by a neighbour, and blurred again.

    From the last pixel to the first, but for a margin of the reach, a pixel takes the value that the one at its step has then. (The
    published code means to swap the two, but both sides of its assignment are views of one array, so the neighbour stays as it is; the
    published pictures were made so.) A pixel whose neighbour was passed before takes what that one has become. These chains are
    followed to their ends for all pixels at once, by doubling.
    """
    reach = int(c[1])
    soft = ((gaussian(image_BCHW, c[0]).clamp(0, 1) * 255 + SLACK).floor() / 255).flatten(2)
    height, width = image_BCHW.shape[-2:]
    pixels, place_P = height * width, torch.arange(height * width, device=image_BCHW.device)
    y_P, x_P = place_P // width, place_P % width
    inside_P = (y_P > reach) & (y_P <= height - reach) & (x_P > reach) & (x_P <= width - reach)
    for step_B2P in step_BR2HW.flatten(3).unbind(1):
        taken_BP = ((y_P + step_B2P[:, 0]) * width + x_P + step_B2P[:, 1]).where(inside_P, place_P)
        passed_BP = inside_P[taken_BP.clamp(0, pixels - 1)] & (taken_BP > place_P)
        after_BP = torch.where(passed_BP, taken_BP, taken_BP + pixels)  # above P: the value before this round
        next_B2P = torch.cat([after_BP, (place_P + pixels).expand_as(after_BP)], 1)
        for _ in range(pixels.bit_length()):
            next_B2P = next_B2P.gather(1, next_B2P)
        source_BP = next_B2P[:, :pixels] - pixels
        soft = soft.gather(2, source_BP[:, None].expand_as(soft))
    return gaussian(soft.view(image_BCHW.shape), c[0])


def draw_motion(image_BCHW: Tensor, c: Constants, generator: Generator) -> dict[str, Tensor]:
    """An angle from −45 to 45 degrees a picture."""
    return {"angle_B": torch.rand(len(image_BCHW), generator=generator) * 90 - 45}


def motion_blur(image_BCHW: Tensor, c: Constants, angle_B: Tensor) -> Tensor:
    """Blurred along a line, rounded to whole levels as ImageMagick does."""
    return (motion(image_BCHW, angle_B, c[0], c[1]).clamp(0, 1) * 255).round() / 255


def zoom_blur(image_BCHW: Tensor, c: Constants) -> Tensor:
    """The mean of the picture and of the picture enlarged 1, 1 + step, 1 + 2·step … times."""
    count, step = int(c[0]), (1 + c[1]) - 1  # numpy.arange steps by this difference, and a side of 32.5 pixels is rounded by it
    total = image_BCHW.clone()
    for i in range(count):
        total += clipped_zoom(image_BCHW, 1 + i * step)
    return total / (count + 1)
