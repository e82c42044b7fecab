"""Resizing against Pillow by hand and against the Hugging Face processor; augmentation against its closed forms."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import pytest
import torch
from drawn_pairs import noise_image
from PIL import Image
from pydantic import ValidationError

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.core.types import Preprocess
from diptych.data.transforms import Augment, apply, draw, flatten_alpha, preprocess_image

HALF = (0.5, 0.5, 0.5)
SIZES = [(64, 64), (50, 80), (81, 50), (37, 111), (20, 16), (224, 33), (65, 64), (67, 64), (50, 87), (87, 50)]


def made(size: tuple[int, int], resize: str, interpolation: str = "bicubic") -> Preprocess:
    return Preprocess(size, HALF, HALF, resize, interpolation)


def array(image_CHW: torch.Tensor) -> np.ndarray:
    return image_CHW.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_squash_is_pillows_resize(size: tuple[int, int], interpolation: str) -> None:
    image = noise_image(1, *size)
    wanted = image.resize((24, 32), getattr(Image.Resampling, interpolation.upper()))
    assert np.array_equal(array(preprocess_image(np.array(image), made((32, 24), "squash", interpolation))), np.array(wanted))


@pytest.mark.parametrize("size", SIZES)
def test_crop_is_shortest_side_then_centre(size: tuple[int, int]) -> None:
    image = noise_image(2, *size)
    short, long = min(size), max(size)
    scaled = int(32 * long / short)
    new = (32, scaled) if size[0] <= size[1] else (scaled, 32)
    whole = np.array(image.resize(new, Image.Resampling.BICUBIC))
    top, left = (round((have - 32) / 2.0) for have in whole.shape[:2])
    assert np.array_equal(array(preprocess_image(np.array(image), made((32, 32), "crop"))), whole[top : top + 32, left : left + 32])


def test_offset_rounding_differs_where_three_are_spare() -> None:
    image = np.arange(35, dtype=np.uint8)[None, :, None].repeat(32, 0).repeat(3, 2)
    assert preprocess_image(image, made((32, 32), "crop"))[0, 0, 0] == 2
    assert preprocess_image(image, made((32, 32), "crop-floor"))[0, 0, 0] == 1


def test_crop_to_a_size_that_is_not_square_covers_it() -> None:
    image = np.array(noise_image(3, 100, 40))
    whole = np.array(Image.fromarray(image).resize((60, 24), Image.Resampling.BICUBIC))
    assert np.array_equal(array(preprocess_image(image, made((24, 48), "crop"))), whole[:, 6:54])


def test_pad_centres_on_the_fill() -> None:
    image = np.zeros((20, 40, 3), dtype=np.uint8)
    padded = array(preprocess_image(image, Preprocess((32, 32), HALF, HALF, "pad", fill=(9, 8, 7))))
    assert (padded[8:24] == 0).all()
    assert (padded[:8] == [9, 8, 7]).all()
    assert (padded[24:] == [9, 8, 7]).all()


def test_alpha_is_resized_premultiplied() -> None:
    image = np.zeros((32, 32, 4), dtype=np.uint8)
    image[:, :16] = [255, 0, 0, 255]
    image[:, 16:] = [0, 255, 0, 0]
    small = array(preprocess_image(image, made((9, 9), "squash", "bilinear")))
    assert small.shape == (9, 9, 4)
    assert (small[small[..., 3] > 0][:, 1] == 0).all()


@pytest.mark.parametrize("preprocess", [made((8, 8), "stretch"), made((8, 8), "crop", "nearest"), made((0, 8), "crop")])
def test_unknown_ways_are_errors(preprocess: Preprocess) -> None:
    with pytest.raises(UsageError):
        preprocess_image(np.zeros((4, 4, 3), dtype=np.uint8), preprocess)


def hugging_face(kind: str, **options: Any) -> Any:
    """The processor that needs Pillow only, under the name that this version of transformers has for it."""
    transformers = pytest.importorskip("transformers")
    if kind == "clip":
        module = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
        return module.CLIPImageProcessorPil(**options)
    module = pytest.importorskip("transformers.models.siglip.image_processing_pil_siglip")
    assert transformers
    return module.SiglipImageProcessorPil(**options)


@pytest.mark.parametrize("size", [*SIZES, (70, 64), (300, 199), (199, 300), (57, 33)])
def test_hugging_face_clip_within_one_level(size: tuple[int, int]) -> None:
    processor = hugging_face("clip", size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, do_normalize=False)
    image = noise_image(4, *size)
    theirs = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
    ours = preprocess_image(np.array(image), made((32, 32), "crop-floor")).numpy() / 255
    assert np.abs(ours - theirs).max() <= 1 / 255 + 1e-6


@pytest.mark.parametrize("size", SIZES)
def test_hugging_face_siglip_within_one_level(size: tuple[int, int]) -> None:
    processor = hugging_face("siglip", size={"height": 32, "width": 32}, do_normalize=False, resample=3)
    image = noise_image(5, *size)
    theirs = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
    ours = preprocess_image(np.array(image), made((32, 32), "squash")).numpy() / 255
    assert np.abs(ours - theirs).max() <= 1 / 255 + 1e-6


EVERYTHING = Augment(
    crop_area=(0.5, 1.0), crop_ratio=(0.75, 1.33), scale=(0.8, 1.25), shift=0.2, flip=0.5, brightness=0.3, contrast=0.3,
    saturation=0.3, hue=0.1, grayscale=0.2, background=0.7,
)  # fmt: skip


def batch(channels: int, rows: int = 6, side: int = 17) -> torch.Tensor:
    return torch.randint(0, 256, (rows, channels, side, side), dtype=torch.uint8, generator=generator(1, "pixels"))


def test_zero_strength_is_the_identity() -> None:
    image = batch(3)
    assert draw(Augment(), 6, generator(0)) == {}
    assert apply(image, {}) is image
    clear = batch(4)
    assert torch.equal(apply(clear, {}, fill=(1, 2, 3)), flatten_alpha(clear, (1, 2, 3)))


def neutral(rows: int) -> dict[str, torch.Tensor]:
    """Everything drawn, at the values that change nothing."""
    return {
        "box_B4": torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(rows, 1),
        "colour_B5": torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]]).repeat(rows, 1),
        "ground_B": torch.zeros(rows, dtype=torch.int64),
        "ground_colour_B23": torch.rand(rows, 2, 3, generator=generator(2)),
        "ground_angle_B": torch.rand(rows, generator=generator(3)),
        "noise_B3GG": torch.rand(rows, 3, 8, 8, generator=generator(4)),
    }


@pytest.mark.parametrize("channels", [3, 4])
def test_neutral_draws_change_nothing(channels: int) -> None:
    image = batch(channels)
    found = apply(image, neutral(6), fill=(7, 8, 9)).int()
    assert (found - flatten_alpha(image, (7, 8, 9)).int()).abs().max() <= 1


@pytest.mark.parametrize("channels", [3, 4])
def test_same_seed_same_pixels_and_rows_are_independent(channels: int) -> None:
    image = batch(channels, rows=40, side=33)
    drawn = draw(EVERYTHING, 40, generator(5))
    whole = apply(image, drawn)
    assert torch.equal(whole, apply(image, draw(EVERYTHING, 40, generator(5))))
    assert not torch.equal(whole, apply(image, draw(EVERYTHING, 40, generator(6))))
    part = apply(image[10:13], {name: value[10:13] for name, value in drawn.items()})
    assert (part.int() - whole[10:13].int()).abs().max() <= 1
    assert whole.dtype == torch.uint8
    assert whole.shape == (40, 3, 33, 33)


def test_flip_and_shift_by_hand() -> None:
    image = batch(3, rows=1, side=8)
    flipped = apply(image, {"box_B4": torch.tensor([[0.0, 0.0, -1.0, 1.0]])})
    assert torch.equal(flipped, image.flip(3))
    moved = apply(image, {"box_B4": torch.tensor([[2 * 3 / 8, 2 * -2 / 8, 1.0, 1.0]])})
    assert torch.equal(moved[:, :, 2:, :5], image[:, :, :6, 3:])
    clear = torch.cat([image, torch.full_like(image[:, :1], 255)], 1)
    ground = apply(clear, {"box_B4": torch.tensor([[2 * 3 / 8, 0.0, 1.0, 1.0]])}, fill=(4, 5, 6))
    assert torch.equal(ground[:, :, :, :5], image[:, :, :, 3:])
    assert (ground[0, :, :, 5:] == torch.tensor([4, 5, 6], dtype=torch.uint8)[:, None, None]).all()


def test_ranges_of_what_is_drawn() -> None:
    only_crop = draw(Augment(crop_area=(0.25, 0.64)), 4000, generator(7))["box_B4"]
    area = only_crop[:, 2] * only_crop[:, 3]
    assert area.min() >= 0.25 - 1e-5
    assert area.max() <= 0.64 + 1e-5
    assert (only_crop[:, :2].abs() + only_crop[:, 2:].abs() <= 1 + 1e-5).all()
    assert (draw(Augment(flip=0.25), 4000, generator(8))["box_B4"][:, 2] < 0).float().mean() == pytest.approx(0.25, abs=0.03)
    assert draw(Augment(shift=0.1), 4000, generator(9))["box_B4"][:, :2].abs().max() == pytest.approx(0.2, abs=0.005)
    kinds = draw(Augment(background=0.6), 6000, generator(10))["ground_B"].bincount(minlength=4) / 6000
    assert kinds.tolist() == pytest.approx([0.4, 0.2, 0.2, 0.2], abs=0.03)


def recolour(image: torch.Tensor, *values: float) -> np.ndarray:
    return apply(image, {"colour_B5": torch.tensor([values]).repeat(len(image), 1)}).numpy()


def test_colours_against_pillow() -> None:
    from PIL import ImageEnhance

    image = (batch(3, rows=1, side=32).float() * 0.4 + 60).to(torch.uint8)
    picture = Image.fromarray(array(image[0]))
    pairs = [
        (recolour(image, 1.2, 1, 1, 0, 0), ImageEnhance.Brightness(picture).enhance(1.2)),
        (recolour(image, 1, 0.7, 1, 0, 0), ImageEnhance.Contrast(picture).enhance(0.7)),
        (recolour(image, 1, 1, 0.4, 0, 0), ImageEnhance.Color(picture).enhance(0.4)),
        (recolour(image, 1, 1, 1.5, 0, 1), picture.convert("L").convert("RGB")),
    ]
    for ours, theirs in pairs:
        assert np.abs(ours[0].transpose(1, 2, 0).astype(int) - np.array(theirs).astype(int)).max() <= 2


def test_hue_turns_and_keeps_luma() -> None:
    colour = torch.tensor([150.0, 100.0, 100.0]).view(1, 3, 1, 1).to(torch.uint8)
    third = recolour(colour, 1, 1, 1, 2 * np.pi / 3, 0).reshape(3) / 255
    assert third @ [0.299, 0.587, 0.114] == pytest.approx((150 * 0.299 + 100 * 0.701) / 255, abs=0.01)
    assert colorsys.rgb_to_hsv(*third)[0] != pytest.approx(0.0, abs=0.1)
    whole = recolour(colour, 1, 1, 1, 2 * np.pi, 0)
    assert np.abs(whole.astype(int) - colour.numpy().astype(int)).max() <= 1


@pytest.mark.parametrize("turn", [-2.0, -0.5, 0.3, 1.5])
def test_hue_is_a_turn_of_the_yiq_plane(turn: float) -> None:
    colour = torch.tensor([140, 120, 95], dtype=torch.uint8).view(1, 3, 1, 1)
    y, i, q = colorsys.rgb_to_yiq(*(colour.flatten().double() / 255).tolist())
    turned = complex(i, q) * complex(np.cos(turn), np.sin(turn))
    wanted = np.array(colorsys.yiq_to_rgb(y, turned.real, turned.imag)) * 255
    assert np.abs(recolour(colour, 1, 1, 1, turn, 0).reshape(3) - wanted).max() <= 2


def test_grounds() -> None:
    clear = torch.zeros(4, 4, 16, 16, dtype=torch.uint8)
    drawn = neutral(4) | {"ground_B": torch.tensor([0, 1, 2, 3]), "ground_angle_B": torch.zeros(4)}
    fill, solid, ramp, noise = apply(clear, drawn, fill=(11, 12, 13))
    assert (fill == torch.tensor([11, 12, 13], dtype=torch.uint8)[:, None, None]).all()
    assert (solid.int() - (drawn["ground_colour_B23"][1, 0] * 255)[:, None, None]).abs().max() <= 1
    assert torch.equal(ramp[:, 0], ramp[:, -1])
    ends = drawn["ground_colour_B23"][2].T * 255
    assert (ramp[:, 0, [0, -1]].float() - ends).abs().max() <= 1
    assert noise.float().std() > 10


@pytest.mark.parametrize("options", [{"crop_area": (0.0, 1.0)}, {"scale": (2.0, 1.0)}, {"flip": 1.5}, {"hue": 0.7}, {"blur": 1.0}])
def test_strengths_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Augment(**options)
