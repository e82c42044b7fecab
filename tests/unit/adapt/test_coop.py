"""CoOp: against the paper's loops, on every kind of text tower, kept with the model."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from prompt_world import NAMES, TEXTS, again, small, world

import diptych
from diptych.adapt.attach import copy_of
from diptych.adapt.parts.context import Names, start, token_rows
from diptych.adapt.prompts.coop import coop
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.towers.prompts import Inserted, Prompts, text_start

REFERENCE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "reference" / "coop.py"))


@pytest.fixture(params=TEXTS)
def work(request):
    return world(small(request.param))


def one_by_one(model, names, context, own=False):
    """Rows of the names, each alone and as long as the tower reads."""
    rows = []
    for k, name in enumerate(names):
        here = Inserted(((context[k] if own else context).to(model.scale.dtype),), text_start(model))
        rows.append(model.text_features(model.tokenizer([name]), prompts=here)[0])
    return torch.stack(rows)


@pytest.mark.parametrize("own", [False, True])
def test_training_is_the_papers(work, own):
    shots, epochs = work.shots, 3
    made = coop(again(work), context=3, words="a ", own=own, epochs=epochs, lr=0.2, batch=5)
    draw = generator(0, "prompt draw")
    model = copy_of(work.model).double()
    context = start(model, "a ", 3, draw).double()
    context = context.expand(len(NAMES), -1, -1).clone() if own else context
    speed, losses = None, []
    for epoch in range(epochs):
        seen = 0.0
        for step, part in enumerate(torch.randperm(len(shots.label_S), generator=draw).split(5)):
            context = context.detach().requires_grad_()
            text = one_by_one(model, [f"{name}." for name in NAMES], context, own)
            told = shots.scale * shots.image_SD[part].double() @ text.T
            (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(told, shots.label_S[part]), context)
            answers = REFERENCE["logits"](shots.image_SD[part].double().tolist(), text.tolist(), shots.scale)
            seen += REFERENCE["loss"](answers, shots.label_S[part].tolist()) * len(part) / len(shots.label_S)
            lr = REFERENCE["rate"](epoch, step, 4, epochs, 0.2)
            flat, speed = REFERENCE["sgd"](context.flatten().tolist(), gradient.flatten().tolist(), speed, lr)
            context = torch.tensor(flat, dtype=torch.float64).reshape(context.shape)
        losses.append(seen)
    assert made.losses == pytest.approx(losses, rel=1e-4)
    assert made.numbers == context.numel()
    text = one_by_one(model, [f"{name}." for name in NAMES], context, own)
    if own:
        torch.testing.assert_close(made.model.head.weight.double(), shots.scale * text, atol=2e-4, rtol=1e-4)
    else:
        torch.testing.assert_close(made.model.prompts.text[0].double(), context, atol=1e-5, rtol=1e-4)


def test_names_in_pieces_are_names_one_by_one(work):
    names = ["a", "an owl", "snow and a tree", "", "a pear", "a pea"]
    rows = Names(copy_of(work.model), names, 2)
    context = torch.randn(2, 16, generator=generator(0, "context"))
    own = torch.randn(6, 2, 16, generator=generator(1, "context"))
    torch.testing.assert_close(rows.rows(context), one_by_one(work.model, names, context).detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rows.rows(own), one_by_one(work.model, names, own, True).detach(), atol=1e-5, rtol=1e-5)
    if work.model.text.crops:
        assert len(rows.pieces) > 1
        assert max(ids.shape[1] for _, ids in rows.pieces) == len("snow and a tree") + 2


def test_pieces_that_are_computed_again_give_the_same_gradient(work, monkeypatch):
    found, calls = [], []
    piece = Names._piece
    monkeypatch.setattr(Names, "_piece", lambda self, *given: calls.append(1) or piece(self, *given))
    for keep in (2**22, 1):
        monkeypatch.setattr("diptych.adapt.parts.context.KEEP", keep)
        context = torch.randn(2, 16, generator=generator(0, "context")).requires_grad_()
        weight = torch.randn(4, 32, generator=generator(1, "context"))
        found.append(torch.autograd.grad((Names(copy_of(work.model), NAMES, 2).rows(context) * weight).sum(), context)[0])
    torch.testing.assert_close(found[0], found[1])
    assert len(calls) == 3 * len(Names(copy_of(work.model), NAMES, 2).pieces)


@pytest.mark.parametrize("own", [False, True])
def test_learns_and_leaves_the_parent_as_it_is(work, own):
    before = {name: value.clone() for name, value in work.model.state_dict().items()}
    made = coop(work, context=4, own=own, epochs=15, lr=0.3, batch=8)
    assert made.losses[-1] < 0.8 * made.losses[0]
    told = made.model.classifier(NAMES).probabilities(work.shots.image_SD).log()
    assert REFERENCE["loss"](told.tolist(), work.shots.label_S.tolist()) < 0.8 * made.losses[0]
    assert all(torch.equal(before[name], value) for name, value in work.model.state_dict().items())
    assert all(parameter.grad is None for parameter in [*work.model.parameters(), *made.model.parameters()])
    assert work.model.prompts is None


@pytest.mark.parametrize("own", [False, True])
def test_kept_with_the_model(work, own, tmp_path):
    made = coop(work, context=3, own=own, epochs=3, lr=0.05).model
    diptych.save(made, tmp_path / "model")
    back = diptych.load(str(tmp_path / "model"))
    rows = work.shots.image_SD
    assert torch.equal(back.classifier(NAMES).probabilities(rows), made.classifier(NAMES).probabilities(rows))
    other = ("a lamp", "wind")
    assert torch.equal(back.classifier(other).rows_KD, made.classifier(other).rows_KD)
    if not own:
        plain = work.model.classifier(other, ("{}.",)).rows_KD
        assert not torch.allclose(back.classifier(other).rows_KD, plain, atol=1e-3)
        context = made.prompts.text[0]
        torch.testing.assert_close(made.classifier(other).rows_KD, one_by_one(work.model, ["a lamp.", "wind."], context).detach())


def test_words_begin_as_the_template_that_they_are(work):
    context = start(work.model, "a ", 2, generator(0, "words"))
    torch.testing.assert_close(context, token_rows(work.model, "a "))
    with_words = Names(copy_of(work.model), [f"{name}." for name in NAMES], 2).rows(context)
    torch.testing.assert_close(with_words, work.model.encode_text([f"a {name}." for name in NAMES]), atol=1e-5, rtol=1e-5)
    longer = start(work.model, "a ", 5, generator(0, "words"))
    assert torch.equal(longer[3:], context)
    assert 0.01 < float(longer[:3].std()) < 0.03


def test_one_context_serves_the_classes_that_have_pictures_and_those_that_have_none(work):
    part = work.take(torch.arange(12))  # the last class has none
    assert coop(part, context=2, epochs=2).model.classifier(NAMES).probabilities(work.shots.image_SD).isfinite().all()


def test_what_it_cannot_do_is_told(work):
    with pytest.raises(UsageError, match=r"19 tokens.*reads 20 tokens in all"):
        coop(work, context=19)
    with pytest.raises(UsageError, match="2 tokens, the context has 1"):
        coop(work, context=1, words="a ")
    with pytest.raises(UsageError, match="makes no token"):
        token_rows(work.model, "")
    prompted = work.model.with_prompts(Prompts.of(text=[torch.zeros(2, 16)]))
    with pytest.raises(UsageError, match="reads prompts already"):
        coop(replace(work, model=prompted))
    silent = copy_of(work.model)
    silent.tokenizer = None
    with pytest.raises(UsageError, match="no tokenizer"):
        coop(replace(work, model=silent))
