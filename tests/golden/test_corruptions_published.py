"""The common corruptions against what the published code made of one picture; see ``corruptions/make_corruptions.py``."""

from __future__ import annotations

import runpy
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from diptych.evaluate.corrupt.common import COMMON
from diptych.evaluate.corrupt.pixels import to_levels
from diptych.evaluate.corrupt.settings import constants

FOLDER = Path(__file__).parent / "corruptions"
MAKER = runpy.run_path(str(FOLDER / "make_corruptions.py"))
PUBLISHED = dict(np.load(FOLDER / "published.npz"))


@cache
def unit(side):
    return torch.from_numpy(MAKER["picture"](side)).permute(2, 0, 1)[None].float() / 255


def drawn(name, c, side):
    """The numbers that the published code draws after its seed, in its order, as ours are shaped."""
    rng = np.random.RandomState(MAKER["SEED"])

    def tensor(array):
        return torch.from_numpy(np.asarray(array)).float()

    def chw(array):
        return tensor(array).permute(2, 0, 1)[None]

    if name == "gaussian_noise":
        return {"normal_BCHW": chw(rng.normal(size=(side, side, 3)))}
    if name == "shot_noise":
        return {"count_BCHW": chw(rng.poisson(MAKER["picture"](side) / 255.0 * c[0]))}
    if name == "motion_blur":
        return {"angle_B": tensor([rng.uniform(-45, 45)])}
    if name == "snow":
        flake = rng.normal(size=(side, side), loc=c[0], scale=c[1])
        return {"flake_B1HW": tensor(flake)[None, None], "angle_B": tensor([rng.uniform(-135, -45)])}
    if name == "glass_blur":
        return {"step_BR2HW": glass_steps(rng, int(c[1]), int(c[2]), side)}
    if name == "fog":
        return {"uniform_BSS": height_map(rng, 1 << (side - 1).bit_length(), c[1])}
    if name == "elastic_transform":
        jitter = rng.uniform(-c[2] * side, c[2] * side, size=(3, 2))
        field = np.stack([rng.uniform(-1, 1, size=(side, side)) for _ in range(2)])
        return {"jitter_B32": tensor(jitter)[None], "field_B2HW": tensor(field)[None]}
    return {}


def glass_steps(rng, reach, rounds, side):
    """Drawn pixel by pixel from the last to the first, across before down."""
    steps = torch.zeros(1, rounds, 2, side, side, dtype=torch.int64)
    span = list(range(side - reach, reach, -1))
    for r in range(rounds):
        made = torch.from_numpy(rng.randint(-reach, reach, size=(len(span), len(span), 2)))
        place = torch.tensor(span)
        steps[0, r, 0, place[:, None], place] = made[..., 1]
        steps[0, r, 1, place[:, None], place] = made[..., 0]
    return steps


def height_map(rng, side, decay):
    """Squares, then the two kinds of diamonds, from the coarsest step to the finest."""
    u = torch.zeros(1, side, side)
    step, wobble = side, 100.0
    while step >= 2:
        whole, half, n = slice(0, None, step), slice(step // 2, None, step), side // step
        for rows, columns in ((half, half), (whole, half), (half, whole)):
            u[0, rows, columns] = torch.from_numpy(rng.uniform(-wobble, wobble, (n, n)) / wobble).float()
        step //= 2
        wobble /= decay
    return u


def ours(side, name, severity):
    c = constants(name, severity, side, side)
    image = to_levels(COMMON[name].apply(unit(side), c, **drawn(name, c, side)))
    return MAKER["piece"](image[0].permute(1, 2, 0).numpy())


# Largest share of values that may be off by a level: a flat area whose exact value is a whole level is cut to either side of it.
OFF = {"defocus_blur": 0.7, "glass_blur": 0.25, "zoom_blur": 0.2, "brightness": 0.09}


@pytest.mark.parametrize("side", [32, 64, 224])
@pytest.mark.parametrize("name", MAKER["NAMES"])
def test_equal_to_the_published_code(side, name):
    """Within one level everywhere; with glass two, where a level lost before the second blur is lost again."""
    for severity in range(1, 6):
        apart = abs(ours(side, name, severity).astype(int) - PUBLISHED[f"{side}/{name}/{severity}"].astype(int))
        assert apart.max() <= (2 if name == "glass_blur" else 1), severity
        assert (apart > 0).mean() <= OFF.get(name, 0.015), severity


# Two rows that make almost the same picture: deviations 0.05 and 0.25 hardly blur, and a deviation of 2 has no weight beyond 6 pixels.
ALIKE = {("glass_blur", 32, 1), ("motion_blur", 32, 3)}


@pytest.mark.parametrize("name", MAKER["NAMES"])
def test_severities_and_sizes_are_told_apart(name):
    """What another row of the table would give is off by more than the tolerance, so a wrong constant is seen."""
    for side in (32, 64, 224):
        for severity in {1, 2, 3, 4} - {s for one, size, s in ALIKE if (one, size) == (name, side)}:
            apart = abs(ours(side, name, severity).astype(int) - PUBLISHED[f"{side}/{name}/{severity + 1}"].astype(int))
            assert apart.max() > 2, (side, severity)
