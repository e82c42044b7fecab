"""WAD and low-density separation: their losses against loops, their minima against scikit-learn, and what the pool gives them."""

from __future__ import annotations

import runpy
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rows_world import right, world
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC

from diptych.adapt.semi import deep_lds, wad
from diptych.core.errors import UsageError
from diptych.core.rng import generator

FOLDER = Path(__file__).resolve().parents[2] / "reference"
WAD, LDS = (runpy.run_path(str(FOLDER / f"{name}.py")) for name in ("wad", "deep_lds"))


def rows(shots):
    """Float64 rows: labelled, pool, words."""
    return shots.image_SD.double(), shots.pool_UD.double(), shots.text_KD.double()


@pytest.mark.parametrize("counts", [(3, 2, 4, 2), (3, 0, 4, 2)])
@pytest.mark.parametrize("weigh", [True, False])
def test_a_round_of_wad_is_at_the_minimum_of_the_loop_s_loss(counts, weigh):
    shots, _, _, _ = world(counts, free=30)
    image, free, text = rows(shots)
    found = WAD["told"](image.tolist(), shots.label_S.tolist(), free.tolist(), text.tolist())
    said, margin = wad.told(image, shots.label_S, free, text, block=7)
    assert said.tolist() == [one for one, _ in found]
    assert margin.tolist() == pytest.approx([one for _, one in found], abs=1e-12)
    head = wad.wad(shots, weigh=weigh, trust=0.7, rounds=1, ridge=0.02, steps=300)
    made = [head.weight.double(), head.bias.double()]
    start = (shots.scale * text).tolist()
    asked = partial(WAD["loss"], image.tolist(), shots.label_S.tolist(), free.tolist(), found, start, weigh=weigh, trust=0.7, ridge=0.02)
    least = asked(made[0].tolist(), made[1].tolist())
    counts_U = 0.7 * (margin / margin.mean() if weigh else torch.ones_like(margin))
    pairs = ((image, shots.label_S, torch.ones_like(image[:, 0])), (free, said, counts_U))
    assert float(wad.loss(pairs, shots.scale * text, 0.02, *made)) == pytest.approx(least, abs=1e-9)
    for seed in range(5):
        away = [0.05 * torch.randn(one.shape, generator=generator(seed, "away"), dtype=torch.float64) for one in made]
        assert asked((made[0] + away[0]).tolist(), (made[1] + away[1]).tolist()) > least


def test_unweighted_and_from_zeros_it_is_logistic_regression_on_labels_and_pseudo_labels():
    shots, asked, _, _ = world((5,) * 4, free=20)
    zero = replace(shots, scale=0.0)
    image, free, text = rows(shots)
    said, _ = wad.told(image, shots.label_S, free, text)
    head = wad.wad(zero, weigh=False, trust=1.0, rounds=1, ridge=0.01, steps=500)
    peer = LogisticRegression(C=1 / (0.01 * 20), tol=1e-10, max_iter=5000)
    peer.fit(torch.cat([image, free]).numpy(), torch.cat([shots.label_S, said]).numpy())
    assert np.allclose(head(asked).double().softmax(1).numpy(), peer.predict_proba(asked.double().numpy()), atol=2e-4)


def test_margins_are_lower_for_classes_that_nobody_named():
    found = []
    for seed in range(4):
        shots, _, _, pool = world((4,) * 6, width=16, free=200, unknown=200, seed=seed)
        image, free, text = rows(shots)
        found.append(roc_auc_score((pool >= 0).numpy(), wad.told(image, shots.label_S, free, text)[1].numpy()))
    assert np.mean(found) > 0.65


def test_margins_help_where_most_of_the_pool_is_unknown():
    found = []
    for seed in range(6):
        shots, asked, label, _ = world((1,) * 6, width=16, spread=0.35, free=60, unknown=240, seed=seed)
        settings = ({}, {"weigh": False}, {"trust": 0.0})
        found.append([right(wad.wad(shots, rounds=1, steps=40, **one)(asked), label) for one in settings])
    weighed, unweighed, labels = torch.tensor(found).mean(0).tolist()
    assert weighed > unweighed + 0.005
    assert weighed > labels + 0.02


