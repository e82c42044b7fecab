"""Snow, frost, fog and brightness (Hendrycks and Dietterich, arXiv:1903.12261, section 4.1).

The published frost lays photographs of frosted glass over the picture; they cannot be shipped here, so its texture is made (see
:func:`draw_frost`), with the published shares. B pictures, C channels, H × W pixels, S side of a height map.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from diptych.evaluate.corrupt.pixels import SLACK, clipped_zoom, gaussian, motion
from diptych.evaluate.corrupt.settings import Constants

LUMA = (0.299, 0.587, 0.114)


def draw_snow(image_BCHW: Tensor, c: Constants, generator: Generator) -> dict[str, Tensor]:
    """Normal flakes, one channel, and the angle at which each picture's snow falls, −135 to −45 degrees."""
    count, _, height, width = image_BCHW.shape
    flakes = torch.randn((count, 1, height, width), generator=generator) * c[1] + c[0]
    return {"flake_B1HW": flakes, "angle_B": torch.rand(count, generator=generator) * 90 - 135}


def snow(image_BCHW: Tensor, c: Constants, flake_B1HW: Tensor, angle_B: Tensor) -> Tensor:
    """The picture whitened, with a layer of enlarged, thresholded, falling flakes and the same layer turned upside down."""
    layer = clipped_zoom(flake_B1HW, c[2])
    layer = layer.where(layer >= c[3], torch.zeros_like(layer)).clamp(0, 1)
    layer = (layer * 255 + SLACK).floor() / 255
    layer = (motion(layer, angle_B, c[4], c[5]) * 255).round() / 255
    luma = torch.tensor(LUMA).to(image_BCHW)[:, None, None]
    grey = (image_BCHW * luma).sum(1, keepdim=True)
    white = torch.maximum(image_BCHW, grey * 1.5 + 0.5)
    return c[6] * image_BCHW + (1 - c[6]) * white + layer + layer.flip(-2, -1)


def draw_frost(image_BCHW: Tensor, c: Constants, generator: Generator) -> dict[str, Tensor]:
    """A made texture a picture instead of a photograph: dark glass with bright, thin crystals that grow along a few directions.

    Noise is smeared along three random directions, each to half a Gaussian of a quarter of the side, and the strongest of the three is
    taken: needles that cross. Patches of a slow noise decide where ice has formed. Stretched to 0 … 1 and squared, tinted a cold
    blue–white.
    """
    count, _, height, width = image_BCHW.shape
    side = min(height, width)
    layers = []
    for _ in range(3):
        noise = torch.rand((count, 1, height, width), generator=generator) ** 4
        angle_B = torch.rand(count, generator=generator) * 360
        layers.append(motion(noise, angle_B, max(1.0, side / 8), max(1.0, side / 12)))
    needle = _stretch(torch.stack(layers).amax(0))
    patch = _stretch(gaussian(torch.rand((count, 1, height, width), generator=generator), max(1.0, side / 10), "reflect"))
    ice = (0.65 * needle + 0.35 * patch) ** 1.5
    tint = torch.tensor([0.86, 0.94, 1.0])[:, None, None]
    return {"frost_BCHW": 0.1 + 0.9 * ice * tint}


def frost(image_BCHW: Tensor, c: Constants, frost_BCHW: Tensor) -> Tensor:
    """A weighted sum of picture and texture."""
    return c[0] * image_BCHW + c[1] * frost_BCHW


def draw_fog(image_BCHW: Tensor, c: Constants, generator: Generator) -> dict[str, Tensor]:
    """Uniform values from −1 to 1 for every point of a height map whose side is the next power of two."""
    side = 1 << (max(image_BCHW.shape[-2:]) - 1).bit_length()
    return {"uniform_BSS": torch.rand((len(image_BCHW), side, side), generator=generator) * 2 - 1}


def plasma(uniform_BSS: Tensor, decay: float) -> Tensor:
    """A height map by the diamond–square algorithm, from 0 to 1, that wraps round.

    Each point is the mean of four neighbours plus ``wobble² · uniform`` (the published code multiplies by the wobble twice); the wobble
    starts at 100 and is divided by ``decay`` whenever the neighbours come half as near. The first point is 0.
    """
    map_BSS = torch.zeros_like(uniform_BSS)
    side = map_BSS.shape[-1]
    step, wobble = side, 100.0

    def fill(rows: slice, columns: slice, sum_Bnn: Tensor) -> None:
        map_BSS[:, rows, columns] = sum_Bnn / 4 + wobble**2 * uniform_BSS[:, rows, columns]

    while step >= 2:
        whole, half = slice(0, None, step), slice(step // 2, None, step)
        corner = map_BSS[:, whole, whole]
        pair = corner + corner.roll(-1, 1)
        fill(half, half, pair + pair.roll(-1, 2))
        middle = map_BSS[:, half, half]
        fill(whole, half, middle + middle.roll(1, 1) + corner + corner.roll(-1, 2))
        fill(half, whole, middle + middle.roll(1, 2) + corner + corner.roll(-1, 1))
        step //= 2
        wobble /= decay
    return _stretch(map_BSS)


def fog(image_BCHW: Tensor, c: Constants, uniform_BSS: Tensor) -> Tensor:
    """A height map added, then scaled so that the brightest value can stay what it was."""
    height, width = image_BCHW.shape[-2:]
    map_B1HW = plasma(uniform_BSS.double(), c[1]).to(image_BCHW)[:, None, :height, :width]
    brightest = image_BCHW.amax((1, 2, 3), keepdim=True)
    return (image_BCHW + c[0] * map_B1HW) * brightest / (brightest + c[0])


def brightness(image_BCHW: Tensor, c: Constants) -> Tensor:
    """c added to the value of HSV; hue and saturation stay, so all channels are scaled alike, and black turns grey."""
    value = image_BCHW.amax(1, keepdim=True)
    lifted = (value + c[0]).clamp(0, 1)
    return torch.where(value > 0, image_BCHW * (lifted / value.clamp(min=1e-6)), lifted)


def _stretch(map_BHW: Tensor) -> Tensor:
    """Each picture's values moved and scaled to 0 … 1; a flat one is 0."""
    last = tuple(range(1, map_BHW.ndim))
    low, high = map_BHW.amin(last, keepdim=True), map_BHW.amax(last, keepdim=True)
    return (map_BHW - low) / (high - low).clamp(min=1e-12)
