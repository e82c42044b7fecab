"""FixMatch and its flexible form on rows: losses against loops, views, and what pictures without labels give."""

from __future__ import annotations

import math
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rows_world import right, world
from torch.nn import functional as F

from diptych.adapt.parts.semi import Course, consistency, trained, view
from diptych.adapt.semi.fixmatch import fixmatch
from diptych.adapt.semi.semi_fszs import divergence, levels, semi_fszs
from diptych.core.errors import UsageError
from diptych.core.rng import generator

FOLDER = Path(__file__).resolve().parents[2] / "reference"
FIX, FLEX = (runpy.run_path(str(FOLDER / f"{name}.py")) for name in ("fixmatch", "semi_fszs"))


def logits(seed, count=40, classes=5):
    return 2 * torch.randn(count, classes, generator=generator(seed, "logits"), dtype=torch.float64)


def test_the_consistency_equals_the_loop_for_one_threshold_and_for_one_a_class():
    weak, strong = logits(0), logits(1)
    each = torch.tensor([0.2, 0.4, 0.6, 0.8, 0.95], dtype=torch.float64)
    for threshold, plain in ((0.6, [0.6] * 5), (each, each.tolist())):
        twin = FIX["consistency"](weak.tolist(), strong.tolist(), plain)
        assert float(consistency(weak, strong, threshold)) == pytest.approx(twin, abs=1e-12)
    assert float(consistency(weak, strong, 1.0)) == 0


def test_no_gradient_goes_through_the_label():
    weak, strong = logits(0).requires_grad_(), logits(1).requires_grad_()
    consistency(weak, strong, 0.5).backward()
    assert weak.grad is None
    assert float(strong.grad.abs().max()) > 0


def test_levels_and_divergence_equal_the_loops():
    for known in ([-1] * 20, [-1] * 9 + [0] * 6 + [1] * 3 + [2] * 2, [-1] + [0] * 9 + [1] * 3 + [2] * 7):
        twin = FLEX["levels"](known, 3, 0.9)
        assert levels(torch.tensor(known), 3, 0.9).tolist() == pytest.approx(twin, abs=1e-6)
    weak, prior = logits(2), torch.full((5,), 0.2, dtype=torch.float64)
    assert float(divergence(weak, prior)) == pytest.approx(FLEX["divergence"](weak.tolist(), prior.tolist()), abs=1e-12)
    mean = weak.softmax(1).mean(0)
    assert float(divergence(weak, prior)) == pytest.approx(math.log(5) + float((mean * mean.log()).sum()), abs=1e-12)
    assert float(divergence(torch.zeros(4, 5), prior.float())) == pytest.approx(0, abs=1e-6)


def test_a_view_is_a_unit_row_at_the_angle_of_its_noise():
    row = F.normalize(torch.randn(500, 256, generator=generator(0, "rows")), dim=1)
    for noise in (0.1, 0.5):
        seen = view(row, generator(1, "view"), noise)
        assert torch.allclose(seen.norm(dim=1), torch.ones(500))
        assert float((seen * row).sum(1).mean()) == pytest.approx(1 / math.sqrt(1 + noise**2), abs=0.005)
    assert float((view(row, generator(1, "view"), 0.0, 0.25) == 0).double().mean()) == pytest.approx(0.25, abs=0.01)


def test_training_stays_at_the_words_where_nothing_pulls_and_is_drawn_back_by_decay():
    shots = world()[0]
    bare = shots.take(torch.zeros(0, dtype=torch.int64))
    weight, bias = trained(bare, "test", Course(steps=5), lambda index, weak, strong: weak.sum() * 0)
    assert torch.allclose(weight, shots.scale * shots.text_KD)
    assert torch.equal(bias, torch.zeros(4))
    apart = []
    for decay in (0.0, 10.0):
        weight, _ = trained(replace(shots, draw=generator(0, "same")), "test", Course(steps=50, decay=decay), lambda *_: torch.zeros(()))
        apart.append(float((weight - shots.scale * shots.text_KD).norm()))
    assert apart[1] < 0.5 * apart[0]


def run(method, shots, **options):
    """Logits of a head from the same draws."""
    return method(replace(shots, draw=generator(0, "run")), steps=120, threshold=0.8, **options)


def test_confident_pictures_without_labels_beat_the_labelled_ones_alone():
    shots, asked, label, _ = world((2,) * 8, width=16, text=0.5, free=400)
    with_pool, without = (right(run(fixmatch, shots, weight=weight)(asked), label) for weight in (1.0, 0.0))
    assert with_pool > without + 0.08
    assert with_pool > right(shots.zero_shot()(asked), label) + 0.2


def test_the_entropy_term_names_classes_that_no_label_shows():
    shots, asked, label, _ = world((4,) * 4 + (0,) * 4, width=16, text=0.4, free=400)
    unseen = label >= 4
    minded, flex, fix = (run(*one)(asked) for one in ((semi_fszs, shots), (_flex, shots), (fixmatch, shots)))
    assert right(minded, label) > max(right(flex, label), right(fix, label)) + 0.08
    assert right(minded[unseen], label[unseen]) > right(flex[unseen], label[unseen]) + 0.15


def _flex(shots, **options):
    return semi_fszs(shots, entropy=0.0, **options)


@pytest.mark.parametrize("method", [fixmatch, semi_fszs])
def test_without_a_pool_they_say_so(method):
    with pytest.raises(UsageError, match="no pictures without labels"):
        method(replace(world()[0], free_UD=None))
