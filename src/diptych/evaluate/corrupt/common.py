"""The 15 common corruptions at five severities.

Paper: Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations (arXiv:1903.12261),
section 4.1; constants in :mod:`~diptych.evaluate.corrupt.settings`.

Drawing random numbers is apart from what is done with them, so that one can be checked against the published code on the other's numbers.
B pictures, C channels (RGB), H × W pixels.

    drawn = corruption.draw(image, constants, generator)
    image = corruption.apply(image, constants, **drawn)       # values from 0 to 1, then whole levels
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from diptych.core.errors import UsageError, nearest
from diptych.evaluate.corrupt import blur, digital, noise, weather
from diptych.evaluate.corrupt.pixels import to_levels
from diptych.evaluate.corrupt.settings import SEVERITIES, Constants, constants


@dataclass(frozen=True, slots=True)
class Corruption:
    """One of the 15.

    Args:
        name: as the published files are called.
        kind: ``"noise"``, ``"blur"``, ``"weather"`` or ``"digital"``.
        draw: from pictures 0–1, constants and a generator to all random numbers.
        apply: from pictures 0–1, constants and these numbers to changed pictures, not yet clipped.
    """

    name: str
    kind: str
    draw: Callable[[Tensor, Constants, Generator], dict[str, Tensor]]
    apply: Callable[..., Tensor]


COMMON = {
    one.name: one
    for one in (
        Corruption("gaussian_noise", "noise", noise.draw_gaussian, noise.gaussian_noise),
        Corruption("shot_noise", "noise", noise.draw_shot, noise.shot_noise),
        Corruption("impulse_noise", "noise", noise.draw_impulse, noise.impulse_noise),
        Corruption("defocus_blur", "blur", blur.draw_nothing, blur.defocus_blur),
        Corruption("glass_blur", "blur", blur.draw_glass, blur.glass_blur),
        Corruption("motion_blur", "blur", blur.draw_motion, blur.motion_blur),
        Corruption("zoom_blur", "blur", blur.draw_nothing, blur.zoom_blur),
        Corruption("snow", "weather", weather.draw_snow, weather.snow),
        Corruption("frost", "weather", weather.draw_frost, weather.frost),
        Corruption("fog", "weather", weather.draw_fog, weather.fog),
        Corruption("brightness", "weather", blur.draw_nothing, weather.brightness),
        Corruption("contrast", "digital", blur.draw_nothing, digital.contrast),
        Corruption("elastic_transform", "digital", digital.draw_elastic, digital.elastic_transform),
        Corruption("pixelate", "digital", blur.draw_nothing, digital.pixelate),
        Corruption("jpeg_compression", "digital", blur.draw_nothing, digital.jpeg_compression),
    )
}


def corrupt(image_BCHW: Tensor, name: str, severity: int, generator: Generator) -> Tensor:
    """One corruption of RGB pictures.

    Args:
        image_BCHW: uint8, 3 channels, any size from 1 pixel on; the size chooses the table of constants.
        name: one of :data:`COMMON`.
        severity: 1 … 5, or 0 for the pictures as they are.
        generator: on the CPU; the same state gives the same pictures.

    Returns:
        uint8 of the same shape, on the same device.

    Raises:
        UsageError: an unknown name or severity.
        ValueError: the tensor is no uint8 RGB batch.
    """
    if name not in COMMON:
        raise UsageError(f"corruption {name!r}", "there is none of that name", nearest(name, tuple(COMMON)))
    if severity not in (0, *SEVERITIES):
        raise UsageError(f"severity {severity}", "it is not among 0 … 5", "Give 0 for the picture itself, 1 to 5 for ever stronger changes")
    if image_BCHW.dtype != torch.uint8 or image_BCHW.ndim != 4 or image_BCHW.shape[1] != 3:
        raise ValueError(f"pictures are uint8 (B, 3, H, W), not {image_BCHW.dtype} {tuple(image_BCHW.shape)}")
    if severity == 0:
        return image_BCHW.clone()
    one = COMMON[name]
    constant = constants(name, severity, *image_BCHW.shape[-2:])
    unit_BCHW = image_BCHW.float() / 255
    drawn = {key: value.to(image_BCHW.device) for key, value in one.draw(unit_BCHW.cpu(), constant, generator).items()}
    return to_levels(one.apply(unit_BCHW, constant, **drawn))
