"""Scores for unknown things and what is measured on them, against scikit-learn, loops and hand-worked cases; CLIPN's losses and rules."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from diptych.core.rng import generator
from diptych.evaluate.metrics import ood
from diptych.evaluate.protocols import clipn, unknowns


def unit(rows: int, width: int, *names: object) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, width, generator=generator(0, *names), dtype=torch.float64), dim=1)


@pytest.mark.parametrize("digits", [8, 1])
def test_auroc_aupr_and_fpr_agree_with_scikit_learn(digits):
    """Rounded to one digit most scores are tied."""
    score = torch.randn(500, generator=generator(1), dtype=torch.float64)
    unknown = (torch.rand(500, generator=generator(2)) < 0.3).double()
    score = ((score - unknown) * 10**digits).round() / 10**digits
    found = torch.stack([score, unknown], 1)
    assert ood.auroc(found) == pytest.approx(roc_auc_score(1 - unknown.numpy(), score.numpy()), abs=1e-12)
    assert ood.aupr(found) == pytest.approx(average_precision_score(unknown.numpy(), -score.numpy()), abs=1e-12)
    fpr, tpr, _ = roc_curve(1 - unknown.numpy(), score.numpy(), drop_intermediate=False)
    assert ood.fpr(found) == pytest.approx(fpr[tpr >= 0.95].min(), abs=1e-12)


def test_fpr_by_hand():
    """Of 20 known pictures 19 must pass: the threshold is the second lowest, 2; of four unknown ones 2 and 7 pass, at or above it."""
    known, unknown = torch.arange(1.0, 21.0), torch.tensor([0.5, 1.5, 2.0, 7.0])
    found = torch.stack([torch.cat([known, unknown]), torch.cat([torch.zeros(20), torch.ones(4)])], 1)
    assert ood.fpr(found) == 0.5
    assert ood.fpr(found, kept=1.0) == 0.75
    assert ood.fpr(found, kept=0.05) == 0.0


def test_one_kind_alone_has_no_value():
    for kind in (0.0, 1.0):
        found = torch.tensor([[0.3, kind], [0.5, kind]]).double()
        assert all(math.isnan(of(found)) for of in (ood.auroc, ood.fpr, ood.aupr))


def test_scores_are_their_formulas():
    cosine, scale = unit(6, 4, "pictures") @ unit(3, 4, "names").T, 13.0
    found = ood.scores(cosine, scale, temperature=0.5)
    for i, row in enumerate(cosine.tolist()):
        assert float(found["msp"][i]) == pytest.approx(math.exp(scale * max(row)) / sum(math.exp(scale * s) for s in row))
        assert float(found["mcm"][i]) == pytest.approx(math.exp(max(row) / 0.5) / sum(math.exp(s / 0.5) for s in row))
        assert float(found["max_logit"][i]) == max(row)
        assert float(found["energy"][i]) == pytest.approx(math.log(sum(math.exp(scale * s) for s in row)) / scale)
    assert set(found) == set(ood.SCORES)


def test_passing_curve_by_hand():
    known, unknown = torch.arange(100.0), torch.tensor([-1.0, 49.5, 200.0, 98.0])
    points = unknowns.passing(known, unknown)
    assert points[0] == [0.01, 0.25]
    assert points[-1] == [1.0, 0.75]
    assert len(points) == unknowns.BARS + 1
    assert points == sorted(points)


def test_clipn_losses_are_a_loop():
    image, names, no, scale = unit(5, 6, "pictures"), unit(4, 6, "names"), unit(4, 6, "no"), 9.0
    label = torch.tensor([0, 3, 1, 1, 2])
    own, other = [], []
    for i in range(5):
        for k in range(4):
            yes, not_ = (math.exp(scale * float(image[i] @ row[k])) for row in (names, no))
            p_no = not_ / (yes + not_)
            if k == int(label[i]):
                own.append(-math.log(1 - p_no))
            else:
                other.append(-math.log(p_no))
    found = clipn.binary_opposite(image, label, names, no, scale)
    assert [float(one) for one in found] == pytest.approx([sum(own) / 5, sum(other) / 15], abs=1e-12)
    apart = [2 - math.sqrt(float(((g - n) ** 2).sum()) + 1e-4) for g, n in zip(names, no, strict=True)]
    assert float(clipn.semantic_opposite(names, no)) == pytest.approx(sum(apart) / 4, abs=1e-12)


def test_clipn_rules_are_a_loop():
    image, names, no, scale = unit(40, 6, "pictures"), unit(4, 6, "names"), unit(4, 6, "no"), 9.0
    found = clipn.rules(image, names, no, scale)
    refused = {"clipn_atd": 0, "clipn_ctw": 0}
    for i in range(40):
        logit = [scale * float(image[i] @ row) for row in names]
        against = [scale * float(image[i] @ row) for row in no]
        p = [math.exp(one) / sum(map(math.exp, logit)) for one in logit]
        no_p = [math.exp(b) / (math.exp(a) + math.exp(b)) for a, b in zip(logit, against, strict=True)]
        best = p.index(max(p))
        sum_yes = sum((1 - q) * one for q, one in zip(no_p, p, strict=True))
        assert float(found["clipn_atd"][0][i]) == pytest.approx(sum_yes - 1, abs=1e-12)
        assert float(found["clipn_ctw"][0][i].sigmoid()) == pytest.approx(1 - no_p[best], abs=1e-12)
        assert bool(found["clipn_atd"][1][i]) == (1 - sum_yes > max(p))
        assert bool(found["clipn_ctw"][1][i]) == (no_p[best] > 1 - no_p[best])
        for rule in refused:
            refused[rule] += int(found[rule][1][i])
    assert all(0 < count < 40 for count in refused.values())


def test_clipn_begins_as_the_name_itself_and_draws_a_prompt_a_name():
    names = unit(5, 8, "names").float()
    head = clipn.NoHead(8, generator(0))
    assert torch.allclose(head(names), names, atol=1e-6)
    with torch.no_grad():
        head.up_HD.normal_(generator=generator(1))
        head.prompt_PD.normal_(generator=generator(2))
    mean = torch.full((5,), clipn.PROMPTS)
    assert torch.allclose(head(names, mean), head(names), atol=1e-6)
    assert not torch.allclose(head(names, torch.zeros(5, dtype=torch.int64)), head(names), atol=1e-2)
    assert torch.allclose(head(names).norm(dim=1), torch.ones(5), atol=1e-6)


def test_clipn_learns_to_refuse_what_shows_none_of_the_names():
    """Pictures share a direction, as in trained models, and lie around their name; unknown ones around names that are not asked about."""
    centre, shared, draw = unit(24, 16, "centres").float(), unit(1, 16, "cone").float(), generator(4)

    def around(label: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(centre[label] + shared + 0.15 * torch.randn(len(label), 16, generator=draw), dim=1)

    names, label, right = centre[:12], torch.arange(12).repeat(200), torch.arange(12).repeat(20)
    test, strange, pictures = around(right), around(right + 12), around(label)
    head = clipn.train(pictures, label, names, 20.0, generator(5))
    assert torch.equal(head(names), clipn.train(pictures, label, names, 20.0, generator(5))(names))
    assert not any(parameter.requires_grad for parameter in head.parameters())
    assert sum(clipn.binary_opposite(test, right, names, head(names), 20.0)) < 0.2 < 2 * math.log(2)
    assert float(clipn.semantic_opposite(names, head(names))) < 1
    image, unknown = torch.cat([test, strange]), torch.cat([torch.zeros(240), torch.ones(240)]).double()
    found, msp = clipn.rules(image, names, head(names), 20.0), ood.scores(image @ names.T, 20.0)["msp"]
    for score, refused in found.values():
        assert clipn.lead(torch.stack([score, msp, unknown], 1)) > 0.1
        assert ood.auroc(torch.stack([score, unknown], 1)) > 0.9
        assert float(refused[240:].double().mean()) > 0.3
        assert float(refused[:240].double().mean()) < 0.05
    three = torch.stack([found["clipn_atd"][0], msp, unknown], 1)
    assert clipn.lead(three) == pytest.approx(ood.auroc(three[:, [0, 2]]) - ood.auroc(three[:, [1, 2]]))
