"""PTP: blocks by hand and against the twin, which things are drawn, and that each prompt is true of its scene."""

from __future__ import annotations

import random
import runpy
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from diptych.captions.ptp import Options, block, ptp
from diptych.core.errors import UsageError
from diptych.core.types import Words
from diptych.data.pictograms.scenes import Scenes, mask

REFERENCE = runpy.run_path(str(Path(__file__).parents[2] / "reference" / "ptp.py"))["reference"]
TWO = Words("x", "a dog and a cat", (), meta={"boxes": [[0.0, 0.0, 0.2, 0.2], [0.6, 0.7, 1.0, 0.9]], "regions": ["dog", "cat"]})


def test_blocks_by_hand():
    assert block([0.0, 0.0, 0.2, 0.2], 3) == 0
    assert block([0.6, 0.7, 1.0, 0.9], 3) == 8
    assert block([0.4, 0.0, 0.6, 0.2], 3) == 1
    assert block([0.0, 0.4, 0.2, 0.6], 3) == 3
    assert block([1.0, 1.0, 1.0, 1.0], 3) == 8
    assert block([0.5, 0.5, 1.0, 1.0], 2) == 3


def test_equals_the_twin():
    draw = random.Random(1)
    for blocks in (2, 3, 5):
        rewriter = ptp(blocks=blocks)
        for _ in range(200):
            x, y = sorted(draw.random() for _ in range(2)), sorted(draw.random() for _ in range(2))
            box = [x[0], y[0], x[1], y[1]]
            words = Words("x", "a dog", (), meta={"boxes": [box], "regions": ["red dog"]})
            assert rewriter(words, draw) == REFERENCE("a dog", box, "red dog", blocks)


def test_every_thing_is_drawn_as_often():
    draw = random.Random(0)
    found = Counter(ptp()(TWO, draw) for _ in range(2000))
    assert set(found) == {"a dog and a cat. The block 0 has a dog.", "a dog and a cat. The block 8 has a cat."}
    assert abs(found["a dog and a cat. The block 0 has a dog."] - 1000) < 5 * 500**0.5
    both = ptp(things=3)(TWO, draw)
    assert both.count("The block") == 2
    kept = sum(ptp(share=0.25)(TWO, draw) == TWO.caption for _ in range(2000))
    assert abs(kept - 1500) < 5 * 375**0.5


def test_the_prompt_is_true_of_the_scene():
    for sample in Scenes("style", 40):
        words = Words(sample.id, sample.captions[0], sample.captions, meta=sample.meta)
        told = ptp()(words, random.Random(int(sample.id)))
        number, name = told.rpartition("The block ")[2].removesuffix(".").split(" has a ")
        down, across = np.nonzero(mask(sample) == 1 + sample.meta["regions"].index(name))
        middle = (down.min() + down.max() + 1) / 128, (across.min() + across.max() + 1) / 128
        assert int(number) == 3 * min(2, int(3 * middle[0])) + min(2, int(3 * middle[1]))


def test_nothing_to_say_and_bad_settings():
    empty = Words("x", "a dog", (), meta={"boxes": [], "regions": []})
    assert ptp()(empty, random.Random(0)) == "a dog"
    with pytest.raises(UsageError, match="no boxes and regions"):
        ptp()(Words("x", "a dog", ()), random.Random(0))
    with pytest.raises(ValidationError):
        Options(blocks=1)
