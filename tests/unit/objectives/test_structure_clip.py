"""Structure-CLIP: the hinge by hand, which caption is the swapped one, and that training learns the order of things."""

from __future__ import annotations

import random

import pytest
import torch
from drawn_texts import Halves, log_of

from diptych.core.types import Pairs, Words
from diptych.objectives.pairs.structure_clip import has_swap, structure_clip, swapped


def test_hinge_by_hand():
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    swap = torch.tensor([[0.95, 0.3122], [1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    taps = {"swapped": swap, "has_swap": torch.tensor([[1.0], [1.0], [0.0]], dtype=torch.float64)}
    pairs = Pairs(image, image, image, image, 0, torch.tensor(1.0), None, torch.arange(3), torch.arange(3), taps)
    loss = structure_clip(pairs, margin=0.2, weight=3.0)
    # row 0: 0.2 - 1 + 0.95 = 0.15; row 1 is ahead by 1; row 2 has no swapped caption
    assert loss.terms["hinge"].item() == pytest.approx(3.0 * 0.15 / 3)
    assert loss.report["swapped_accuracy"].item() == 1.0


def test_which_caption_is_the_swapped_one():
    graph = Words("x", "a cat above a dog", ("a cat above a dog",))
    assert swapped(graph, random.Random(0)) == "a dog above a cat"
    assert has_swap(graph, random.Random(1)) == [1.0]
    told = Words("x", "a cat above a dog", (), meta={"swapped": "no cat"})
    assert swapped(told, random.Random(0)) == "no cat"
    several = Words("x", "a cat", (), meta={"swapped": ["b", "c"]})
    assert {swapped(several, random.Random(seed)) for seed in range(20)} == {"b", "c"}
    for nothing in (Words("x", "a cat", ()), Words("x", "a cat", (), meta={"swapped": None})):
        assert swapped(nothing, random.Random(0)) == ""
        assert has_swap(nothing, random.Random(0)) == [0.0]


def test_it_trains_and_the_swapped_caption_loses(tmp_path):
    rows = log_of(tmp_path, Halves(), "structure-clip", "budget.steps=60")
    assert rows[0]["chance"] is None
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["hinge"] < 0.5 * rows[0]["hinge"]
    assert rows[-1]["swapped_accuracy"] > 0.8


def test_captions_without_a_swap_have_no_hinge(tmp_path):
    rows = log_of(tmp_path, Halves(("{} {}",)), "structure-clip", "budget.steps=2")
    assert [row["hinge"] for row in rows] == [0.0, 0.0]
