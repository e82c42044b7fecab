"""Metrics against hand-worked cases, scikit-learn and naive float64 loops."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, top_k_accuracy_score

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.evaluate.metrics import bootstrap, classification, retrieval


def unit(rows: int, width: int, *names: object) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, width, generator=generator(0, *names)), dim=1)


def naive_ranks(query, gallery, query_group, gallery_group) -> list[int]:
    """The definition as a float64 loop."""
    query, gallery = query.double(), gallery.double()
    found = []
    for i in range(len(query)):
        score = [math.fsum((query[i] * gallery[j]).tolist()) for j in range(len(gallery))]
        best = max(s for s, g in zip(score, gallery_group.tolist(), strict=True) if g == int(query_group[i]))
        found.append(sum(s >= best - 1e-12 for s, g in zip(score, gallery_group.tolist(), strict=True) if g != int(query_group[i])))
    return found


def test_label_ranks_by_hand():
    scores = torch.tensor([[0.1, 0.9, 0.5], [0.2, 0.2, 0.2], [3.0, 2.0, 1.0]])
    rank = classification.label_ranks(scores, torch.tensor([2, 0, 0]))
    assert rank.tolist() == [1, 2, 0]
    assert classification.top_k(rank, 1).tolist() == [0, 0, 1]
    assert classification.top_k(rank, 2).tolist() == [1, 0, 1]


def test_classification_agrees_with_scikit_learn():
    image, words = unit(200, 16, "image"), unit(12, 16, "words")
    label = torch.randint(12, (200,), generator=generator(1))
    scores = image @ words.T
    rank = classification.feature_ranks(image, words, label)
    assert rank.tolist() == classification.label_ranks(scores.double(), label).tolist()
    for k in (1, 5):
        theirs = top_k_accuracy_score(label.numpy(), scores.numpy(), k=k, labels=np.arange(12))
        assert classification.top_k(rank, k).mean().item() == pytest.approx(theirs, abs=1e-12)
    predicted = classification.predictions(image, words, block=7)
    mean, present = classification.per_class(classification.top_k(rank, 1), label, 12)
    assert mean.mean().item() == pytest.approx(balanced_accuracy_score(label.numpy(), predicted.numpy()), abs=1e-12)
    assert present.tolist() == sorted(set(label.tolist()))
    assert (
        classification.confusion(predicted, label, 12).numpy() == confusion_matrix(label.numpy(), predicted.numpy(), labels=np.arange(12))
    ).all()


def test_most_confused_by_hand():
    label = torch.tensor([0, 0, 0, 1, 1, 2])
    predicted = torch.tensor([1, 1, 0, 2, 1, 0])
    assert classification.most_confused(predicted, label) == [(0, 1, 2), (1, 2, 1), (2, 0, 1)]
    assert classification.most_confused(label, label) == []


def test_class_without_examples_is_left_out():
    mean, present = classification.per_class(torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0, 0, 3]), 5)
    assert mean.tolist() == [0.5, 1.0]
    assert present.tolist() == [0, 3]


def test_labels_outside_the_classes_are_refused():
    with pytest.raises(UsageError, match="from 0 to 3, but there are 3"):
        classification.label_ranks(torch.zeros(2, 3), torch.tensor([0, 3]))
    with pytest.raises(UsageError, match="NaN"):
        classification.label_ranks(torch.full((1, 3), math.nan), torch.tensor([0]))


def test_retrieval_by_hand_with_several_captions():
    """Two images at right angles; image 0 has captions at 0° and 80°, image 1 one at 60° (so 30° from it)."""
    angle = lambda degrees: [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]  # noqa: E731
    image, text = torch.tensor([angle(0), angle(90)]), torch.tensor([angle(0), angle(80), angle(60)])
    owner = torch.tensor([0, 0, 1])
    assert retrieval.ranks(text, image, owner, torch.arange(2)).tolist() == [0, 1, 0]
    assert retrieval.ranks(image, text, torch.arange(2), owner).tolist() == [0, 1]


@pytest.mark.parametrize("block", [(1, 1), (7, 13), (512, 4096)])
def test_ranks_equal_the_loop_at_every_block_size(block):
    image, text = unit(40, 8, "i"), unit(120, 8, "t")
    text[5], text[77] = text[3], image[7]
    image[9] = image[8]
    owner = torch.randint(40, (120,), generator=generator(2))
    owner[:40] = torch.arange(40)
    for args in ((text, image, owner, torch.arange(40)), (image, text, torch.arange(40), owner)):
        assert retrieval.ranks(*args, block=block).tolist() == naive_ranks(*args)


def test_groups_make_many_to_many_positives():
    image, text = unit(30, 6, "gi"), unit(45, 6, "gt")
    image_group = torch.arange(30) % 10
    text_group = torch.arange(45) % 10
    assert retrieval.ranks(text, image, text_group, image_group, block=(8, 8)).tolist() == naive_ranks(text, image, text_group, image_group)


@pytest.mark.parametrize("block", [(3, 5), (512, 4096)])
def test_a_collapsed_model_scores_nothing(block):
    same = unit(1, 512, "collapsed").expand(50, 512).contiguous()
    rank = retrieval.ranks(same, same.clone(), torch.arange(50), torch.arange(50), block=block)
    assert rank.tolist() == [49] * 50


def test_near_ties_are_decided_in_float64():
    """Rows that differ by less than float32 products can tell: the order must be the float64 one, whatever the block."""
    base = unit(1, 64, "near").double()
    steps = torch.linspace(0, 1e-6, 40, dtype=torch.float64)[:, None]
    gallery = (base + steps * unit(40, 64, "noise").double()).float()
    query = base.float().expand(40, 64).contiguous()
    expected = naive_ranks(query, gallery, torch.arange(40), torch.arange(40))
    for block in ((1, 1), (16, 9), (512, 4096)):
        assert retrieval.ranks(query, gallery, torch.arange(40), torch.arange(40), block=block).tolist() == expected


def test_a_caption_without_image_is_refused():
    with pytest.raises(UsageError, match="query 1"):
        retrieval.ranks(unit(2, 4, "a"), unit(2, 4, "b"), torch.tensor([0, 9]), torch.arange(2))
    broken = unit(2, 4, "a")
    broken[1, 2] = math.nan
    with pytest.raises(UsageError, match="query row 1"):
        retrieval.ranks(broken, unit(2, 4, "b"), torch.arange(2), torch.arange(2))


@pytest.mark.parametrize(("gallery", "positives", "k"), [(7, 2, 3), (6, 1, 1), (5, 5, 2), (8, 3, 5), (4, 2, 10)])
def test_recall_chance_counts_every_order(gallery, positives, k):
    draws = list(combinations(range(gallery), min(k, gallery)))
    hits = sum(any(i < positives for i in draw) for draw in draws)
    assert retrieval.recall_chance(k, gallery, torch.tensor([positives])) == pytest.approx(hits / len(draws), abs=1e-12)


def test_recall_chance_averages_over_queries():
    single = [retrieval.recall_chance(2, 9, torch.tensor([m])) for m in (1, 3, 3)]
    assert retrieval.recall_chance(2, 9, torch.tensor([1, 3, 3])) == pytest.approx(sum(single) / 3)
    assert classification.top_k_chance(5, 1450) == pytest.approx(5 / 1450)
    assert classification.top_k_chance(5, 3) == 1


def test_random_features_are_at_chance():
    image, text = unit(60, 16, "ci"), unit(300, 16, "ct")
    owner = torch.arange(300) % 60
    hits = [retrieval.recall(retrieval.ranks(unit(60, 16, "ci", s), text, torch.arange(60), owner), 10).mean().item() for s in range(40)]
    assert len(image) == 60
    assert np.mean(hits) == pytest.approx(retrieval.recall_chance(10, 300, torch.full((60,), 5)), abs=0.025)


def test_bootstrap_of_one_unit_and_of_equal_values_is_a_point():
    estimate = bootstrap.mean(torch.full((30,), 0.25), generator(0))
    assert (estimate.value, estimate.interval, estimate.n) == (0.25, (0.25, 0.25), 30)
    estimate = bootstrap.mean(torch.tensor([0.0, 1.0, 1.0]), generator(0), unit_N=torch.tensor([4, 4, 4]))
    assert estimate.value == pytest.approx(2 / 3)
    assert estimate.interval == pytest.approx((2 / 3, 2 / 3))
    assert estimate.n == 1


def test_no_hit_and_no_miss_are_not_certainty():
    """Exact binomial: with 0 of n hits the upper bound p solves (1 − p)^n = 2.5 %."""
    none = bootstrap.mean(torch.zeros(60), generator(0), unit_N=torch.arange(60) // 3, share=True)
    assert none.interval[0] == 0
    assert (1 - none.interval[1]) ** 20 == pytest.approx(0.025)
    every = bootstrap.kept(torch.ones(8), torch.tensor([1.0] * 5 + [0.0] * 3), generator(0))
    assert every.value == every.interval[1] == 1
    assert every.interval[0] ** 5 == pytest.approx(0.025)
    assert bootstrap.mean(torch.tensor([0.0, 1.0]), generator(0), share=True).interval == (0, 1)


def test_bootstrap_matches_the_binomial_law():
    """The bootstrap mean of n hits and misses is Binomial(n, p) / n, whose quantiles are known exactly."""
    hit = torch.tensor([1.0] * 30 + [0.0] * 70)
    low, high = bootstrap.mean(hit, generator(3), draws=20000).interval
    law = [math.comb(100, k) * 0.3**k * 0.7 ** (100 - k) for k in range(101)]
    cumulative = np.cumsum(law)
    assert low == pytest.approx(np.searchsorted(cumulative, 0.025) / 100, abs=0.0101)
    assert high == pytest.approx(np.searchsorted(cumulative, 0.975) / 100, abs=0.0101)


def test_bootstrap_equals_the_loop_over_clusters():
    value = torch.rand(50, generator=generator(5), dtype=torch.float64)
    weight = torch.rand(50, generator=generator(6), dtype=torch.float64)
    cluster = torch.randint(9, (50,), generator=generator(7)) * 3
    names = cluster.unique()
    index = torch.randint(len(names), (200, len(names)), generator=generator(8))
    statistic = []
    for draw in index.tolist():
        rows = [torch.where(cluster == names[u])[0] for u in draw]
        statistic.append(sum(value[r].sum().item() for r in rows) / sum(weight[r].sum().item() for r in rows))
    estimate = bootstrap.mean(value, generator(8), unit_N=cluster, weight_N=weight, draws=200)
    assert estimate.interval == pytest.approx(np.percentile(statistic, [2.5, 97.5]), abs=1e-12)
    assert estimate.value == pytest.approx(float(value.sum() / weight.sum()))


def test_clusters_widen_the_interval():
    """Ten equal copies of each unit tell no more than one."""
    once = (torch.rand(40, generator=generator(9)) < 0.5).double()
    copies, owner = once.repeat_interleave(10), torch.arange(40).repeat_interleave(10)
    right = bootstrap.mean(copies, generator(10), unit_N=owner).interval
    alone = bootstrap.mean(once, generator(10)).interval
    naive = bootstrap.mean(copies, generator(10)).interval
    assert right == pytest.approx(alone)
    assert naive[1] - naive[0] < 0.5 * (right[1] - right[0])


def test_paired_difference_cancels_what_is_shared():
    base = (torch.rand(400, generator=generator(11)) < 0.5).double()
    better = base.clone()
    better[torch.where(base == 0)[0][:20]] = 1
    estimate = bootstrap.difference(better, base, generator(12))
    assert estimate.value == pytest.approx(0.05)
    assert 0.02 < estimate.interval[0] < 0.05 < estimate.interval[1] < 0.08
    assert bootstrap.difference(base, base, generator(12)).interval == (0, 0)


def test_kept_by_hand():
    now, before = torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.tensor([1.0, 1.0, 0.0, 1.0])
    assert bootstrap.kept(now, before, generator(0)).value == pytest.approx(2 / 3)


def test_bootstrap_refuses_nothing():
    with pytest.raises(UsageError, match="nothing to average"):
        bootstrap.mean(torch.zeros(0), generator(0))
    with pytest.raises(UsageError, match="level=2"):
        bootstrap.mean(torch.zeros(3), generator(0), level=2)
    with pytest.raises(UsageError, match="3 against 4"):
        bootstrap.difference(torch.zeros(3), torch.zeros(4), generator(0))


def test_bootstrap_chunks_do_not_matter():
    sums = torch.stack([torch.rand(30, generator=generator(1), dtype=torch.float64), torch.ones(30, dtype=torch.float64)], 1)
    whole = bootstrap._resample(sums, generator(2), 50)
    assert torch.equal(whole, bootstrap._resample(sums, generator(2), 50, at_once=60))
