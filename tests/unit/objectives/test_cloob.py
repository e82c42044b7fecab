"""CLOOB by hand: what is retrieved, and that the positive is not in the denominator."""

from __future__ import annotations

import math

import pytest
import torch
from few_steps import few_steps

from diptych.core.types import Pairs
from diptych.objectives.pairs.cloob import _leave_one_out, cloob, retrieve


def pairs_of(image, text, concept=None):
    image, text = torch.tensor(image, dtype=torch.float64), torch.tensor(text, dtype=torch.float64)
    concept = torch.arange(len(image)) if concept is None else torch.tensor(concept)
    return Pairs(image, text, image, text, 0, torch.tensor(1.0), None, concept, concept)


def test_retrieval_of_two_orthogonal_patterns():
    """β = ln 3 gives weights 3/4 and 1/4, so the retrieved row points along (3, 1)."""
    stored = torch.eye(2, dtype=torch.float64)
    found = retrieve(stored[:1], stored, math.log(3.0))
    torch.testing.assert_close(found, torch.tensor([[3.0, 1.0]], dtype=torch.float64) / math.sqrt(10.0))


def test_perfect_pairs_at_sharp_retrieval():
    """Retrieval gives the rows back; each direction is τ · (0 / τ) − 1 for two orthogonal pairs."""
    loss = cloob(pairs_of([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]), beta=500.0, inverse_temperature=20.0)
    assert loss.total.item() == pytest.approx(-2.0, abs=1e-12)
    assert loss.report["image_accuracy"].item() == 1.0


def test_the_gradient_does_not_fade_when_the_positive_has_won():
    """An almost aligned pair and a negative opposite: InfoNCE hardly pulls any more, InfoLOOB with its full strength."""
    other = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    angle = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    anchor = torch.stack([torch.cos(angle), torch.sin(angle)])[None]
    _leave_one_out(anchor, other, torch.tensor([[True, False]]), 30.0)[0].backward()
    assert angle.grad is not None
    assert angle.grad.item() == pytest.approx(2 * math.sin(0.1))  # d/da of -cos(a) - cos(a), τ cancels
    again = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    anchor = torch.stack([torch.cos(again), torch.sin(again)])[None]
    torch.nn.functional.cross_entropy(30.0 * anchor @ other.T, torch.tensor([0])).backward()
    assert again.grad is not None
    assert again.grad.item() < 1e-20


def test_equal_concepts_do_not_push_each_other_apart():
    """Three rows of two concepts: the second row of the first concept may lie anywhere among the columns of the first row's negatives."""
    rows = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]
    loss = cloob(pairs_of(rows, rows, [0, 0, 1]), beta=1000.0, inverse_temperature=10.0).total.item()
    tau, direction = 0.1, []
    for i, positive, negative in ((0, (0, 1), (2,)), (1, (0, 1), (2,)), (2, (2,), (0, 1))):
        dots = [sum(a * b for a, b in zip(rows[i], rows[j], strict=True)) for j in range(3)]
        direction.append(tau * math.log(sum(math.exp(dots[j] / tau) for j in negative)) - sum(dots[j] for j in positive) / len(positive))
    assert loss == pytest.approx(2 * sum(direction) / 3, abs=1e-9)


def test_it_trains():
    taught = few_steps("cloob", steps=6)
    assert taught.losses[-1] < taught.losses[0]
    assert taught.stepper.model.log_scale.item() == pytest.approx(math.log(30.0), abs=1e-5)  # the scale takes no part
