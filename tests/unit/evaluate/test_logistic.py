"""Logistic regression against scikit-learn and its own definition; nearest neighbours against scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.evaluate.metrics import logistic, neighbours


def clouds(rows: int, width: int, classes: int, spread: float, *names: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit rows around a centre for each class, longer in some directions than in others."""
    draw = generator(0, "clouds", *names)
    centre = torch.randn(classes, width, generator=generator(0, "centres"))
    label = torch.randint(classes, (rows,), generator=draw)
    length = torch.logspace(0, -2, width)
    return torch.nn.functional.normalize((centre[label] + spread * torch.randn(rows, width, generator=draw)) * length, dim=1), label


def by_hand(x, y, weight, bias, c) -> float:
    """The objective as a loop over examples and classes."""
    x, weight, bias = x.double(), weight.double(), bias.double()
    total = 0.0
    for row, label in zip(x, y.tolist(), strict=True):
        logits = [math.fsum((row * weight[:, k]).tolist()) + float(bias[k]) for k in range(weight.shape[1])]
        total += math.log(math.fsum(math.exp(one - logits[label]) for one in logits))
    return total / len(x) + float((weight**2).sum()) / (2 * c * len(x))


@pytest.mark.parametrize("c", [0.1, 10.0, 1000.0])
def test_it_is_scikit_learns_optimum(c):
    x, y = clouds(300, 12, 7, 1.5, "train")
    test, right = clouds(500, 12, 7, 1.5, "test")
    mine = logistic.fit(x, y, 7, c, tolerance=1e-13)
    theirs = LogisticRegression(C=c, tol=1e-10, max_iter=20000).fit(x.double().numpy(), y.numpy())
    weight, bias = torch.tensor(theirs.coef_).T, torch.tensor(theirs.intercept_)
    assert mine.objective == pytest.approx(by_hand(x, y, mine.weight_DK, mine.bias_K, c), abs=1e-12)
    assert mine.objective == pytest.approx(by_hand(x, y, weight, bias, c), abs=1e-6)
    hits = float((mine.logits(test).argmax(1) == right).double().mean())
    assert hits == pytest.approx(theirs.score(test.double().numpy(), right.numpy()), abs=0.002)
    assert 0.3 < hits < 0.99
    assert torch.allclose(mine.logits(test).softmax(1), torch.tensor(theirs.predict_proba(test.double().numpy())), atol=2e-3)


def test_the_gradient_is_the_slope():
    x, y = clouds(40, 5, 3, 1.0)
    x, weight, bias = x.double(), torch.randn(5, 3, generator=generator(1)).double(), torch.tensor([0.1, -0.2, 0.3]).double()
    penalty = torch.linspace(0.01, 0.1, 5).double()
    value, by_weight, by_bias = logistic.objective(x, y, weight, bias, penalty)
    step = 1e-6
    for d, k in ((0, 0), (3, 2)):
        moved = weight.clone()
        moved[d, k] += step
        assert (logistic.objective(x, y, moved, bias, penalty)[0] - value) / step == pytest.approx(float(by_weight[d, k]), abs=1e-5)
    moved = bias.clone()
    moved[1] += step
    assert (logistic.objective(x, y, weight, moved, penalty)[0] - value) / step == pytest.approx(float(by_bias[1]), abs=1e-5)


def test_blocks_and_beginnings_change_nothing(monkeypatch):
    x, y = clouds(120, 8, 4, 1.5)
    whole = logistic.fit(x, y, 4, 5.0, tolerance=1e-13)
    warm = logistic.fit(x, y, 4, 5.0, start=logistic.fit(x, y, 4, 50.0), tolerance=1e-13)
    monkeypatch.setattr(logistic, "BLOCK", 28)
    parts = logistic.fit(x, y, 4, 5.0, tolerance=1e-13)
    for other in (warm, parts):
        assert other.objective == pytest.approx(whole.objective, abs=1e-10)
        assert torch.allclose(other.weight_DK, whole.weight_DK, atol=1e-4)
    begun = logistic.fit(x, y, 4, 5.0, start=whole, tolerance=1e-13, evaluations=1)
    assert begun.objective == pytest.approx(whole.objective, abs=1e-10)


