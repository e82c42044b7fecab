"""HQ-CLIP: both further terms by hand, the makers, and that the head gets a gradient."""

from __future__ import annotations

import math
import random

import pytest
import torch
from drawn_texts import Halves, log_of

from diptych.core.types import Pairs, Words
from diptych.objectives.pairs.hq_clip import COMMON, OTHER, TAGS, Method, Options, _tag_loss, hq_clip, negative, tags
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset


def test_terms_by_hand():
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    others = torch.tensor([[[0.0, 1.0]], [[0.0, 1.0]]], dtype=torch.float64)
    logits = torch.zeros(2, 4, dtype=torch.float64)
    logits[0, 1] = 2.0
    taps = {"negative": others, "tag_logits": logits, "tags": torch.tensor([[5.0, 1.0], [-1.0, -1.0]])}
    pairs = Pairs(image, image, image, image, 0, torch.tensor(2.0), None, torch.arange(2), torch.arange(2), taps)
    loss = hq_clip(pairs, negative_weight=1.0, tag_weight=1.0)
    # row 0: logits 2 and 0; row 1: 2 and 2
    assert loss.terms["negatives"].item() == pytest.approx((math.log1p(math.exp(-2)) + math.log(2)) / 2)
    # 5 and 1 are one class of four; row 1 has no tag
    assert loss.terms["tags"].item() == pytest.approx((math.log1p(math.exp(-2)) + 3 * math.log(2)) / 4 / 2)
    assert loss.report["negative_accuracy"].item() == 0.5


def test_a_wrong_tag_costs_more():
    logits_BK = torch.tensor([[3.0, -3.0, -3.0]])
    assert _tag_loss(logits_BK, torch.tensor([[0.0, -1.0]])) < _tag_loss(logits_BK, torch.tensor([[1.0, -1.0]]))


def test_negatives_from_metadata_then_rules_then_other_things():
    assert negative(Words("x", "a", (), meta={"negatives": "b"}), random.Random(0)) == "b"
    assert {negative(Words("x", "a", (), meta={"negatives": ["b", "c"]}), random.Random(s)) for s in range(20)} == {"b", "c"}
    made = {negative(Words("x", "a red cat above a dog", ()), random.Random(s)) for s in range(80)}
    assert "a dog above a red cat" in made
    assert "a red cat below a dog" in made
    assert "a red cat above a dog" not in made
    plain = {negative(Words("x", "goat", ("goat", "goat, animal")), random.Random(s)) for s in range(200)}
    assert plain == {f"a picture of a {word}" for word in OTHER if word != "animal"}


def test_tags_are_equal_numbers_for_equal_words():
    one = tags(Words("x", "a red goat", ("a red goat",)), random.Random(0))
    two = tags(Words("y", "the Goat is red", ("the Goat is red",)), random.Random(1))
    assert len(one) == len(two) == TAGS
    assert set(one) == set(two)
    assert one.count(-1.0) == TAGS - 2
    assert tags(Words("x", "the a", ()), random.Random(0)) == [-1.0] * TAGS
    assert {"the", "a"} <= COMMON
    listed = tags(Words("x", "goat", ("goat", "goat, farm, milk")), random.Random(0))
    assert listed.count(-1.0) == TAGS - 3
    assert tags(Words("x", "q", (), meta={"tags": ["goat", "farm", "milk"]}), random.Random(0)) == listed
    many = Words("x", "q", (), meta={"keywords": [str(i) for i in range(30)]})
    assert len(set(tags(many, random.Random(0)))) == TAGS
    assert all(number == torch.tensor(number, dtype=torch.float32).item() for number in tags(many, random.Random(0)))


def test_the_head_begins_where_few_tags_are_true():
    head = Method(DualEncoder(preset("tiny")), Options(classes=64)).head
    assert head.bias.sigmoid().mean().item() == pytest.approx(1 / 9, abs=1e-6)


def test_it_trains_and_the_head_learns(tmp_path):
    rows = log_of(tmp_path, Halves(), "hq-clip", "budget.steps=50", "objective.options.classes=64")
    assert rows[-1]["negatives"] < rows[0]["negatives"]
    assert rows[-1]["tags"] < 0.8 * rows[0]["tags"]
    assert rows[-1]["negative_accuracy"] > 0.7
