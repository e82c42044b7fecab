"""The patch probe of the claims: its numbers beside scikit-learn's, labels by hand, and that it reads what tokens hold."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

sys.path.append(str(Path(__file__).parents[3] / "benchmarks" / "claims"))
import patches

from diptych.data.pictograms.scenes import mask


def test_iou_equals_scikit_learn():
    draw = np.random.default_rng(0)
    true, told = draw.integers(0, 5, (30, 16)), draw.integers(0, 5, (30, 16))
    ours = patches.iou(told, true, 5)
    theirs = jaccard_score(true.reshape(-1), told.reshape(-1), average=None, labels=range(5))
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert np.isnan(patches.iou(told, true, 6)[5])


def test_mean_of_a_scene_by_hand():
    true, told = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 0])
    # ground: 1 of 3; class 1: 1 of 2; class 2 is not shown
    assert patches.of_scene(told, true, 3) == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert patches.of_scene(true, true, 3) == 1.0


def test_labels_are_the_masks():
    samples = patches.scenes("style", 6)
    found = patches.labels(samples, 8)
    assert found.shape == (6, 64)
    of = patches.classes(patches.CONFIG)
    assert sorted(of.values()) == list(range(1, len(patches.NAMES) + 1))
    for sample, row in zip(samples, found, strict=True):
        pixels = mask(sample)
        for place in np.flatnonzero(row):
            top, left = 8 * (place // 8), 8 * (place % 8)
            inside = pixels[top : top + 8, left : left + 8]
            number = [of[label] for label in sample.meta["labels"]].index(row[place]) + 1
            assert (inside == number).sum() > 32 or (inside == number).sum() > (inside == 0).sum()


class Oracle:
    """Tokens that hold the true class, or nothing."""

    def __init__(self, knows: bool) -> None:
        self.knows = knows


def test_a_tower_that_knows_scores_one_and_one_that_does_not_little(monkeypatch):
    def tokens(model, samples):
        true = torch.from_numpy(patches.labels(samples, 8))
        hot = torch.nn.functional.one_hot(true, len(patches.NAMES) + 1).float()
        return hot if model.knows else torch.zeros_like(hot)

    monkeypatch.setattr(patches, "tokens", tokens)
    monkeypatch.setattr(patches, "FIT", 60)
    monkeypatch.setattr(patches, "TRY", 40)
    knows, not_ = patches.patch_probe(Oracle(True)), patches.patch_probe(Oracle(False))
    assert knows["patch mIoU"].value_N.item() > 0.9
    assert knows["patch accuracy on things"].value_N.mean() == 1.0
    assert not_["patch accuracy on things"].value_N.mean() == 0.0
    assert not_["patch mIoU of a scene"].value_N.mean() < 0.4
    assert len(knows["patch mIoU of a scene"].value_N) == 40
