"""Alignment, uniformity, gap, effective rank and the jackknife against loops, closed forms and known spectra."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.evaluate.metrics import bootstrap, geometry, rank
from diptych.evaluate.metrics.jackknife import grouped, student
from diptych.evaluate.protocols import geometry as protocol
from diptych.evaluate.protocols import rankme
from diptych.evaluate.report import figures
from diptych.evaluate.run import evaluate


def unit(rows: int, width: int, *names: object) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, width, generator=generator(0, *names)), dim=1)


def test_alignment_and_uniformity_equal_their_loops():
    x, y = unit(23, 7, "x"), unit(23, 7, "y")
    for i in range(len(x)):
        by_hand = math.fsum((float(a) - float(b)) ** 2 for a, b in zip(x[i], y[i], strict=True))
        assert geometry.alignment(x, y)[i].item() == pytest.approx(by_hand, abs=1e-12)
    pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if i != j]
    mean = math.fsum(math.exp(-2 * math.fsum((float(a) - float(b)) ** 2 for a, b in zip(x[i], x[j], strict=True))) for i, j in pairs)
    assert geometry.uniformity(x) == pytest.approx(math.log(mean / len(pairs)), abs=1e-12)
    assert geometry.kernel_sums(x, block=5).tolist() == pytest.approx(geometry.kernel_sums(x).tolist(), abs=1e-14)


def test_alignment_and_uniformity_where_they_are_known():
    point = torch.tensor([[1.0, 0.0]]).repeat(5, 1)
    assert geometry.uniformity(point) == pytest.approx(0, abs=1e-12)
    assert geometry.uniformity(torch.eye(6)) == pytest.approx(-4)
    assert geometry.alignment(point, -point).tolist() == [4.0] * 5
    with pytest.raises(UsageError, match="Give at least two"):
        geometry.uniformity(point[:1])
    with pytest.raises(UsageError, match="one row of each kind"):
        geometry.alignment(point, point[:2])


def test_the_gap_and_its_share_by_hand():
    x, y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[-1.0, 0.0], [0.0, -1.0]])
    assert geometry.gap(x, y).tolist() == [1.0, 1.0]
    assert geometry.gap_length(x, y) == pytest.approx(math.sqrt(2))
    assert geometry.gap_share(x, y) == pytest.approx(2 / 4)
    assert geometry.gap_share(x + 3, x) == pytest.approx(1)
    assert geometry.gap_share(x, x.flip(0)) == pytest.approx(0, abs=1e-12)
    assert math.isnan(geometry.gap_share(x, x))


def test_moving_closes_the_gap():
    x, y = unit(40, 5, "x") + torch.tensor([2.0, 0, 0, 0, 0]), unit(40, 5, "y")
    x = torch.nn.functional.normalize(x, dim=1)
    still = geometry.moved(x, y, 0.0)
    assert torch.allclose(still[0], x, atol=1e-6)
    assert torch.allclose(still[1], y, atol=1e-6)
    length = [geometry.gap_length(*geometry.moved(x, y, step)) for step in (0.0, 0.5, 1.0)]
    assert length[0] > 1.3 * length[1] > 2 * length[2]
    gap = x.double().mean(0) - y.double().mean(0)
    by_hand = [(row.double() - 0.25 * gap) / (row.double() - 0.25 * gap).norm() for row in x]
    assert torch.allclose(geometry.moved(x, y, 0.5)[0].double(), torch.stack(by_hand), atol=1e-6)


@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_effective_rank_of_known_spectra(shape):
    u, _, v = torch.linalg.svd(torch.randn(*shape, generator=generator(1), dtype=torch.float64), full_matrices=False)
    for sigma in (torch.ones(6), torch.tensor([5.0, 0, 0, 0, 0, 0]), torch.tensor([1.0, 1, 1, 0, 0, 0])):
        rows = u @ sigma.double().diag() @ v
        assert rank.effective_rank(rows, epsilon=0) == pytest.approx(float((sigma > 0).sum()), rel=1e-5)
    sigma = torch.tensor([8.0, 4, 2, 1, 0.5, 0.25], dtype=torch.float64)
    p = (sigma / sigma.sum()).tolist()
    rows = u @ sigma.diag() @ v
    assert rank.effective_rank(rows, epsilon=0) == pytest.approx(math.exp(-math.fsum(q * math.log(q) for q in p)), rel=1e-9)
    smooth = [q + 1e-3 for q in p]
    assert rank.effective_rank(rows, epsilon=1e-3) == pytest.approx(math.exp(-math.fsum(q * math.log(q) for q in smooth)), rel=1e-9)
    assert rank.singular_values(rows).tolist() == pytest.approx(sigma.tolist(), rel=1e-9)
    assert rank.effective_rank(7 * rows) == pytest.approx(rank.effective_rank(rows), rel=1e-9)


def test_effective_rank_centred_and_refused():
    rows = torch.eye(3)[:2].repeat(10, 1)
    assert rank.effective_rank(rows, epsilon=0) == pytest.approx(2, rel=1e-6)
    assert rank.effective_rank(rows, epsilon=0, centred=True) == pytest.approx(1, rel=1e-6)
    assert math.isnan(rank.effective_rank(torch.ones(4, 2), centred=True))
    with pytest.raises(UsageError, match="not finite"):
        rank.effective_rank(torch.full((2, 2), math.nan))


def test_student_equals_scipy():
    for freedom, close in ((1, 1e-9), (2, 1e-9), (4, 1e-2), (9, 1e-3), (19, 1e-4), (100, 1e-6)):
        assert student(freedom, 0.975) == pytest.approx(stats.t.ppf(0.975, freedom), rel=close)


def test_jackknife_of_a_mean_is_the_classical_interval():
    value = torch.randn(30, generator=generator(2), dtype=torch.float64)
    found = grouped(lambda index: float(value[index].mean()), 30, generator(0), groups=30)
    reach = stats.t.ppf(0.975, 29) * value.std().item() / math.sqrt(30)
    assert found.value == pytest.approx(value.mean().item())
    assert found.interval == pytest.approx((found.value - reach, found.value + reach), rel=1e-4)
    assert found.n == 30


def test_jackknife_leaves_units_out_whole():
    value = torch.randn(12, generator=generator(3), dtype=torch.float64)
    seen = []
    found = grouped(lambda index: seen.append(index.tolist()) or float(value[index].mean()), 12, generator(0), unit_N=torch.arange(12) // 4)
    assert found.n == 3
    assert sorted(map(len, seen)) == [8, 8, 8, 12]
    assert all({i // 4 for i in left} & {i // 4 for i in range(12) if i not in left} == set() for left in seen)
    with pytest.raises(UsageError, match="at least two units"):
        grouped(lambda index: 0.0, 4, generator(0), unit_N=torch.zeros(4))
    with pytest.raises(UsageError, match="no value"):
        grouped(lambda index: math.nan, 4, generator(0))


def test_jackknife_draws_have_its_spread_and_pair_two_models():
    """The difference of two models' draws has the interval of the jackknife of the difference, far narrower than unpaired ones'."""
    shared = torch.randn(60, generator=generator(4), dtype=torch.float64)
    one = shared + 0.1 * torch.randn(60, generator=generator(5), dtype=torch.float64)
    unit_N = torch.arange(60) // 2
    left, right, both = (
        grouped(lambda i, x=x: float(x[i].mean()), 60, generator(0), unit_N=unit_N, draws=20_000) for x in (one, shared, one - shared)
    )
    for each in (left, both):
        assert torch.quantile(each.draws_S, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist() == pytest.approx(
            each.interval, abs=0.02 * (each.interval[1] - each.interval[0])
        )
    gain = bootstrap.apart(left, right)
    assert gain.value == pytest.approx(both.value)
    assert gain.n == 30
    assert gain.interval == pytest.approx(both.interval, abs=0.02 * (both.interval[1] - both.interval[0]))
    assert gain.interval[1] - gain.interval[0] < (left.interval[1] - left.interval[0]) / 4
    other = grouped(lambda i: float(shared[i].mean()), 60, generator(1), unit_N=unit_N, draws=20_000)
    unpaired = bootstrap.apart(left, other).interval
    assert unpaired[1] - unpaired[0] > left.interval[1] - left.interval[0]
    for wrong in (replace(right, draws_S=None), replace(right, n=29), replace(right, draws_S=right.draws_S[:9])):
        with pytest.raises(UsageError, match="not paired"):
            bootstrap.apart(left, wrong)
    with pytest.raises(UsageError, match="no value"):
        bootstrap.apart(left, replace(right, draws_S=right.draws_S * torch.nan))


def test_a_bootstrap_would_bias_the_rank_and_the_jackknife_covers_it():
    """Of 60 draws of 80 rows: the mean over draws lies in most intervals; the mean rank of bootstrap resamples is far below."""
    scale = torch.linspace(3, 0.5, 12)
    draws = [torch.randn(80, 12, generator=generator(seed, "rows")) * scale for seed in range(60)]
    values = [rank.effective_rank(rows) for rows in draws]
    found = [grouped(lambda i, rows=rows: rank.effective_rank(rows[i]), 80, generator(0)) for rows in draws]
    inside = np.mean([one.interval[0] <= np.mean(values) <= one.interval[1] for one in found])
    assert 0.85 <= inside <= 1
    again = [rank.effective_rank(rows[torch.randint(80, (80,), generator=generator(7))]) for rows in draws]
    assert np.mean(again) < np.mean(values) - np.std(values) / 4


def test_separation_has_no_gap_where_there_is_none():
    """Fitted and measured on the same rows the plane would tell 64 % of such rows apart."""
    x, y = unit(1400, 384, "x"), unit(1400, 384, "y")
    unit_N = torch.arange(1400)
    _, side = protocol.separated(x, y, unit_N, generator(0))
    assert side.mean().item() == pytest.approx(0.5, abs=0.03)
    shifted = torch.nn.functional.normalize(x + 0.5 * torch.eye(384)[0], dim=1)
    place, side = protocol.separated(shifted, y, unit_N, generator(0))
    assert side.mean().item() > 0.98
    assert place[:, 0].mean() > 0 > place[:, 1].mean()


def test_a_perfect_model_in_the_protocols(colour_model, colour_set):
    found = {r.metric: r for r in evaluate(colour_model(), colour_set, protocols=["geometry", "rankme"], cache=False)}
    assert found["alignment"].value < 0.01
    assert found["gap"].value < 0.05
    assert 1 < found["image_rank"].value <= 3
    assert found["image_rank"].interval[1] <= 3
    assert found["closed_gap_change"].value == 0
    swapped = {
        r.metric: r for r in evaluate(colour_model({"red": "green", "green": "red"}), colour_set, protocols=["geometry"], cache=False)
    }
    assert swapped["alignment"].value > found["alignment"].value + 0.5
    assert swapped["image_uniformity"].value == found["image_uniformity"].value


def test_pairs_are_a_picture_and_its_first_caption(colour_model, colour_set):
    from diptych.evaluate.features import Features
    from diptych.evaluate.material import table
    from diptych.evaluate.outcome import Question
    from diptych.evaluate.view import View

    model, words = colour_model(), table(colour_set.source)
    features = Features(model, None)
    rows = features.images(colour_set.source, "")
    question = Question(rows, words, features.texts, (), (), View(features, colour_set, torch.arange(len(words)), 0))
    index, image, text, part = protocol.paired(question)
    assert index.tolist() == list(range(21))
    assert torch.equal(text, model.encode_text([captions[0] for captions in words.captions]))
    index, image, text, part = protocol.paired(question, limit=5)
    assert len(index) == len(text) == len(part) == 5
    assert torch.equal(image, rows[index])
    shown = protocol.section(protocol.run(question), None)["figures"]
    assert [sum(y for _, y in series["points"]) for series in shown[0]["series"]] == pytest.approx([1, 1], abs=1e-3)
    assert dict(map(tuple, shown[1]["series"][0]["points"]))[0.0] == 1
    (spectrum,) = rankme.section(rankme.run(question), None)["figures"]
    for figure in (*shown, spectrum):
        figures.parse(figure)
    held = spectrum["series"]
    assert [series["name"] for series in held] == ["pictures", "captions"]
    assert held[0]["points"][-1] == [3, 1.0]
    assert rankme.applies(question)
    assert not rankme.applies(Question(rows, words, features.texts, (), ()))
