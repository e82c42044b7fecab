"""Calibration metrics against loops, scikit-learn, scipy and hand-worked cases."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.evaluate.metrics import calibration as metric


def drawn(rows: int, classes: int, sharp: float = 2.0, warmth: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels drawn from softmax(logits / warmth)."""
    logits = sharp * torch.randn(rows, classes, generator=generator(0, "logits"), dtype=torch.float64)
    label = torch.multinomial((logits / warmth).softmax(1), 1, generator=generator(0, "labels"))[:, 0]
    return logits, label


def test_confidence_and_proper_scores_agree_with_scikit_learn():
    logits, label = drawn(400, 5)
    p = logits.softmax(1).numpy()
    sure = metric.confidence(logits, label)
    assert sure[:, 0].numpy() == pytest.approx(p.max(1), abs=1e-12)
    assert sure[:, 1].tolist() == (p.argmax(1) == label.numpy()).astype(float).tolist()
    assert float(metric.nll(logits, label).mean()) == pytest.approx(log_loss(label.numpy(), p), abs=1e-12)
    theirs = brier_score_loss(label.numpy(), p, labels=list(range(5)), scale_by_half=False)  # type: ignore[arg-type]
    assert float(metric.brier(logits, label).mean()) == pytest.approx(theirs, abs=1e-12)


def test_brier_and_nll_by_hand():
    logits, label = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]]), torch.tensor([0, 1])
    assert metric.brier(logits, label).tolist() == pytest.approx([0.5, 2 * 0.75**2])
    assert metric.nll(logits, label).tolist() == pytest.approx([math.log(2), math.log(4)])
    huge = torch.tensor([[1e4, 0.0]])
    assert metric.nll(huge, torch.tensor([1])).tolist() == [1e4]
    assert metric.confidence(huge, torch.tensor([0])).tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("rows", [7, 150, 403])
def test_ece_is_an_independent_loop(rows):
    sure = metric.confidence(*drawn(rows, 4))
    order = np.argsort(sure[:, 0].numpy(), kind="stable")
    total = squared = kept = 0.0
    for part in np.array_split(sure.numpy()[order], min(15, rows)):
        gap = sum(part[:, 1]) / len(part) - sum(part[:, 0]) / len(part)
        total += len(part) / rows * abs(gap)
        if len(part) > 1:
            hits = part[:, 1].mean()
            squared += len(part) * (gap**2 - hits * (1 - hits) / (len(part) - 1))
            kept += len(part)
    assert metric.ece(sure) == pytest.approx(total, abs=1e-12)
    found = metric.rms_error(sure)
    assert math.isnan(found) if not kept else found == pytest.approx(math.sqrt(max(0, squared / kept)), abs=1e-12)


def test_bins_are_scikit_learns_quantile_bins():
    sure = metric.confidence(*drawn(600, 4))
    share, mean = calibration_curve(sure[:, 1].numpy(), sure[:, 0].numpy(), n_bins=10, strategy="quantile")
    mine = metric.bins(sure, 10)
    assert mine[:, 0].numpy() == pytest.approx(mean, abs=1e-12)
    assert mine[:, 1].numpy() == pytest.approx(share, abs=1e-12)
    assert mine[:, 2].tolist() == [60.0] * 10


def test_ece_is_that_of_equal_widths_where_the_bins_agree():
    """Confidences that lie evenly in 0 to 1 fill equal widths equally: Guo et al.'s ECE as a loop over widths."""
    mean = (torch.arange(300, dtype=torch.float64) + 0.5) / 300
    sure = torch.stack([mean, (torch.rand(300, generator=generator(3)) < mean**2).double()], 1)
    total = 0.0
    for b in range(15):
        inside = [(p, hit) for p, hit in sure.tolist() if b / 15 < p <= (b + 1) / 15]
        total += len(inside) / 300 * abs(sum(hit for _, hit in inside) / len(inside) - sum(p for p, _ in inside) / len(inside))
    assert metric.ece(sure) == pytest.approx(total, abs=1e-12)
    assert metric.ece(torch.tensor([[1.0, 1.0], [1.0, 0.0]]).double()) == pytest.approx(0.5)


