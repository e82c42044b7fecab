"""RLCF against its plain loop with a gradient by differences, its two forms, what it keeps, and how it travels with a model."""

from __future__ import annotations

import copy
import functools
import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stream_world import LABELS, TEMPLATES, imported, pictures, typed, work

import diptych
from diptych.adapt.attach import norms
from diptych.adapt.parts.context import Names
from diptych.adapt.parts.judge import judge
from diptych.adapt.parts.views import views_of
from diptych.adapt.test_time.rlcf import rewards, rlcf
from diptych.cli.app import run as main
from diptych.core.errors import DiptychError, UsageError
from diptych.core.types import Preprocess
from diptych.towers.dual import DualEncoder
from diptych.towers.efficientnet import EfficientNetLite0Config
from diptych.towers.presets import preset

REFERENCE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "reference" / "rlcf.py"))["tuned"]
FEW = {"views": 4, "share": 0.5, "sample": 2, "steps": 2}


@pytest.fixture(scope="module")
def reward(tmp_path_factory):
    """The folder of another model, which judges."""
    path = tmp_path_factory.mktemp("judge") / "model"
    diptych.save(imported("siglip", seed=5), path)
    return str(path)


def at_work(model, reward, **options):
    return rlcf(work(model), reward=reward, **(FEW | options)).answer(model, LABELS)


@pytest.mark.parametrize(("kind", "tunes"), [("clip", "prompt"), ("siglip", "norms")])
def test_a_picture_is_tuned_as_in_the_plain_loop(kind, tunes, reward):
    few = FEW if tunes == "prompt" else FEW | {"views": 2, "steps": 1}
    model = copy.deepcopy(imported(kind)).double()
    picture = pictures(1)[0]
    rule = rlcf(work(imported(kind)), reward=reward, tunes=tunes, lr=0.02, **few, words="a p" if tunes == "prompt" else None)
    got = rule.answer(model, LABELS).logits(picture[None])[0].double()
    seen, scale = views_of(picture, few["views"], 0.08, 0), float(model.scale.detach())
    with judge(reward) as other:
        scores = other.image_features(seen) @ other.classifier(LABELS, TEMPLATES).rows_KD.T
    text = model.classifier(LABELS, TEMPLATES).rows_KD.double()
    if tunes == "prompt":
        start = rule.get_buffer("context").double()
        names = Names(model, [f"{label}." for label in LABELS], len(start))
        image = model.image_features(seen)

        @functools.lru_cache(maxsize=1)
        def every(values):
            context = torch.tensor(values, dtype=torch.float64).view_as(start)
            return (scale * image @ names.rows(context).T).tolist()

        def logits(values, view):
            return every(tuple(values))[view]

        with torch.no_grad():
            wanted, _ = REFERENCE(logits, start.flatten().tolist(), scores.double().tolist(), lr=0.02, **few)
    else:
        every = norms(model)
        start = torch.cat([p.detach().flatten() for p in every])

        def logits(values, view):
            torch.nn.utils.vector_to_parameters(torch.tensor(values, dtype=torch.float64), every)
            return (scale * text @ model.image_features(seen[view : view + 1])[0]).tolist()

        with torch.no_grad():
            wanted, _ = REFERENCE(logits, start.tolist(), scores.double().tolist(), lr=0.02, **few)
    torch.testing.assert_close(got, torch.tensor(wanted, dtype=torch.float64), atol=2e-3, rtol=2e-3)
    still = rlcf(work(imported(kind)), reward=reward, tunes=tunes, lr=1e-9, **few, words="a p" if tunes == "prompt" else None)
    before = still.answer(imported(kind), LABELS).logits(picture[None])[0].double()
    assert (got - before).abs().max() > 0.02  # the steps are seen


def test_rewards_are_scores_above_the_mean_of_those_sampled():
    got = rewards(torch.tensor([[0.4, 0.2], [-0.3, 0.1]]))
    torch.testing.assert_close(got, torch.tensor([[0.25, -0.25], [-0.125, 0.125]]))