def test_single_precision_is_near_and_a_class_without_examples_is_not_answered():
    x, y = clouds(200, 8, 4, 1.0)
    exact, rough = logistic.fit(x, y, 6, 10.0), logistic.fit(x, y, 6, 10.0, dtype=torch.float32, tolerance=1e-5)
    assert rough.objective == pytest.approx(exact.objective, rel=1e-3)
    assert rough.weight_DK.dtype == torch.float32
    assert int(exact.logits(x).argmax(1).max()) < 4


def test_the_penalty_is_the_best_on_the_held_out_part():
    x, y = clouds(60, 20, 5, 2.5, "train")
    held, right = clouds(200, 20, 5, 2.5, "held")
    path = (0.1, 1.0, 10.0, 100.0, 1000.0)
    chosen, told = logistic.choose(x, y, held, right, 5, path)
    alone = [float((logistic.fit(x, y, 5, c).logits(held).argmax(1) == right).double().mean()) for c in path]
    assert [hit for _, hit in told] == pytest.approx(alone[: len(told)], abs=0.011)
    assert chosen.c == max(told, key=lambda pair: pair[1])[0]
    assert len({hit for _, hit in told}) > 1


def test_the_path_ends_when_it_only_gets_worse(monkeypatch):
    calls = []

    def fit(x, y, classes, c, *, start=None):
        calls.append((c, start))
        weight = torch.eye(2).double() * (1 if c == 2 else -1)
        return logistic.Linear(weight, torch.zeros(2).double(), c, 0.0, 1)

    monkeypatch.setattr(logistic, "fit", fit)
    x, y = torch.eye(2), torch.tensor([0, 1])
    chosen, told = logistic.choose(x, y, x, y, 2, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    assert (chosen.c, told) == (2.0, [(1.0, 0.0), (2.0, 1.0), (3.0, 0.0), (4.0, 0.0)])
    assert calls[1][1].c == 1.0
    with pytest.raises(UsageError, match="no penalty to choose from"):
        logistic.choose(x, y, x, y, 2, ())


@pytest.mark.parametrize(
    ("x", "y", "c", "message"),
    [
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), 1.0, "0 examples"),
        (torch.zeros(2, 2), torch.tensor([0]), 1.0, "2 examples with 1 labels"),
        (torch.full((1, 2), math.nan), torch.tensor([0]), 1.0, "no numbers"),
        (torch.zeros(2, 2), torch.tensor([0, 3]), 1.0, "from 0 to 3"),
        (torch.zeros(2, 2), torch.tensor([0, 1]), 0.0, "not above 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(x, y, c, message):
    with pytest.raises(UsageError, match=message):
        logistic.fit(x, y, 3, c)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.5)])
def test_neighbours_vote_as_in_scikit_learn(k, temperature):
    train, y = clouds(150, 6, 5, 2.0, "train")
    test, _ = clouds(40, 6, 5, 2.0, "test")
    cosine, at = neighbours.nearest(test, train, 30, block=7)
    vote = neighbours.votes(cosine, y[at], 5, k, temperature)
    weigh: Any = lambda d: np.exp((1 - d) / temperature)  # noqa: E731
    theirs = KNeighborsClassifier(k, metric="cosine", weights=weigh).fit(train.numpy(), y.numpy())
    assert torch.allclose(vote / vote.sum(1, keepdim=True), torch.tensor(theirs.predict_proba(test.numpy())), atol=1e-5)


def test_the_best_number_of_neighbours_is_taken():
    """Two near neighbours lie, five tell the truth."""
    cosine = torch.tensor([[0.9, 0.9, 0.8, 0.8, 0.8]])
    label = torch.tensor([[1, 1, 0, 0, 0]])
    k, t, told = neighbours.choose(cosine, label, torch.tensor([0]), 2, (1, 2, 5, 50), (0.01, 1.0))
    assert (k, t) == (5, 1.0)
    assert told == {(1, 1.0): 0, (1, 0.01): 0, (2, 1.0): 0, (2, 0.01): 0, (5, 1.0): 1, (5, 0.01): 0}
    with pytest.raises(UsageError, match="above 5"):
        neighbours.choose(cosine, label, torch.tensor([0]), 2, (6,), (1.0,))
    with pytest.raises(UsageError, match="k=0"):
        neighbours.nearest(cosine, cosine, 0)
