"""LLM2CLIP's first stage: caption against caption by hand, no picture is read into the loss, and only the text tower is tuned."""

from __future__ import annotations

import math
import random

import pytest
import torch
from drawn_texts import Halves, log_of

from diptych.core.types import Pairs, Words
from diptych.objectives.pairs.llm2clip import llm2clip, other
from diptych.towers.dual import DualEncoder
from diptych.towers.formats.load import load
from diptych.towers.presets import preset


def test_two_captions_by_hand():
    text, others = torch.eye(2, dtype=torch.float64), torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    zeros, taps = torch.zeros(2, 1, dtype=torch.float64), {"other": others}
    pairs = Pairs(zeros, text, zeros, text, 0, torch.tensor(9.0), None, torch.arange(2), torch.arange(2), taps, taps)
    loss = llm2clip(pairs, scale=3.0)
    # to the others: each caption sees two equal rows; back: both others sit on caption 0
    assert loss.terms["to_other"].item() == pytest.approx(math.log(2) / 2)
    assert loss.terms["from_other"].item() == pytest.approx((math.log1p(math.exp(-3)) + math.log1p(math.exp(3))) / 4)


def test_the_other_caption():
    assert {other(Words("x", "a", ("a", "b", "c")), random.Random(seed)) for seed in range(20)} == {"b", "c"}
    assert other(Words("x", "a", ("a",)), random.Random(0)) == "a"


def test_only_the_text_tower_is_tuned(tmp_path):
    captions = ("{} {}", "{1} under {0}", "top {}, then {}")
    rows = log_of(tmp_path, Halves(captions), "llm2clip", "budget.steps=40", "init.freeze=[scale]", "objective.options.scale=10")
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.3
    assert max(row["caption_accuracy"] for row in rows[-5:]) > 0.25
    trained, begun = load(str(tmp_path / "model")), DualEncoder(preset("tiny"), seed=0)
    assert all(torch.equal(a, b) for a, b in zip(trained.image.parameters(), begun.image.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(trained.text.blocks.parameters(), begun.text.blocks.parameters(), strict=True))