@pytest.mark.parametrize("cost", [0.0, 0.5])
def test_separation_equals_the_loop_and_is_stationary(cost):
    shots, _, _, _ = world((3, 2, 4, 2), free=30)
    head = deep_lds.deep_lds(replace(shots, scale=0.0), alpha=1.0, strength=2.0, cost=cost, steps=300)
    image, free, _ = rows(shots)
    weight = head.weight.double().requires_grad_()
    middle = free.mean(0)
    side = 2 * torch.nn.functional.one_hot(shots.label_S, 4).double() - 1
    bias = torch.full((4,), -0.5, dtype=torch.float64)
    ours = deep_lds.separation(image - middle, side, free - middle, bias, 2.0, cost * 2.0 * len(image) / 30, weight)
    twin = LDS["loss"](image.tolist(), shots.label_S.tolist(), free.tolist(), weight.tolist(), strength=2.0, cost=cost)
    assert float(ours.detach()) == pytest.approx(twin, abs=1e-9)
    ours.backward()
    assert weight.grad is not None
    assert float(weight.grad.abs().max()) < 1e-4
    assert torch.allclose(head(shots.pool_UD).mean(0), bias.float(), atol=1e-4)


def test_without_the_pool_it_is_a_support_vector_machine():
    """Two classes have no bias, so scikit-learn's without an intercept is the same."""
    shots, asked, _, _ = world((8, 8), free=20)
    head = deep_lds.deep_lds(replace(shots, scale=0.0), alpha=1.0, strength=3.0, cost=0.0, steps=300)
    middle = shots.pool_UD.double().mean(0)
    peer = LinearSVC(loss="squared_hinge", C=3.0, fit_intercept=False, tol=1e-10, max_iter=200000, dual=True)
    peer.fit((shots.image_SD.double() - middle).numpy(), shots.label_S.numpy())
    assert np.allclose(head(asked)[:, 1].numpy(), peer.decision_function((asked.double() - middle).numpy()), atol=1e-4)


def test_a_boundary_through_the_gap_beats_one_of_the_labelled_pictures_alone():
    found = []
    for seed in range(5):
        shots, asked, label, _ = world((2,) * 6, width=16, text=0.5, free=200, seed=seed)
        found.append([right(deep_lds.deep_lds(shots, cost=cost)(asked), label) for cost in (1.0, 0.0)])
    gap, labels = torch.tensor(found).mean(0).tolist()
    assert gap > labels + 0.01


@pytest.mark.parametrize("method", [wad.wad, deep_lds.deep_lds])
def test_without_any_pool_they_say_so(method):
    with pytest.raises(UsageError, match="no pictures without labels"):
        method(replace(world()[0], free_UD=None))


def test_what_the_pool_counts_doubles_from_stage_to_stage_each_of_which_begins_where_the_last_ended(monkeypatch):
    shots, _, _, _ = world((3, 2, 4, 2), free=30)
    soft, began, ended = [], [], []
    minimum = deep_lds.minimum

    def watched(loss, start, **options):
        soft.append(loss.args[-1])
        began.append(start)
        ended.append(minimum(loss, start, **options)[0])
        return (ended[-1],)

    monkeypatch.setattr(deep_lds, "minimum", watched)
    deep_lds.deep_lds(shots, strength=2.0, cost=0.5, stages=4)
    whole = 0.5 * 2.0 * len(shots.label_S) / 30
    assert soft == pytest.approx([whole / 8, whole / 4, whole / 2, whole])
    assert not began[0].any()
    assert all(torch.equal(one, other) for one, other in zip(began[1:], ended[:-1], strict=True))
    deep_lds.deep_lds(shots, cost=0.0, stages=4)
    assert soft[4:] == [0.0]