@pytest.mark.parametrize("tunes", ["prompt", "norms"])
def test_the_answer_goes_where_the_judge_points(tunes, reward):
    """Of two classes the judge's preferred one becomes likelier in nearly all pictures."""
    model, given, labels = imported("clip"), pictures(6), LABELS[:2]
    rules = [rlcf(work(model), reward=reward, tunes=tunes, views=1, sample=2, steps=5, lr=lr) for lr in (1e-9, 0.01)]
    before, after = (rule.answer(model, labels).logits(given) for rule in rules)
    with judge(reward) as other:
        prefers = (other.encode_image(given) @ other.classifier(labels, TEMPLATES).rows_KD.T).argmax(1)
    moved = ((after - after.flip(1)) - (before - before.flip(1))).gather(1, prefers[:, None])
    assert int((moved > 0).sum()) >= 5


@pytest.mark.parametrize("tunes", ["prompt", "norms"])
def test_each_picture_for_itself_and_a_stream_until_its_reset(tunes, reward):
    model, given = imported("clip"), pictures(3)
    each = at_work(model, reward, tunes=tunes)
    alone = each.logits(given)
    assert torch.equal(each.logits(given.flip(0)).flip(0), alone)
    assert each.reset is None
    stream, never = (at_work(model, reward, tunes=tunes, reset=reset, momentum=0.2, lr=0.02) for reset in ("stream", "never"))
    first = stream.logits(given)
    assert torch.equal(never.logits(given), first)
    assert not torch.equal(stream.logits(given), first)
    assert stream.reset is not None
    assert never.reset is None
    stream.reset()
    assert torch.equal(stream.logits(given), first)
    slow = at_work(model, reward, tunes=tunes, reset="stream", momentum=0.999999, lr=0.02).logits(given)
    torch.testing.assert_close(slow, at_work(model, reward, tunes=tunes, lr=0.02).logits(given), atol=1e-3, rtol=1e-4)
    assert stream.logits(given[:0]).shape == (0, len(LABELS))


@pytest.mark.parametrize("tunes", ["prompt", "norms"])
def test_the_parent_stays_as_it_is_and_the_rule_travels(tunes, reward, tmp_path):
    model = copy.deepcopy(imported("siglip"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = model.with_rule(rlcf(work(model), reward=reward, tunes=tunes, **FEW))
    wanted = made.classifier(LABELS).predict(pictures(2))[1]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    diptych.save(made, tmp_path / "model")
    again = diptych.load(str(tmp_path / "model"))
    torch.testing.assert_close(again.classifier(LABELS).predict(pictures(2))[1], wanted)


def test_what_has_no_meaning_is_refused(reward):
    model = imported("clip")
    for options, message in [
        ({"momentum": 0.9}, "nothing goes from picture to picture"),
        ({"tunes": "norms", "words": "a"}, "layer norms are tuned"),
    ]:
        with pytest.raises(UsageError, match=message):
            rlcf(work(model), reward=reward, **options)
    without = preset("demo").model_copy(
        update={"image": EfficientNetLite0Config(), "preprocess": Preprocess((224, 224), (0.5,) * 3, (0.5,) * 3)}
    )
    with pytest.raises(UsageError, match="no layer norm"):
        rlcf(replace(work(model), model=DualEncoder(without)), reward=reward, tunes="norms")
    with pytest.raises(DiptychError):
        rlcf(work(model), reward="/nowhere/at/all")
    with judge(reward), pytest.raises(UsageError, match="itself rewarded"), judge(reward):
        pass


def test_the_command_line_runs_it(reward, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    told = typed("rlcf", tmp_path, "--set", f"reward={reward}", "--set", "views=2", "--set", "tunes=norms", "--shots", "1", "--json")
    assert main(told) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["method"], row["trainable"]) == ("rlcf", 0)
    assert row["milliseconds"]["rule"] > row["milliseconds"]["plain"]
