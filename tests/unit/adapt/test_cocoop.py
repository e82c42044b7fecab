"""CoCoOp: the network and the answers against loops, any names, kept with the model."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from prompt_world import NAMES, TEXTS, again, small, world

import diptych
from diptych.adapt.attach import copy_of
from diptych.adapt.parts.context import start
from diptych.adapt.prompts.cocoop import cocoop
from diptych.core.rng import generator
from diptych.towers.prompts import Inserted, text_start

FOLDER = Path(__file__).resolve().parents[2] / "reference"
REFERENCE = {name: runpy.run_path(str(FOLDER / f"{name}.py")) for name in ("coop", "cocoop")}
QUICK = {"context": 2, "reduce": 8}


@pytest.fixture(params=TEXTS)
def work(request):
    return world(small(request.param), each=2)


def slow(model, rows, names, numbers, scale):
    """Logits from the loops; the text tower reads one name at a time."""
    given = {name: value.double().tolist() for name, value in numbers.items()}
    start_ = given.pop("context")
    text = []
    for row in rows.double().tolist():
        context = torch.tensor(REFERENCE["cocoop"]["context"](row, start_, **given), dtype=torch.float64)
        here = Inserted((context,), text_start(model))
        with torch.no_grad():
            text.append([model.text_features(model.tokenizer([f"{name}."]), prompts=here)[0].tolist() for name in names])
    return REFERENCE["cocoop"]["logits"](rows.double().tolist(), text, scale)


def test_answers_as_the_paper_says_for_any_names(work):
    made = cocoop(work, epochs=2, lr=0.1, **QUICK)
    numbers, model = dict(made.model.rule.named_buffers()), copy_of(work.model).double()
    assert numbers["down"].shape == (4, 32)
    assert made.numbers == 2 * 16 + 4 * 32 + 4 + 16 * 4 + 16
    rows = work.shots.image_SD[::3]
    for names in (NAMES, ("a lamp", "wind")):
        wanted = torch.tensor(slow(model, rows, names, numbers, work.shots.scale)).double()
        got = made.model.rule.answer(made.model, names).logits(rows)
        torch.testing.assert_close(got.double(), wanted, atol=2e-4, rtol=1e-4)
        assert torch.equal(made.model.classifier(names).probabilities(rows), got.softmax(1))


def test_the_first_loss_is_that_of_the_first_context(work):
    made = cocoop(again(work), epochs=1, batch=8, **QUICK)
    draw, model = generator(0, "prompt draw"), copy_of(work.model).double()
    numbers = {"context": start(model, None, 2, draw, work.shots.templates)}
    for name, shape, inputs in (("down", (4, 32), 32), ("down_bias", (4,), 32), ("up", (16, 4), 4), ("up_bias", (16,), 4)):
        numbers[name] = (2 * torch.rand(shape, generator=draw) - 1) / inputs**0.5
    answers = slow(model, work.shots.image_SD, NAMES, numbers, work.shots.scale)
    assert made.losses[0] == pytest.approx(REFERENCE["coop"]["loss"](answers, work.shots.label_S.tolist()), rel=1e-4)
    torch.testing.assert_close(numbers["context"].float(), start(model, "a ", 2, draw).float())


def test_learns_and_leaves_the_parent_as_it_is(work):
    before = {name: value.clone() for name, value in work.model.state_dict().items()}
    made = cocoop(work, epochs=10, lr=0.3, batch=2, **QUICK)
    assert made.losses[-1] < 0.85 * made.losses[0]
    told = made.model.classifier(NAMES).probabilities(work.shots.image_SD).log()
    assert REFERENCE["coop"]["loss"](told.tolist(), work.shots.label_S.tolist()) < 0.85 * made.losses[0]
    assert all(torch.equal(before[name], value) for name, value in work.model.state_dict().items())
    assert all(parameter.grad is None for parameter in work.model.parameters())


def test_kept_with_the_model_and_the_same_in_any_batch(work, tmp_path, monkeypatch):
    made = cocoop(work, epochs=2, lr=0.1, **QUICK).model
    diptych.save(made, tmp_path / "model")
    back, rows, names = diptych.load(str(tmp_path / "model")), work.shots.image_SD, ("a lamp", "wind", "sea")
    all_ = back.classifier(names).probabilities(rows)
    assert torch.equal(all_, made.classifier(names).probabilities(rows))
    monkeypatch.setattr("diptych.adapt.prompts.cocoop.PIECE", 6)
    torch.testing.assert_close(back.classifier(names).probabilities(rows), all_, atol=1e-6, rtol=1e-5)
