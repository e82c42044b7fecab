"""Changed pictures: hand-worked cases, statistics of chance, extremes. Equality with the published code: tests/golden."""

from __future__ import annotations

import math

import pytest
import torch

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.evaluate.corrupt import factors, filters, geometry, pixels, weather
from diptych.evaluate.corrupt.common import COMMON, corrupt
from diptych.evaluate.corrupt.settings import TABLES, constants, table_for

STEADY = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")


def scene(side=64, count=4):
    """Coloured squares and slopes, not two alike."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    made = [torch.stack([(x * (3 + i)) % 256, (y * (2 + i)) % 256, ((x // 5 + y // (4 + i)) % 2) * 200]) for i in range(count)]
    return torch.stack(made).to(torch.uint8)


def flat(value, side=64, count=1):
    return torch.full((count, 3, side, side), value, dtype=torch.uint8)


def stream(seed=0):
    return generator(seed, "test")


@pytest.mark.parametrize("name", COMMON)
def test_shape_and_type_stay_and_severity_0_is_the_identity(name):
    image = scene()
    before = image.clone()
    made = corrupt(image, name, 3, stream())
    assert made.dtype == torch.uint8
    assert made.shape == image.shape
    assert not torch.equal(made, image)
    assert torch.equal(image, before), "the input was written to"
    assert torch.equal(corrupt(image, name, 0, stream()), image)


@pytest.mark.parametrize("name", COMMON)
def test_severity_grows(name):
    """The published constants make the pictures ever more different from the original, but for elastic, whose kinds differ."""
    image = scene(count=16)
    apart = [float((corrupt(image, name, severity, stream()).float() - image.float()).abs().mean()) for severity in range(6)]
    if name == "elastic_transform":
        assert apart[0] < min(apart[1:])
    elif name == "frost":  # less of the picture and more ice: what is left of the picture falls, not how far the levels move
        alike = [
            float(torch.corrcoef(torch.stack([corrupt(image, name, s, stream()).flatten(), image.flatten()]).float())[0, 1])
            for s in range(6)
        ]
        assert alike == sorted(alike, reverse=True)
    elif name == "fog":
        assert apart[0] < apart[1] < apart[2]
        assert apart[2] < apart[5]
    else:
        assert apart == sorted(apart)
    assert apart[5] > 1.1 * apart[1] or name in ("elastic_transform", "glass_blur")


@pytest.mark.parametrize("name", COMMON)
def test_one_generator_one_picture(name):
    image = scene()
    once, again, other = (corrupt(image, name, 4, stream(seed)) for seed in (0, 0, 1))
    assert torch.equal(once, again)
    assert torch.equal(once, other) == (name in STEADY)


@pytest.mark.parametrize("name", COMMON)
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 70)])
def test_extremes_stay_pictures(name, size):
    for value in (0, 255):
        image = torch.full((2, 3, *size), value, dtype=torch.uint8)
        for severity in (1, 5):
            c = constants(name, severity, *size)
            drawn = COMMON[name].draw(image.float() / 255, c, stream())
            made = COMMON[name].apply(image.float() / 255, c, **drawn)
            assert made.shape == image.shape
            assert bool(made.isfinite().all())


def test_a_large_picture():
    image = torch.nn.functional.interpolate(scene(count=1).float(), size=(512, 512)).to(torch.uint8)
    for name in COMMON:
        assert corrupt(image, name, 5, stream()).shape == image.shape


def test_the_size_chooses_the_table():
    assert [table_for(s, s) for s in (1, 32, 45, 46, 64, 119, 120, 224, 512)] == (
        ["CIFAR-10-C"] * 3 + ["Tiny ImageNet-C"] * 3 + ["ImageNet-C"] * 3
    )
    assert table_for(64, 500) == "Tiny ImageNet-C"
    assert all(set(table) == set(COMMON) and all(len(rows) == 5 for rows in table.values()) for table in TABLES.values())


def test_what_is_refused():
    with pytest.raises(UsageError, match="Did you mean 'fog'"):
        corrupt(scene(), "fogg", 1, stream())
    with pytest.raises(UsageError, match="severity 6"):
        corrupt(scene(), "fog", 6, stream())
    with pytest.raises(ValueError, match="uint8"):
        corrupt(scene().float(), "fog", 1, stream())
    with pytest.raises(ValueError, match="uint8"):
        corrupt(scene()[:, :1], "fog", 1, stream())


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_noise_has_its_variance(severity):
    """On mid-grey: Gaussian c², Poisson x/c, impulse c/2 at either end; 49,152 values, so a deviation is known to 0.3 %."""
    image, x = flat(128, count=4), 128 / 255
    made = {name: corrupt(image, name, severity, stream()).double() / 255 for name in ("gaussian_noise", "shot_noise", "impulse_noise")}
    deviation = constants("gaussian_noise", severity, 64, 64)[0]
    assert float((made["gaussian_noise"] - x).std()) == pytest.approx(deviation, rel=0.015)
    assert float(made["gaussian_noise"].mean()) == pytest.approx(x, abs=0.004)
    photons = constants("shot_noise", severity, 64, 64)[0]
    assert float((made["shot_noise"] - x).var()) == pytest.approx(x / photons, rel=0.04)
    share = constants("impulse_noise", severity, 64, 64)[0]
    for value in (0.0, 1.0):
        assert float((made["impulse_noise"] == value).double().mean()) == pytest.approx(share / 2, abs=0.004)


def test_contrast_by_hand():
    image = flat(0)
    image[..., :32] = 200  # the mean is 100; severity 3 keeps 0.2 of the distance
    made = corrupt(image, "contrast", 3, stream())
    assert set(made[..., :32].unique().tolist()) == {120}
    assert set(made[..., 32:].unique().tolist()) == {80}


def test_brightness_by_hand():
    image = flat(0)
    image[:, 0, 0, 0], image[:, 1, 0, 0] = 102, 51  # value 0.4 becomes 0.7: everything times 1.75
    made = corrupt(image, "brightness", 3, stream())[0]
    assert made[:, 0, 0].tolist() == [178, 89, 0]
    assert made[:, 1, 1].tolist() == [76, 76, 76]  # black becomes grey of value 0.3
    assert corrupt(flat(255), "brightness", 5, stream()).unique().tolist() == [255]


def test_pixelate_by_hand():
    """At half the side each 2 × 2 square becomes its mean."""
    image = scene(count=1)
    made = corrupt(image, "pixelate", 5, stream())
    mean = torch.nn.functional.avg_pool2d(image.float(), 2)
    assert float((made.float() - mean.repeat_interleave(2, 2).repeat_interleave(2, 3)).abs().max()) <= 1


def test_frost_is_a_weighted_sum_with_a_texture_of_its_own():
    texture = weather.draw_frost(scene().float() / 255, (1.0, 0.3), stream())["frost_BCHW"]
    assert 0 <= float(texture.min()) <= float(texture.max()) <= 1
    assert float(texture.std()) > 0.05
    c = constants("frost", 3, 64, 64)
    made = weather.frost(torch.full((1, 3, 64, 64), 0.5), c, torch.full((1, 3, 64, 64), 0.2))
    assert float(made.max()) == pytest.approx(0.5 * c[0] + 0.2 * c[1])


def test_plasma_without_chance_is_flat_and_with_it_is_0_to_1():
    assert float(weather.plasma(torch.zeros(1, 16, 16), 2.0).abs().max()) == 0
    made = weather.plasma(torch.rand(2, 16, 16, generator=stream()) * 2 - 1, 2.0)
    assert made.amin((1, 2)).tolist() == [0, 0]
    assert made.amax((1, 2)).tolist() == [1, 1]


def test_borders():
    place = torch.arange(-5, 9)
    assert pixels.border(place, 4, "nearest").tolist() == [0, 0, 0, 0, 0, 0, 1, 2, 3, 3, 3, 3, 3, 3]
    assert pixels.border(place, 4, "reflect").tolist() == [3, 3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0, 0]
    assert pixels.border(place, 4, "mirror").tolist() == [1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert pixels.border(place, 1, "mirror").unique().tolist() == [0]


def test_a_blurred_point_is_a_gaussian():
    point = torch.zeros(1, 1, 41, 41)
    point[..., 20, 20] = 1
    made = pixels.gaussian(point, 2.0)
    offset = torch.arange(-8, 9).double()
    weight = torch.exp(-(offset**2) / 8)
    weight = weight / weight.sum()
    assert made[0, 0, 20, 12:29].double() == pytest.approx((weight * weight[8]).numpy(), abs=1e-6)
    assert float(pixels.gaussian(torch.ones(1, 1, 5, 3), 4.0).sub(1).abs().max()) < 1e-6


def test_motion_at_no_angle_reads_to_the_right():
    line = torch.zeros(1, 1, 1, 30)
    line[..., 20] = 1
    made = pixels.motion(line, torch.zeros(1), 2, 1.0)[0, 0, 0]
    weight = torch.exp(-(torch.arange(5).double() ** 2) / 2)
    assert made[16:21].flip(0).double() == pytest.approx((weight / weight.sum()).numpy(), abs=1e-6)
    assert float(made[21:].sum()) == 0


def wave(cycles, side=64):
    x = torch.arange(side) * (2 * math.pi * cycles / side)
    return (127.5 + 100 * x.cos()).round().to(torch.uint8).expand(1, 3, side, side)


def test_filters_keep_or_lose_a_wave():
    """A wave of 6 cycles passes a low-pass of radius 6 and not one of 5; the high-pass is its complement about mid-grey."""
    image = wave(6)
    assert float((filters.low_pass(image, 6).float() - image.float()).abs().max()) <= 1
    assert float((filters.low_pass(image, 5).float() - 127.5).abs().max()) <= 1
    assert float((filters.high_pass(image, 5).float() - image.float()).abs().max()) <= 1
    assert float((filters.high_pass(image, 6).float() - 127.5).abs().max()) <= 1


def test_low_and_high_make_the_whole():
    image = scene().float() / 255
    for radius in (1, 4.5, 20):
        low = filters.low(scene(), radius)
        high = image - low
        power = (low**2).sum() + (high**2).sum()
        assert float(power) == pytest.approx(float((image**2).sum()), rel=1e-4)  # disjoint frequencies: Parseval
    assert torch.equal(filters.low_pass(scene(), 100), scene())


def test_filters_at_no_strength_and_by_hand():
    assert torch.equal(filters.contrast(scene(), 1.0), scene())
    assert filters.contrast(flat(200), 0.5).unique().tolist() == [164]  # 127.5 + 72.5 / 2
    assert torch.equal(filters.blur(scene(), 0.0), scene())


def test_a_quarter_turn_and_no_turn():
    image = scene()
    assert torch.equal(geometry.affine(image), image)
    assert torch.equal(geometry.affine(image, degrees=90), image.rot90(1, (2, 3)))
    assert torch.equal(geometry.affine(image, degrees=180), image.flip(2, 3))


def test_scale_and_shear_move_a_point():
    image = flat(0, side=65)
    image[..., 32, 42] = 255
    assert geometry.affine(image, scale=2.0)[0, 0, 32].argmax() == 52
    assert geometry.affine(image, scale=0.5)[0, 0, 32].argmax() == 37
    image = flat(0, side=65)
    image[..., 12, 32] = 255  # 20 above the middle: shear 0.5 moves it 10 to the right
    assert geometry.affine(image, shear=0.5)[0, 0, 12].argmax() == 42


def test_resolution_keeps_flat_pictures_and_loses_detail():
    assert geometry.resolution(flat(77), 0.25).unique().tolist() == [77]
    assert torch.equal(geometry.resolution(scene(), 1.0), scene())
    checks = ((torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255).to(torch.uint8).expand(1, 3, 64, 64)
    inner = geometry.resolution(checks, 0.5)[..., 8:-8, 8:-8].float()
    assert float((inner - 127.5).abs().max()) < 2
    assert geometry.resolution(flat(9, side=1), 0.1).shape == (1, 3, 1, 1)


def test_inset():
    made = geometry.inset(flat(40), 0.5, (1, 2, 3))
    assert made[0, :, 0, 0].tolist() == [1, 2, 3]
    assert made[0, 0, 16:48, 16:48].unique().tolist() == [40]
    assert int((made[0, 0] == 40).sum()) == 32 * 32


@pytest.mark.parametrize("name", factors.FACTORS)
def test_factors_change_one_thing(name):
    image = scene()
    made = factors.FACTORS[name](image)
    assert made.shape == image.shape
    assert made.dtype == torch.uint8
    assert not torch.equal(made, image)
    for size in ((1, 1), (7, 5)):
        assert factors.FACTORS[name](torch.zeros(1, 3, *size, dtype=torch.uint8)).shape == (1, 3, *size)


def test_factors_by_hand():
    image = torch.tensor([30, 60, 90], dtype=torch.uint8)[None, :, None, None].expand(1, 3, 6, 6)
    assert factors.darker(image)[0, :, 0, 0].tolist() == [10, 20, 30]
    assert factors.brighter(image)[0, :, 0, 0].tolist() == [180, 190, 200]
    assert factors.colour(image)[0, :, 0, 0].tolist() == [60, 90, 30]
    assert factors.no_colour(image)[0, :, 0, 0].tolist() == [54, 54, 54]  # 0.299·30 + 0.587·60 + 0.114·90 = 54.45
    assert int((factors.blocked(image)[0, 0] == 128).sum()) == 4
    half = scene(side=6, count=1)
    assert torch.equal(factors.partial_view(half)[..., :3], half[..., :3])
    assert factors.partial_view(half)[0, 0, :, 3:].unique().numel() == 1


def test_cue_conflict_takes_outline_and_texture():
    shape, texture = torch.zeros(1, 4, 8, 8, dtype=torch.uint8), torch.zeros(1, 4, 8, 8, dtype=torch.uint8)
    shape[:, 3, :4] = 255
    texture[:, 0], texture[:, 3] = 200, 255
    made = factors.cue_conflict(shape, texture, (9, 9, 9))
    assert made[0, :, 0, 0].tolist() == [200, 0, 0]
    assert made[0, :, 7, 7].tolist() == [9, 9, 9]
