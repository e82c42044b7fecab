"""ALIP: gates by hand, what the histories hold, the synthetic caption that is chosen."""

from __future__ import annotations

import math
import random

import pytest
import torch
from drawn_texts import Halves, log_of
from safetensors.torch import load_file

from diptych.core.types import Pairs, Words
from diptych.objectives.pairs.alip import Method, Options, alip, gates, synthetic
from diptych.objectives.pairs.clip import clip


def test_gates_by_hand():
    history_3 = torch.tensor([0.5, 0.2, 0.4], dtype=torch.float64)
    similarity_B3 = torch.tensor([[0.9, 0.0, 0.0], [0.5, 0.9, 0.9], [0.1, 0.3, 0.3], [-0.5, 0.2, 0.4]], dtype=torch.float64)
    sample_B, pair_B2 = gates(similarity_B3, history_3, 2.0, 3.0)
    assert sample_B.tolist() == pytest.approx([1.0, 1.0, math.exp(-0.8), math.exp(-2.0)])
    # captions that agree leave their pairs alone; the others are weighed by how far each pair is from its history
    assert pair_B2.tolist() == [[1.0, 1.0], [1.0, 1.0], pytest.approx([math.exp(0.3), math.exp(-0.3)]), pytest.approx([1.0, 1.0])]


def pairs_of(similarity_B3: torch.Tensor) -> Pairs:
    draw = torch.Generator().manual_seed(0)
    n = len(similarity_B3)
    image, text, other = (torch.nn.functional.normalize(torch.randn(n, 4, generator=draw, dtype=torch.float64), dim=1) for _ in range(3))
    taps, concept = {"synthetic": other, "similarity": similarity_B3}, torch.arange(n)
    return Pairs(image, text, image, text, 0, torch.tensor(5.0, dtype=torch.float64), None, concept, concept, taps, taps)


def test_open_gates_are_clip_on_both_captions():
    pairs = pairs_of(torch.rand(5, 3, dtype=torch.float64))
    method = Method(torch.nn.Linear(1, 1), Options(sample_gamma=0.0))
    other = Pairs(
        pairs.image_BD,
        pairs.taps["synthetic"],
        pairs.image_ND,
        pairs.taps["synthetic"],
        0,
        pairs.scale,
        None,
        pairs.concept_B,
        pairs.concept_N,
    )
    assert method(pairs).total.item() == pytest.approx((clip(pairs).total + clip(other).total).item(), abs=1e-6)


def test_histories_begin_at_the_first_mean_and_follow():
    method = Method(torch.nn.Linear(1, 1), Options(momentum=0.75))
    first, second = torch.tensor([[0.2, 0.4, 0.0], [0.4, 0.0, 0.2]]), torch.tensor([[0.7, 1.0, 0.5]] * 2)
    loss = method(pairs_of(first))
    assert method.history.tolist() == pytest.approx([0.3, 0.2, 0.1])
    method(pairs_of(second))
    assert method.history.tolist() == pytest.approx([0.4, 0.4, 0.2])
    with_state = pairs_of(first)
    again = alip(
        Pairs(*(getattr(with_state, name) for name in list(Pairs.__dataclass_fields__)[:-1]), {"history": torch.tensor([0.3, 0.2, 0.1])})
    )
    assert loss.total.item() == pytest.approx(again.total.item(), abs=1e-6)


def test_the_synthetic_caption():
    words = Words("x", "a", ("a", "b", "c"))
    assert {synthetic(words, random.Random(seed)) for seed in range(20)} == {"b", "c"}
    assert synthetic(Words("x", "a", ("a",)), random.Random(0)) == "a"
    assert synthetic(Words("x", "a", ("a", "b"), meta={"synthetic": "d"}), random.Random(0)) == "d"
    assert {synthetic(Words("x", "a", ("a",), meta={"synthetic": ["d", "e"]}), random.Random(seed)) for seed in range(20)} == {"d", "e"}


def test_it_trains_and_its_histories_are_saved(tmp_path):
    rows = log_of(tmp_path / "run", Halves(("{} {}", "{} on {}")), "alip")
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.5
    assert rows[0]["chance"] == pytest.approx(2 * math.log(12))
    assert 0 < rows[-1]["sample_weight"] < 1
    files = sorted((tmp_path / "run" / "checkpoints").rglob("*.safetensors"))
    saved = [value for file in files for name, value in load_file(file).items() if name.endswith("history")]
    assert saved
    assert all(torch.isfinite(value).all() for value in saved)


def test_parts_of_a_batch_give_the_same_loss(tmp_path):
    whole = log_of(tmp_path / "whole", Halves(("{} {}", "{} on {}")), "alip", "budget.steps=3")
    parts = log_of(tmp_path / "parts", Halves(("{} {}", "{} on {}")), "alip", "budget.steps=3", "data.micro=4")
    assert [row["loss"] for row in parts] == pytest.approx([row["loss"] for row in whole], abs=2e-4)
