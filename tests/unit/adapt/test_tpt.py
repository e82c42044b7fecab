"""TPT against its plain loop with a gradient by differences, what it keeps from picture to picture, and how it travels with a model."""

from __future__ import annotations

import copy
import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stream_world import LABELS, imported, pictures, typed, work

import diptych
from diptych.adapt.parts.context import Names
from diptych.adapt.parts.stream import entropy
from diptych.adapt.parts.views import prompt, views_of
from diptych.adapt.test_time.tpt import agreement, tpt
from diptych.cli.app import run as main
from diptych.core.errors import UsageError
from diptych.towers.prompts import Prompts

REFERENCE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "reference" / "tpt.py"))["tuned"]
FEW = {"views": 5, "share": 0.4, "words": "a p"}


def at_work(model, **options):
    return tpt(work(model), **(FEW | options)).answer(model, LABELS)


@pytest.mark.parametrize(
    ("kind", "reset", "steps", "lr"), [("clip", "each", 1, 0.02), ("siglip", "stream", 2, 0.02), ("clip", "stream", 4, 0.5)]
)
def test_a_picture_is_tuned_as_in_the_plain_loop(kind, reset, steps, lr):
    model = copy.deepcopy(imported(kind)).double()
    given = pictures(2)
    rule = tpt(work(imported(kind)), **FEW, reset=reset, steps=steps, lr=lr)
    got = rule.answer(model, LABELS).logits(given)
    start = rule.get_buffer("context").double().tolist()
    names = Names(model, ["{}.".replace("{}", label) for label in LABELS], len(start))
    context, moments = start, None
    for index, picture in enumerate(given):
        views = model.image_features(views_of(picture, 5, 0.08, 0)).detach().tolist()
        scale = float(model.scale.detach())
        settings = {"share": 0.4, "steps": steps, "lr": lr}
        with torch.no_grad():
            wanted, context, moments = REFERENCE(
                views, lambda c: names.rows(torch.tensor(c, dtype=torch.float64)).tolist(), context, scale, moments=moments, **settings
            )
        torch.testing.assert_close(got[index], torch.tensor(wanted), atol=2e-3, rtol=2e-3)
        if reset == "each":
            context, moments = start, None
    plain = tpt(work(imported(kind)), **FEW, reset=reset, lr=1e-9).answer(model, LABELS).logits(given)
    assert (got - plain).abs().max() > 0.02  # the step is seen


def test_steps_make_the_picture_surer():
    model = imported("clip")
    given = pictures(6)
    before, after = (at_work(model, views=1, steps=steps, lr=lr).logits(given) for steps, lr in ((1, 1e-12), (10, 0.01)))
    assert bool((entropy(after) < entropy(before)).all())


def test_each_picture_for_itself_whatever_comes_before():
    model, given = imported("clip"), pictures(4)
    answers = at_work(model)
    whole = answers.logits(given)
    assert torch.equal(answers.logits(given), whole)
    assert torch.equal(torch.cat([answers.logits(one[None]) for one in given.flip(0)]).flip(0), whole)
    assert answers.reset is None
    assert answers.logits(given[:0]).shape == (0, len(LABELS))


def test_a_stream_goes_on_until_its_reset_and_never_over_it():
    model, given = imported("clip"), pictures(3)
    each, stream, never = (at_work(model, reset=reset, lr=0.02) for reset in ("each", "stream", "never"))
    alone, first = each.logits(given), stream.logits(given)
    assert torch.equal(first[0], alone[0])
    assert not torch.equal(first[1:], alone[1:])
    assert torch.equal(never.logits(given), first)
    assert not torch.equal(stream.logits(given), first)
    assert stream.reset is not None
    assert never.reset is None
    stream.reset()
    assert torch.equal(stream.logits(given), first)


def test_the_parent_stays_as_it_is_and_wants_no_gradient(tmp_path):
    model = copy.deepcopy(imported("siglip"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = model.with_rule(tpt(work(model), **FEW))
    wanted = made.classifier(LABELS).predict(pictures(3))[1]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    diptych.save(made, tmp_path / "model")
    again = diptych.load(str(tmp_path / "model"))
    torch.testing.assert_close(again.classifier(LABELS).predict(pictures(3))[1], wanted)
    assert made.classifier(("tree", "house")).predict(pictures(1))[1].shape == (1, 2)


def test_views_are_the_picture_and_crops_of_it_by_the_seed():
    picture = pictures(1)[0]
    one, same, other = views_of(picture, 4, 0.08, 0), views_of(picture, 4, 0.08, 0), views_of(picture, 4, 0.08, 1)
    assert torch.equal(one[0], picture)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert len(views_of(picture, 1, 0.08, 0)) == 1


def test_the_mean_of_opposite_views_is_undecided():
    logits = torch.tensor([[50.0, 0.0], [0.0, 50.0]])
    assert float(agreement(logits)) == pytest.approx(0.6931, abs=1e-3)  # ln 2
    assert float(agreement(logits[:1])) == pytest.approx(0.0, abs=1e-6)


def test_the_words_that_are_tuned():
    assert prompt(("{}", "a drawing of {}", "a photo of a {}.")) == ("a drawing of", "{}")
    assert prompt(("a photo of a {c}, big.",)) == ("a photo of a", "{}, big.")
    assert prompt(("{}",)) == ("a photo of a", "{}.")
    model = imported("clip")
    assert tpt(work(model), words="abc").get_buffer("context").shape == (3, model.text.width)
    with pytest.raises(UsageError, match="reads 24 tokens in all"):
        tpt(work(model), words="a" * 22)
    prompts = model.with_prompts(Prompts.of(text=[torch.zeros(2, model.text.width)], made_by="test"))
    with pytest.raises(UsageError, match="reads prompts already"):
        tpt(replace(work(model), model=prompts))


def test_the_command_line_runs_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    assert main([*typed("tpt", tmp_path, "--set", "views=4", "--set", "words=a p", "--shots", "1", kind="siglip"), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["trainable"] == 3 * imported("siglip").text.width
    assert row["milliseconds"]["rule"] > row["milliseconds"]["plain"]
