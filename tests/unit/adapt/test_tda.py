"""TDA against its plain loop, what it forgets and when, and how it travels with a model."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch
from stream_world import LABELS, TEMPLATES, imported, pictures, shots, typed, work
from torch.nn import functional as F

import diptych
from diptych.adapt.test_time.tda import tda
from diptych.cli.app import run as main
from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.engine.fewshot import make
from diptych.towers.rule import Rule

REFERENCE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "reference" / "tda.py"))["logits"]


def rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    """Unit rows in a few clusters, so that classes come back."""
    draw = generator(seed, "tda rows")
    centre = torch.randn(5, width, generator=draw)
    return F.normalize(centre[torch.arange(count) % 5] + 0.4 * torch.randn(count, width, generator=draw), dim=1)


def at_work(model, **options):
    rule = tda(shots(model), **options)
    return rule.answer(model, LABELS)


def twin(model, given, **settings):
    text = shots(model).text_KD.double().tolist()
    found = REFERENCE(given.double().tolist(), text, float(model.scale.detach()), **settings)
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, {}),
        ({"unsure": (0.05, 0.6), "negative_alpha": 0.8, "mask": 0.2}, {"unsure": (0.05, 0.6), "negative": (2, 0.8, 1.0), "mask": 0.2}),
        ({"capacity": 1, "beta": 2.0, "negative_capacity": 0}, {"sure": (1, 2.0, 2.0), "negative": (0, 0.117, 1.0)}),
        (
            {"capacity": 0, "negative_capacity": 1, "unsure": (0.0, 1.0)},
            {"sure": (0, 2.0, 5.0), "negative": (1, 0.117, 1.0), "unsure": (0.0, 1.0)},
        ),
    ],
)
def test_a_stream_is_the_plain_loop(kind, options, settings):
    model = imported(kind)
    given = rows(60, model.embed_dim)
    answer = at_work(model, **options)
    got = torch.cat([answer.logits(part) for part in given.split(7)]).double()
    assert got.shape == (60, len(LABELS))
    torch.testing.assert_close(got, twin(model, given, **settings), atol=2e-4, rtol=2e-5)
    zero = twin(model, given, sure=(0, 0.0, 1.0), negative=(0, 0.0, 1.0))
    assert (got - zero).abs().max() > 0.1  # the caches say something in this stream


def test_unsure_pictures_are_there_to_be_kept():
    """The settings above put pictures into both caches; without either the answers differ."""
    model = imported("clip")
    given = rows(60, model.embed_dim)
    both = twin(model, given, unsure=(0.05, 0.6))
    assert not torch.allclose(both, twin(model, given, unsure=(0.05, 0.6), negative=(0, 0.0, 1.0)))
    assert not torch.allclose(both, twin(model, given, unsure=(0.05, 0.6), sure=(0, 0.0, 1.0)))


def test_stream_forgets_at_a_reset_and_never_does_not():
    model = imported("clip")
    given = rows(20, model.embed_dim)
    stream, never = at_work(model), at_work(model, reset="never")
    first = stream.logits(given)
    assert torch.equal(first, never.logits(given))
    assert not torch.equal(stream.logits(given), first)  # the caches are still full
    assert stream.reset is not None
    stream.reset()
    assert torch.equal(stream.logits(given), first)
    assert never.reset is None
    assert not torch.equal(never.logits(given), first)
    assert torch.equal(at_work(model, reset="never").logits(given), first)  # put to work anew


def test_the_order_of_a_stream_matters_and_a_classifier_keeps_it():
    model = imported("clip")
    given = rows(30, model.embed_dim)
    turned = at_work(model).logits(given.flip(0)).flip(0)
    assert not torch.allclose(turned, at_work(model).logits(given), atol=1e-3)
    whole = model.with_rule(tda(shots(model)))
    classifier = whole.classifier(LABELS)
    first, again = (classifier.predict(given)[1] for _ in range(2))
    assert not torch.equal(first, again)
    classifier.reset()
    assert torch.equal(classifier.predict(given)[1], first)


def test_it_answers_for_any_names_and_leaves_the_parent_alone():
    model = imported("clip")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rule = make(registry.find("tda", "adapt"), work(model), {})
    assert isinstance(rule, Rule)
    answer = rule.answer(model, ("tree", "house"))
    assert answer.logits(rows(6, model.embed_dim)).shape == (6, 2)
    assert answer.logits(rows(0, model.embed_dim)).shape == (0, 2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert rule.config.options["templates"] == list(TEMPLATES)


def test_it_is_saved_and_answers_the_same(tmp_path):
    model = imported("siglip")
    made = model.with_rule(tda(shots(model), alpha=1.5))
    diptych.save(made, tmp_path / "model")
    again = diptych.load(str(tmp_path / "model"))
    given = pictures(5)
    wanted, got = (one.classifier(LABELS).predict(given)[1] for one in (made, again))
    torch.testing.assert_close(got, wanted)
    plain = model.classifier(LABELS, TEMPLATES).predict(given)[1]
    assert not torch.allclose(wanted, plain, atol=1e-3)


def test_what_has_no_meaning_is_refused():
    model = imported("clip")
    for options, message in [
        ({"reset": "each"}, "would remember none"),
        ({"capacity": 0, "negative_capacity": 0}, "neither cache has a place"),
        ({"unsure": (0.5, 0.2)}, "no entropy lies between"),
    ]:
        with pytest.raises(UsageError, match=message):
            tda(shots(model), **options)


def test_the_command_line_streams_a_set(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    told = typed("tda", tmp_path)
    assert main([*told, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["method"], row["trainable"], row["retention"]) == ("tda", 0, 1.0)
    assert all(value > 0 for value in row["milliseconds"].values())
    assert diptych.load(row["model"]).classifier(LABELS).rule is not None
    assert main([*told, "--set", "reset=each"]) == 2
    assert "would remember none" in capsys.readouterr().err
