"""The choice without a recipe: it follows the data and the machine, says why, and can be built."""

from __future__ import annotations

from dataclasses import replace

import pytest
from toys import Toys

from diptych.data.sources.base import Dataset
from diptych.engine.auto import Machine, auto, look
from diptych.towers.presets import preset

LAPTOP, SERVER = Machine(0, 2), Machine(4, 64)


class Many(Dataset):
    """Toys that claim to be ``count`` samples, with other captions where given."""

    def __init__(self, count: int, caption: str | None = None) -> None:
        super().__init__("many", "many")
        self.toys, self.ids, self.caption = Toys(), range(count), caption  # type: ignore[assignment]

    def sample(self, index):
        sample = self.toys[index % len(self.toys)]
        return sample if self.caption is None else replace(sample, captions=(self.caption,))

    def fingerprint(self) -> str:
        return "many"


@pytest.mark.parametrize("count", [8, 900, 12_000, 400_000, 5_000_000])
@pytest.mark.parametrize("machine", [LAPTOP, SERVER], ids=str)
def test_every_choice_fits(count, machine):
    run, why = auto(Many(count), machine=machine)
    assert 2 <= run.data.batch <= max(2, count // 4)
    assert run.init.preset is not None
    assert preset(run.init.preset).image.image_size
    assert f"{count:,} samples" in why[0]
    assert all(why)


def test_what_is_chosen_when():
    small, _ = auto(Many(12_000), machine=LAPTOP)
    assert (small.init.preset, small.init.text_from, small.data.batch) == ("demo", "pocket", 256)
    large, why = auto(Many(5_000_000), machine=SERVER)
    assert (large.init.preset, large.init.text_from, large.data.batch) == ("vit-s-8-64", None, 4096)
    assert "from nothing" in " ".join(why)
    foreign, why = auto(Many(12_000, "ein rotes Haus дом красный большой"), machine=LAPTOP)
    assert foreign.init.text_from is None
    assert "cannot read" in " ".join(why)
    tuned, why = auto(Many(12_000), start="mini", tune="image", machine=LAPTOP)
    assert (tuned.init.from_, tuned.init.tune, tuned.optim.lr) == ("mini", "image", 1e-4)


def test_left_and_right_are_not_mirrored():
    assert auto(Many(100), machine=LAPTOP)[0].data.augment.flip == 0.5
    run, why = auto(Many(100, "a dog left of a cat"), machine=LAPTOP)
    assert run.data.augment.flip == 0.0
    assert any("mirrored" in line for line in why)


def test_two_hours_is_the_most_on_a_cpu():
    run, why = auto(Many(200_000), machine=LAPTOP)
    assert run.budget.steps is not None
    assert run.budget.steps * run.data.batch <= 400 * 7200
    assert "2 hours" in " ".join(why)


def test_look_measures_pictures_and_letters():
    assert look(Toys()).side == 32
    assert look(Toys()).ascii == 1.0
    assert look(Many(10, "ab дом")).ascii == pytest.approx(0.4)