def test_the_debiased_error_of_a_calibrated_model_is_near_none():
    draw = generator(5)
    found, plain = [], []
    for _ in range(60):
        p = 0.5 + 0.5 * torch.rand(300, generator=draw, dtype=torch.float64)
        sure = torch.stack([p, (torch.rand(300, generator=draw) < p).double()], 1)
        mean, hit, size = metric.bins(sure).unbind(1)
        plain.append(float((size * (hit - mean) ** 2).sum() / 300))
        found.append(plain[-1] - float((size * hit * (1 - hit) / (size - 1)).sum() / 300))
        assert metric.rms_error(sure) == pytest.approx(math.sqrt(max(0.0, found[-1])), abs=1e-12)
    assert abs(np.mean(found)) < 3 * np.std(found) / math.sqrt(60)
    assert np.mean(plain) > 10 * abs(np.mean(found))


def test_risk_and_coverage_by_hand():
    sure = torch.tensor([[0.9, 1.0], [0.8, 0.0], [0.7, 1.0], [0.6, 0.0]]).double()
    assert metric.risk_coverage(sure).tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert metric.aurc(sure) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert metric.selective(sure, 0.5) == pytest.approx(0.5)
    assert metric.selective(sure, 0.25) == 1.0
    assert metric.selective(sure, 1.0) == 0.5


def test_ties_are_the_mean_over_all_orders():
    rows = [[0.9, 1.0], [0.5, 0.0], [0.5, 1.0], [0.5, 1.0], [0.1, 0.0]]
    curves = []
    for order in itertools.permutations(rows[1:4]):
        wrong = np.array([1 - hit for _, hit in [rows[0], *order, rows[4]]])
        curves.append(wrong.cumsum() / np.arange(1, 6))
    for order in itertools.permutations(rows):
        assert metric.risk_coverage(torch.tensor(order).double()).numpy() == pytest.approx(np.mean(curves, 0), abs=1e-12)


@pytest.mark.parametrize("warmth", [0.4, 1.0, 3.0])
def test_the_temperature_is_scipys_minimum_and_the_one_that_drew_the_labels(warmth):
    logits, label = drawn(4000, 5, warmth=warmth)
    found = metric.temperature(logits, label)
    least = minimize_scalar(lambda t: float(metric.nll(logits / math.exp(t), label).mean()), bounds=(-4, 4), method="bounded")
    assert math.log(found) == pytest.approx(least.x, abs=1e-4)  # type: ignore[attr-defined]
    assert found == pytest.approx(warmth, rel=0.1)
    assert metric.temperature(logits.float() + 100, label) == pytest.approx(found, rel=1e-4)


def test_a_temperature_beyond_the_interval_is_its_end():
    logits = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    assert metric.temperature(logits, torch.tensor([0, 1])) == pytest.approx(0.01)
    assert metric.temperature(logits, torch.tensor([1, 0])) == pytest.approx(100)
    with pytest.raises(UsageError, match="no examples"):
        metric.temperature(logits[:0], torch.tensor([], dtype=torch.int64))


@pytest.mark.parametrize(("count", "keep"), [(9, 0.9), (30, 0.9), (40, 0.75), (19, 0.95)])
def test_thresholds_keep_what_they_promise(count, keep):
    """Leaving each of n + 1 exchangeable pictures out in turn, at least a share ``keep`` of them passes the others' threshold."""
    p = torch.rand(count + 1, 1, generator=generator(7, count), dtype=torch.float64)
    label = torch.zeros(count, dtype=torch.int64)
    passed = []
    for i in range(count + 1):
        rest = torch.cat([p[:i], p[i + 1 :]])
        threshold, own = metric.thresholds(rest, label, keep)
        assert own.tolist() == [True]
        passed.append(bool(p[i, 0] >= threshold[0]))
    assert keep <= sum(passed) / (count + 1) <= keep + 1 / (count + 1)


def test_a_class_with_few_pictures_takes_the_threshold_of_all():
    own = torch.arange(1, 21, dtype=torch.float64) / 100
    p = torch.stack([own, own + 0.5], 1)
    label = torch.tensor([0] * 10 + [1] * 10)
    label[10:12] = 2
    p = torch.cat([p, own[:, None]], 1)
    threshold, mine = metric.thresholds(p, label, 0.9)
    assert mine.tolist() == [True, False, False]
    values = sorted([*own[:10].tolist(), *own[10:12].tolist(), *(own[12:] + 0.5).tolist()])
    assert threshold.tolist() == pytest.approx([0.01, values[1], values[1]])
    with pytest.raises(UsageError, match="Give at least 9"):
        metric.thresholds(p[:5], label[:5], 0.9)
    with pytest.raises(UsageError, match="between 0 and 1"):
        metric.thresholds(p, label, 1.0)
