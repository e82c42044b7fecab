"""The ranking-aware adapter: equal to its loops, puts pictures of another set in order, saved and loaded with the model."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from towers_world import rows, tiny, tiny_work

from diptych.adapt.adapters import rankingaware_clip as method
from diptych.adapt.parts.work import Work
from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.engine.fewshot import logits_of, make
from diptych.towers.formats.load import load, save

REFERENCE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "reference" / "rankingaware_clip.py"))


def steps(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures that are the brighter the higher their level of four, noisy, and the levels."""
    draw = generator(seed, "steps")
    level_N = torch.arange(4).repeat_interleave(count)
    noise = 30 * torch.randn(len(level_N), 3, 16, 16, generator=draw)
    return (40 + 50 * level_N[:, None, None, None] + noise).clamp(0, 255).to(torch.uint8), level_N


def graded(model, count: int = 8) -> Work:
    """Labelled pictures of four levels."""
    work = tiny_work(model, count=count)
    image_NCHW, level_N = steps(count, 0)
    shots = replace(work.shots, image_SD=model.encode_image(image_NCHW), label_S=level_N, classes=("one", "two", "three", "four"))
    return replace(work, shots=shots, pictures=replace(work.pictures, read=lambda index: image_NCHW[index]))


def test_score_and_loss_are_the_loops():
    draw = generator(0, "ranking")
    numbers = method.begin(6, 5, 7, 2, 3, draw)
    numbers = {name: value + 0.5 * torch.randn(value.shape, generator=draw) for name, value in numbers.items()}
    token_BTW, word_LV = torch.randn(4, 3, 6, generator=draw), torch.randn(2, 5, generator=draw)
    plain = {name: value.double().tolist() for name, value in numbers.items()}
    pictures, text = token_BTW.double().tolist(), word_LV.double().tolist()
    seen_BTH = method.seen(numbers, token_BTW, word_LV)
    twin = [REFERENCE["seen"](plain, one, text) for one in pictures]
    torch.testing.assert_close(seen_BTH.double(), torch.tensor(twin).double(), atol=1e-5, rtol=1e-5)
    scores = torch.tensor([REFERENCE["score"](plain, one) for one in twin]).double()
    torch.testing.assert_close(method.score(numbers, seen_BTH).double(), scores, atol=1e-5, rtol=1e-5)
    for target in ([0.5, -1.0, 0.5, 2.0], [1.0, 1.0, 1.0, 1.0]):
        target_B = torch.tensor(target)
        ours = (method.score(numbers, seen_BTH) - target_B).square().mean() + 0.7 * method.ordered(numbers, seen_BTH, target_B)
        assert float(ours) == pytest.approx(REFERENCE["loss"](plain, pictures, text, target, 0.7), abs=1e-4)


@pytest.mark.parametrize("kind", ["clip", "siglip", "bert"])
def test_other_pictures_are_put_in_order_named_and_the_rule_travels_with_the_model(kind: str, tmp_path: Path):
    parent = tiny(kind)
    before = rows(parent)
    work = graded(parent)
    rule = method.rankingaware_clip(work, steps=60, batch=16, width=16, lr=1e-2)
    assert torch.equal(rows(parent), before)
    image_NCHW, level_N = steps(10, 5)
    score_N = method.scores(parent, dict(rule.named_buffers()), image_NCHW, method.words(parent, "the number of things"))
    apart = torch.corrcoef(torch.stack([score_N, level_N.float()]))[0, 1]
    assert float(apart) > 0.8
    model = parent.with_rule(rule)
    names, chances_NK = model.classifier().predict(image_NCHW)
    right = [name == rule.classes[level] for name, level in zip(names, level_N.tolist(), strict=True)]
    assert sum(right) / len(right) > 0.5
    torch.testing.assert_close(chances_NK.sum(1), torch.ones(40))
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    torch.testing.assert_close(again.classifier().predict(image_NCHW)[1], chances_NK, atol=1e-5, rtol=0)


def test_logits_are_highest_at_the_level_of_the_score():
    parent = tiny()
    rule = method.rankingaware_clip(graded(parent), steps=10, width=8)
    options = rule.config.options
    image_NCHW, _ = steps(2, 6)
    logits_NK = rule.answer(parent, rule.classes).logits(image_NCHW)
    score_N = method.scores(parent, dict(rule.named_buffers()), image_NCHW, method.words(parent, options["instruction"]))
    level_N = options["mean"] + options["deviation"] * score_N
    assert torch.equal(logits_NK.argmax(1), level_N.round().clamp(0, 3).long())
    torch.testing.assert_close(logits_NK[:, 2], -((level_N - 2) ** 2) / (2 * options["spread"] ** 2))


def test_the_instruction_and_the_pairs_have_a_part():
    parent = tiny()
    given: list[dict[str, Any]] = [{}, {"instruction": "age"}, {"ranking": 0.0}]
    made = [method.rankingaware_clip(graded(parent), steps=4, width=8, **options) for options in given]
    assert not torch.equal(made[0].get_buffer("wordwards"), made[1].get_buffer("wordwards"))
    assert not torch.equal(made[0].get_buffer("rank"), made[2].get_buffer("rank"))
    again = method.rankingaware_clip(graded(parent), steps=4, width=8)
    assert all(torch.equal(a, b) for a, b in zip(made[0].buffers(), again.buffers(), strict=True))


def test_tokens_that_are_too_many_to_keep_are_made_anew(monkeypatch):
    parent = tiny()
    kept = method.rankingaware_clip(graded(parent), steps=4, width=8)
    monkeypatch.setattr(method, "KEEP", 0)
    anew = method.rankingaware_clip(graded(parent), steps=4, width=8)
    for one, other in zip(kept.buffers(), anew.buffers(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("index", [[0, 8, 16, 24], list(range(24)), [0, 1, 2, 3, 8], [0, 0, 0, 8]])
def test_few_and_uneven_pictures_give_finite_answers(index: list[int]):
    parent = tiny()
    work = graded(parent).take(torch.tensor(index))
    entry = registry.find("rankingaware-clip", "adapt")
    made = make(entry, work, {"steps": 3, "batch": 3, "width": 8})
    assert bool(logits_of(made, work, torch.arange(len(index))).isfinite().all())


def test_it_says_what_it_cannot_do():
    parent = tiny()
    with pytest.raises(UsageError, match="all labelled pictures are of one level"):
        method.rankingaware_clip(graded(parent).take(torch.arange(8)), steps=1)
    work = tiny_work(parent, count=1)
    parent.tokenizer = None
    with pytest.raises(UsageError, match="no tokenizer"):
        method.rankingaware_clip(work, steps=1)


def test_a_tower_of_convolutions_has_places_for_tokens():
    rule = method.rankingaware_clip(tiny_work(tiny("conv"), count=1), steps=2, width=8)
    assert all(bool(buffer.isfinite().all()) for buffer in rule.buffers())
