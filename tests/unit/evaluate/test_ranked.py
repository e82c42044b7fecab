"""Mean average precision beside scikit-learn's, ties and chance included."""

from __future__ import annotations

import itertools

import pytest
import torch
from sklearn.metrics import average_precision_score

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.evaluate.metrics.ranked import average_precision, chance


@pytest.mark.parametrize("levels", [None, 3])
def test_equals_scikit_learn_with_and_without_ties(levels):
    draw = generator(0, "ranked")
    query, gallery = torch.randn(20, 4, generator=draw), torch.randn(50, 4, generator=draw)
    if levels:  # a few distinct integer scores: many ties
        query, gallery = query.round().clamp(-1, 1), gallery.round().clamp(-1, 1)
    group_q, group_g = torch.arange(20) % 7, torch.arange(50) % 7
    ours = average_precision(query, gallery, group_q, group_g, block=6)
    score = query @ gallery.T
    theirs = [average_precision_score((group_g == g).numpy(), row.numpy()) for g, row in zip(group_q, score, strict=True)]
    assert ours.tolist() == pytest.approx(theirs, abs=1e-7)


def test_one_right_answer_is_its_reciprocal_rank():
    gallery = torch.tensor([[3.0], [2.0], [1.0]])
    assert average_precision(torch.ones(1, 1), gallery, torch.tensor([5]), torch.tensor([4, 5, 6])).tolist() == pytest.approx([0.5])


def test_chance_is_the_mean_over_all_orders():
    size, right = 6, 2
    places = list(itertools.combinations(range(1, size + 1), right))
    mean = sum(sum((i + 1) / place for i, place in enumerate(chosen)) / right for chosen in places) / len(places)
    assert chance(size, torch.tensor([right])) == pytest.approx(mean, abs=1e-12)


def test_a_query_without_an_answer_is_refused():
    with pytest.raises(UsageError, match="no right answer"):
        average_precision(torch.ones(1, 1), torch.ones(2, 1), torch.tensor([9]), torch.tensor([1, 2]))
