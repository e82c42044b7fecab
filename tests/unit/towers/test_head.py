"""Heads: their three forms against loops, travelling with a model, and leaving its rows alone."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch.nn import functional as F

import diptych
from diptych.core.errors import DiptychError
from diptych.core.rng import generator
from diptych.towers.head import Head, HeadConfig, mixed

NAMES = ("cat", "dog", "owl")


def rows(*shape, stream="rows"):
    return F.normalize(torch.randn(*shape, generator=generator(0, stream)), dim=-1)


def linear(width=4, stream="w"):
    return Head.of(HeadConfig(classes=NAMES, width=width), weight=rows(3, width, stream=stream), bias=torch.tensor([0.1, 0.2, -0.3]))


def test_linear_is_a_product_and_a_bias():
    head, x = linear(), rows(5, 4)
    for n in range(5):
        for k in range(3):
            wanted = sum(float(x[n, d]) * float(head.weight[k, d]) for d in range(4)) + float(head.bias[k])
            assert float(head(x)[n, k]) == pytest.approx(wanted, abs=1e-6)


def test_cache_adds_the_affinities():
    keys, values, x = rows(6, 4, stream="k"), torch.rand(6, 3, generator=generator(0, "v")), rows(5, 4)
    config = HeadConfig(kind="cache", classes=NAMES, width=4, cached=6, beta=5.5)
    head = Head.of(config, weight=linear().weight, bias=linear().bias, key=keys, value=values)
    for n in range(5):
        for k in range(3):
            more = sum(math.exp(-5.5 * (1 - float(x[n] @ keys[m]))) * float(values[m, k]) for m in range(6))
            assert float(head(x)[n, k]) == pytest.approx(float(linear()(x)[n, k]) + more, abs=1e-5)


def test_residual_mixes_old_and_new_rows():
    down, up, x = torch.randn(2, 4, generator=generator(0, "d")), torch.randn(4, 2, generator=generator(0, "u")), rows(5, 4)
    config = HeadConfig(kind="residual", classes=NAMES, width=4, hidden=2, ratio=0.3)
    head = Head.of(config, weight=linear().weight, down=down, up=up)
    for n in range(5):
        hidden = [max(0.0, float(down[h] @ x[n])) for h in range(2)]
        new = [max(0.0, sum(float(up[d, h]) * hidden[h] for h in range(2))) for d in range(4)]
        row = torch.tensor([0.3 * new[d] + 0.7 * float(x[n, d]) for d in range(4)])
        assert torch.allclose(head(x)[n], linear().weight @ (row / row.norm()), atol=1e-5)


def test_what_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match="cached goes with"):
        HeadConfig(kind="cache", classes=NAMES, width=4)
    with pytest.raises(ValueError, match="kind 'tree' is none"):
        HeadConfig(kind="tree", classes=NAMES, width=4)
    with pytest.raises(ValueError, match="has \\['bias', 'weight'\\]"):
        Head.of(HeadConfig(classes=NAMES, width=4), weight=rows(3, 4), key=rows(3, 4))
    with pytest.raises(ValueError, match="weight is"):
        Head.of(HeadConfig(classes=NAMES, width=4), weight=rows(2, 4))
    assert bool(Head(HeadConfig(classes=NAMES, width=4))(rows(1, 4)).isnan().all())


def test_mixing_ends_at_both_heads():
    first, second = linear(), linear(stream="other")
    assert torch.equal(mixed(first, second, 0.0).weight, first.weight)
    assert torch.equal(mixed(first, second, 1.0).weight, second.weight)
    assert torch.allclose(mixed(first, second, 0.25)(rows(5, 4)), 0.75 * first(rows(5, 4)) + 0.25 * second(rows(5, 4)), atol=1e-6)


@pytest.fixture(scope="module")
def model():
    return diptych.load("mini")


def test_a_head_travels_with_the_model_and_leaves_its_rows_alone(model, tmp_path):
    before = model.fingerprint()
    headed = model.with_head(linear(model.embed_dim))
    assert model.head is None
    assert model.fingerprint() == before != headed.fingerprint()
    picture = torch.full((1, 3, *model.config.preprocess.size), 90, dtype=torch.uint8)
    assert torch.equal(model.encode_image(picture), headed.encode_image(picture))
    diptych.save(headed, tmp_path / "headed")
    again = diptych.load(str(tmp_path / "headed"))
    assert again.fingerprint() == headed.fingerprint()
    assert again.head.classes == NAMES
    labels, chances = again.classifier().predict(picture)
    assert torch.allclose(chances, headed.head(model.encode_image(picture)).softmax(1), atol=1e-6)
    assert labels[0] in NAMES
    assert headed.with_head(None).fingerprint() == before


def test_a_changed_head_is_found_at_load(model, tmp_path):
    diptych.save(model.with_head(linear(model.embed_dim)), tmp_path / "headed")
    raw = json.loads((tmp_path / "headed" / "config.json").read_text())
    raw["model"]["head"]["kind"] = "residual"
    raw["model"]["head"]["hidden"] = 2
    (tmp_path / "headed" / "config.json").write_text(json.dumps(raw))
    with pytest.raises(DiptychError):
        diptych.load(str(tmp_path / "headed"))


def test_the_head_answers_for_its_own_classes_only(model):
    headed = model.with_head(linear(model.embed_dim))
    assert headed.classifier(NAMES).rows_KD is None
    assert headed.classifier(("cat", "dog")).rows_KD is not None
    assert headed.classifier(NAMES, templates=["{}"]).rows_KD is not None
    with pytest.raises(DiptychError, match="need a list of at least one name"):
        model.classifier()


def test_other_formats_refuse_a_head_rather_than_lose_it(model, tmp_path):
    with pytest.raises(DiptychError, match="open_clip has no place for its head \\(3 classes\\)"):
        diptych.save(model.with_head(linear(model.embed_dim)), tmp_path / "other", format="open_clip")
    assert not (tmp_path / "other").exists()
