"""The shipped model ``mini``: small enough, whole, and as good as its records say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import diptych
from diptych.data import pictograms
from diptych.evaluate import record
from diptych.evaluate.run import evaluate

FOLDER = Path(diptych.__file__).parent / "models" / "mini"


@pytest.fixture(scope="module")
def model():
    return diptych.load("mini")


def test_it_is_small_and_has_no_batch_norm(model):
    assert (FOLDER / "model.safetensors").stat().st_size <= 15_000_000
    assert sum(p.numel() for p in model.parameters()) < 7_000_000
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())


def test_its_records_hold_on_a_part_of_the_set(model):
    kept = next(r for r in record.read(FOLDER / "records.jsonl") if (r.set, r.metric) == ("pictograms/zero-shot", "top1"))
    found = next(r for r in evaluate(model, "pictograms/zero-shot", limit=300, cache=False, draws=100) if r.metric == "top1")
    assert abs(found.value - kept.value) < 0.1  # 300 pictures: a standard error below 0.03
    assert kept.value > 100 * kept.chance


@pytest.mark.parametrize("text", ["a snail", "Schnecke", "escargot", "caracol", "улитка", "蜗牛", "かたつむり", "달팽이", "घोंघा"])
def test_words_of_nine_languages_find_a_drawing_in_a_style_it_never_saw(model, text):
    samples = pictograms.samples("style", styles=["twemoji"])
    order = (model.encode_text([text]) @ rows(model).T)[0].argsort(descending=True)[:10]
    names = [pictograms.concepts()[samples[int(i)].label].name for i in order]
    assert "snail" in names


KEPT: dict[int, torch.Tensor] = {}


def rows(model) -> torch.Tensor:
    """Rows of all twemoji drawings of trained concepts, encoded once."""
    if id(model) not in KEPT:
        KEPT[id(model)] = model.encode_image(pictograms.samples("style", styles=["twemoji"]), batch_size=256)
    return KEPT[id(model)]
