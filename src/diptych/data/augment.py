"""Random augmentation of a batch: drawing (which numbers) is apart from applying (what they do).

What was drawn is returned and travels with the batch, so that an objective can use it. Shape suffixes: B rows, C channels,
H height, W width, G side of the noise grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

Share = Annotated[float, Field(ge=0.0, le=1.0)]
NOISE_SIDE = 8
CHUNK = 1 << 18
_LUMA = (0.299, 0.587, 0.114)
_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


class Augment(BaseModel):
    """How strongly a batch is varied; every default is the identity.

    Args:
        crop_area: range of the share of the picture's area that a random resized crop keeps, as (low, high) in (0, 1].
        crop_ratio: range of that crop's width to height, drawn log-uniformly.
        scale: range of the zoom about the centre, drawn log-uniformly (above 1 enlarges).
        shift: largest shift as a share of the side, either way.
        flip: probability of a left–right flip.
        brightness, contrast, saturation: factors are drawn from 1 − x to 1 + x.
        hue: largest turn of the hue as a share of the colour circle, at most 0.5.
        grayscale: probability of grey.
        background: probability of a random ground (solid, gradient or noise) under transparent pixels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop_area: tuple[float, float] = (1.0, 1.0)
    crop_ratio: tuple[float, float] = (1.0, 1.0)
    scale: tuple[float, float] = (1.0, 1.0)
    shift: Share = 0.0
    flip: Share = 0.0
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    grayscale: Share = 0.0
    background: Share = 0.0

    @model_validator(mode="after")
    def _ranges(self) -> Augment:
        for name in ("crop_area", "crop_ratio", "scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high or (name == "crop_area" and high > 1):
                raise ValueError(f"{name} must be (low, high) with 0 < low <= high{' <= 1' if name == 'crop_area' else ''}")
        return self

    @property
    def moves(self) -> bool:
        """Whether pixels change place."""
        unit = (1.0, 1.0)
        return self.crop_area != unit or self.crop_ratio != unit or self.scale != unit or self.shift > 0 or self.flip > 0

    @property
    def colours(self) -> bool:
        """Whether colours change."""
        return any((self.brightness, self.contrast, self.saturation, self.hue, self.grayscale))


def draw(augment: Augment, rows: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw everything that ``augment`` needs for ``rows`` pictures; nothing for what has zero strength.

    Returns:
        By name, each with ``rows`` rows: ``box_B4`` (centre x, centre y, half width, half height of the part shown, in
        −1…1 coordinates; a negative half width flips), ``colour_B5`` (brightness, contrast, saturation factors, hue in
        radians, 1 where grey), ``ground_B`` (0 fill, 1 solid, 2 gradient, 3 noise), ``ground_colour_B23`` (0–1),
        ``ground_angle_B`` (radians), ``noise_B3GG`` (0–1).
    """

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(rows, *shape, generator=generator) * (high - low) + low

    drawn: dict[str, Tensor] = {}
    if augment.moves:
        drawn["box_B4"] = _draw_box(augment, uniform)
    if augment.colours:
        drawn["colour_B5"] = torch.stack(
            [
                uniform(low=1 - augment.brightness, high=1 + augment.brightness),
                uniform(low=1 - augment.contrast, high=1 + augment.contrast),
                uniform(low=1 - augment.saturation, high=1 + augment.saturation),
                uniform(low=-augment.hue, high=augment.hue) * 2 * math.pi,
                (uniform() < augment.grayscale).float(),
            ],
            dim=1,
        )
    if augment.background > 0:
        chosen = uniform() < augment.background
        drawn["ground_B"] = chosen * torch.randint(1, 4, (rows,), generator=generator)
        drawn["ground_colour_B23"] = uniform(2, 3)
        drawn["ground_angle_B"] = uniform(high=2 * math.pi)
        drawn["noise_B3GG"] = uniform(3, NOISE_SIDE, NOISE_SIDE)
    return drawn


def _draw_box(augment: Augment, uniform) -> Tensor:
    """The part of the picture that will be shown, as centre and half sides in −1…1 coordinates."""

    def log_uniform(low: float, high: float) -> Tensor:
        return uniform(low=math.log(low), high=math.log(high)).exp()

    area, ratio = uniform(low=augment.crop_area[0], high=augment.crop_area[1]), log_uniform(*augment.crop_ratio)
    wide, high = (area * ratio).sqrt().clamp(max=1.0), (area / ratio).sqrt().clamp(max=1.0)
    x, y = (2 * uniform() - 1) * (1 - wide), (2 * uniform() - 1) * (1 - high)
    zoom = log_uniform(*augment.scale)
    x = x + 2 * uniform(low=-augment.shift, high=augment.shift)
    y = y + 2 * uniform(low=-augment.shift, high=augment.shift)
    mirror = torch.where(uniform() < augment.flip, -1.0, 1.0)
    return torch.stack([x, y, mirror * wide / zoom, high / zoom], dim=1)


def apply(image_BCHW: Tensor, drawn: Mapping[str, Tensor], fill: tuple[int, int, int] = (255, 255, 255)) -> Tensor:
    """Do to a batch what was drawn.

    Args:
        image_BCHW: uint8, RGB, or RGBA with straight alpha; what is shown from beyond an RGB picture's edge is its mirror
            image, beyond an RGBA picture's edge its ground.
        drawn: the answer of :func:`draw` (or a slice of its rows).
        fill: ground under transparent pixels where no random one was drawn.

    Returns:
        uint8 ``(B, 3, H, W)``; the very same tensor where nothing was drawn and the picture is RGB.
    """
    if not drawn:
        return flatten_alpha(image_BCHW, fill)
    rows = max(2, CHUNK // image_BCHW[0].numel())
    out = torch.empty((len(image_BCHW), 3, *image_BCHW.shape[2:]), dtype=torch.uint8, device=image_BCHW.device)
    for start in range(0, len(out), rows):
        part = slice(start, start + rows)
        out[part] = _apply_chunk(image_BCHW[part], {name: value[part] for name, value in drawn.items()}, fill)
    return out


def _apply_chunk(image_BCHW: Tensor, drawn: Mapping[str, Tensor], fill: tuple[int, int, int]) -> Tensor:
    """:func:`apply` for so few pictures that they stay in the processor's cache."""
    alpha = image_BCHW.shape[1] == 4
    x = image_BCHW.float().mul_(1 / 255)
    if alpha:
        x[:, :3] *= x[:, 3:]
    if "box_B4" in drawn:
        x = _move(x, drawn["box_B4"], alpha)
    if alpha:
        x = x[:, :3] + (1 - x[:, 3:]) * _ground(x, drawn, fill)
    if "colour_B5" in drawn:
        x = _recolour(x, drawn["colour_B5"])
    return x.mul_(255).round_().clamp_(0, 255).to(torch.uint8)


def _move(x_BCHW: Tensor, box_B4: Tensor, alpha: bool) -> Tensor:
    """Crop, zoom, shift and flip in one bilinear sampling."""
    rows, _, height, width = x_BCHW.shape
    across = (2 * torch.arange(width, device=x_BCHW.device) + 1) / width - 1
    down = (2 * torch.arange(height, device=x_BCHW.device) + 1) / height - 1
    grid = x_BCHW.new_empty(rows, height, width, 2)
    grid[..., 0] = (box_B4[:, 2:3] * across + box_B4[:, 0:1])[:, None, :]
    grid[..., 1] = (box_B4[:, 3:4] * down + box_B4[:, 1:2])[:, :, None]
    return F.grid_sample(x_BCHW, grid, mode="bilinear", padding_mode="zeros" if alpha else "reflection", align_corners=False)


def _ground(x_BCHW: Tensor, drawn: Mapping[str, Tensor], fill: tuple[int, int, int]) -> Tensor:
    """What lies under transparent pixels, 0–1: ``(B, 3, H, W)``, or ``(1, 3, 1, 1)`` where it is the fill everywhere."""
    plain = torch.tensor(fill, dtype=x_BCHW.dtype, device=x_BCHW.device).view(1, 3, 1, 1) / 255
    if "ground_B" not in drawn:
        return plain
    height, width = x_BCHW.shape[-2:]
    kind = drawn["ground_B"].view(-1, 1, 1, 1)
    first, second = drawn["ground_colour_B23"].unbind(1)
    angle = drawn["ground_angle_B"].view(-1, 1, 1)
    across = torch.linspace(-0.5, 0.5, width, device=x_BCHW.device).view(1, 1, -1)
    down = torch.linspace(-0.5, 0.5, height, device=x_BCHW.device).view(1, -1, 1)
    ramp_B1HW = (0.5 + angle.cos() * across + angle.sin() * down).clamp_(0, 1).unsqueeze(1) * (kind == 2)
    first, second = first[:, :, None, None], second[:, :, None, None]
    ground = first + (second - first) * ramp_B1HW
    ground = torch.where(kind == 0, plain, ground)
    noisy = (kind.flatten() == 3).nonzero().flatten()
    if len(noisy):
        noise = F.interpolate(drawn["noise_B3GG"][noisy], size=(height, width), mode="bilinear", align_corners=False)
        ground[noisy] = noise
    return ground


def _recolour(x_BCHW: Tensor, colour_B5: Tensor) -> Tensor:
    """Brightness, contrast (about the mean grey), saturation, hue and grey as one affine map of colours a picture.

    Hue is turned in the YIQ plane; values are clipped once, at the end.
    """
    brightness, contrast, saturation, hue, grey = (v.view(-1, 1, 1) for v in colour_B5.unbind(1))
    luma = torch.tensor([_LUMA], device=x_BCHW.device).expand(3, 3)
    eye = torch.eye(3, device=x_BCHW.device)
    to_yiq = torch.tensor(_TO_YIQ, device=x_BCHW.device)
    turn = eye.repeat(len(x_BCHW), 1, 1)
    turn[:, 1, 1] = turn[:, 2, 2] = hue.flatten().cos()
    turn[:, 2, 1] = hue.flatten().sin()
    turn[:, 1, 2] = -hue.flatten().sin()
    saturation = torch.where(grey > 0, torch.zeros_like(saturation), saturation)
    map_B33 = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    map_B33 = map_B33 @ (saturation * eye + (1 - saturation) * luma)
    flat = x_BCHW.flatten(2)
    mean_B31 = brightness * (luma @ flat.mean(2, keepdim=True))
    linear_B33 = map_B33 @ (contrast * brightness * eye)
    offset_B31 = map_B33 @ ((1 - contrast) * mean_B31)
    return torch.baddbmm(offset_B31.expand(-1, -1, flat.shape[2]), linear_B33, flat).view_as(x_BCHW)


def flatten_alpha(image_BCHW: Tensor, fill: tuple[int, int, int]) -> Tensor:
    """uint8 RGBA ``(B, 4, H, W)`` laid on ``fill`` → uint8 ``(B, 3, H, W)``; three channels pass through."""
    if image_BCHW.shape[1] == 3:
        return image_BCHW
    colour = image_BCHW[:, :3].float()
    alpha = image_BCHW[:, 3:].float() / 255.0
    ground = torch.tensor(fill, dtype=torch.float32, device=image_BCHW.device).view(1, 3, 1, 1)
    return (ground + alpha * (colour - ground)).round_().clamp_(0, 255).to(torch.uint8)
