"""The same features give the numbers that CLIP_benchmark gives; see ``make_clip_benchmark.py``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from diptych.evaluate.material import Table
from diptych.evaluate.metrics import classification
from diptych.evaluate.outcome import Question
from diptych.evaluate.protocols import retrieval, zero_shot

HERE = Path(__file__).parent / "clip_benchmark"


@pytest.fixture(scope="module")
def rows() -> dict[str, Tensor]:
    return load_file(HERE / "rows.safetensors")


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, float]]:
    return json.loads((HERE / "expected.json").read_text())


def unit(rows_ND: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows_ND, dim=1)


def question(image_ND: Tensor, text_MD: Tensor, captions: list[tuple[str, ...]], label_N: Tensor, classes: int, templates: int) -> Question:
    """What the protocol is asked, with texts that are row numbers."""
    count = len(image_ND)
    table = Table(tuple(map(str, range(count))), tuple(captions), label_N, torch.arange(count), ("",) * count)
    names = tuple(f"class {k}" for k in range(classes))

    def encode(texts: Sequence[str]) -> Tensor:
        if not classes:
            return unit(text_MD)[[int(text) for text in texts]]
        place = [(names.index(text.split("|")[1]), int(text.split("|")[0])) for text in texts]
        return unit(text_MD)[[k * templates + p for k, p in place]]

    return Question(unit(image_ND), table, encode, names, tuple(f"{p}|{{}}" for p in range(templates)))


def test_zero_shot_equals_clip_benchmark(rows: dict[str, Tensor], expected: dict[str, dict[str, float]]) -> None:
    image_ND, text_MD, label_N = (rows[f"zero_shot.{name}"] for name in ("image_ND", "text_MD", "label_N"))
    asked = question(image_ND, text_MD, [()] * len(image_ND), label_N, 12, 3)
    found = {metric.name: float(metric.value_N.double().mean()) for metric in zero_shot.run(asked).metrics}
    told = expected["zero_shot"]
    assert 0.3 < told["acc1"] < 0.9, "a fixture on which a mistake would show"
    assert found["top1"] == pytest.approx(told["acc1"], abs=1e-6)
    assert found["top5"] == pytest.approx(told["acc5"], abs=1e-6)
    assert found["mean_per_class"] == pytest.approx(told["mean_per_class_recall"], abs=1e-6)


def test_retrieval_with_several_captions_equals_clip_benchmark(rows: dict[str, Tensor], expected: dict[str, dict[str, float]]) -> None:
    image_ND, text_MD, owner_M = (rows[f"retrieval.{name}"] for name in ("image_ND", "text_MD", "owner_M"))
    captions = [tuple(str(m) for m in (owner_M == n).nonzero()[:, 0].tolist()) for n in range(len(image_ND))]
    assert {len(row) for row in captions} == {1, 2, 3, 4, 5}
    outcome = retrieval.run(question(image_ND, text_MD, captions, torch.full((len(image_ND),), -1), 0, 0))
    found = {metric.name: float(metric.value_N.mean()) for metric in outcome.metrics}
    for k in (1, 5, 10):
        assert found[f"text_to_image_r@{k}"] == pytest.approx(expected["retrieval"][f"image_retrieval_recall@{k}"], abs=1e-6)
        assert found[f"image_to_text_r@{k}"] == pytest.approx(expected["retrieval"][f"text_retrieval_recall@{k}"], abs=1e-6)


def test_a_probes_answers_are_counted_as_clip_benchmark_counts_them(rows: dict[str, Tensor], expected: dict[str, dict[str, float]]) -> None:
    logit_NK, target_N = rows["probe.logit_NK"], rows["probe.target_N"]
    rank_N = classification.label_ranks(logit_NK, target_N)
    hit_N = classification.top_k(rank_N, 1)
    mean_C, _ = classification.per_class(hit_N, target_N, logit_NK.shape[1])
    told = expected["probe"]
    assert float(hit_N.mean()) == pytest.approx(told["lp_acc1"], abs=1e-6)
    assert float(classification.top_k(rank_N, 5).mean()) == pytest.approx(told["lp_acc5"], abs=1e-6)
    assert float(mean_C.mean()) == pytest.approx(told["lp_mean_per_class_recall"], abs=1e-6)
