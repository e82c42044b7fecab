"""The protocol ``classify``: the head's answers where it knows exactly these classes, the words for a baseline without one."""

from __future__ import annotations

import pytest
import torch

import diptych
from diptych.core.errors import UsageError
from diptych.evaluate.material import material
from diptych.evaluate.run import evaluate
from diptych.towers.head import Head, HeadConfig


@pytest.fixture(scope="module")
def data():
    return material("pictograms/groups").take(torch.arange(0, 2740, 90))


def constant(model, classes, label):
    """A head that always says ``label``."""
    bias = torch.zeros(len(classes))
    bias[label] = 5.0
    return Head.of(HeadConfig(classes=classes, width=model.embed_dim), weight=torch.zeros(len(classes), model.embed_dim), bias=bias)


def test_the_head_answers_and_the_baseline_uses_its_words(data, tmp_path):
    model = diptych.load("mini")
    headed = model.with_head(constant(model, data.classes, 3))
    found = {(r.protocol, r.metric): r for r in evaluate(headed, data, baseline=model, protocols=["classify", "zero_shot"], cache=tmp_path)}
    share = sum(sample.label == 3 for sample in data.source) / len(data.source)
    words = found["zero_shot", "top1"].value
    assert found["classify", "top1"].value == pytest.approx(share)
    assert found["classify", "top1.gain"].value == pytest.approx(share - words)
    assert found["zero_shot", "top1.gain"].value == 0
    assert found["classify", "mean_per_class"].value == pytest.approx(1 / len({sample.label for sample in data.source}))


def test_a_head_of_other_classes_does_not_answer(data, tmp_path):
    model = diptych.load("mini")
    other = model.with_head(constant(model, tuple(reversed(data.classes)), 3))
    with pytest.raises(UsageError, match="it needs a head or rule for these classes and labels"):
        evaluate(other, data, protocols=["classify"], cache=tmp_path)


def test_rows_are_encoded_once_for_a_model_with_and_without_a_head(data, tmp_path):
    model = diptych.load("mini")
    evaluate(model, data, protocols=["zero_shot"], cache=tmp_path)
    kept = sorted(path.name for path in tmp_path.iterdir())
    evaluate(model.with_head(constant(model, data.classes, 0)), data, protocols=["classify"], cache=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
