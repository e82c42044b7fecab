"""The forms of GDA beyond a few labelled pictures of each class: classes without any, uneven classes, pictures without labels."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch.nn import functional as F

from diptych.adapt.parts.shots import Shots
from diptych.adapt.training_free.gda_clip import gda_clip, means, spread
from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.engine.fewshot import choose, make

REFERENCE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "reference" / "gda_clip.py"))["logits"]


def world(counts=(6, 6, 6, 6), width=8, spread=0.4, text=0.5, free=40, seed=0):
    """Classes around random directions that share stretched noise, words near them, pictures without labels and further ones."""
    draw = generator(seed, "gda world")
    classes = len(counts)
    centre = F.normalize(torch.randn(classes, width, generator=draw), dim=1)
    stretch = torch.linspace(0.2, 2.0, width)

    def pictures(label):
        return F.normalize(centre[label] + spread * stretch * torch.randn(len(label), width, generator=draw), dim=1)

    label = torch.repeat_interleave(torch.arange(classes), torch.tensor(counts))
    words = F.normalize(centre + text * torch.randn(classes, width, generator=draw), dim=1)
    names = tuple(f"class {k}" for k in range(classes))
    shots = Shots(pictures(label), label, words, names, 10.0, generator(seed, "gda draw"))
    asked = torch.arange(classes).repeat_interleave(200)
    return replace(shots, free_UD=pictures(torch.arange(free) % classes)), pictures(asked), asked


def right(head, image, label):
    return float((head(image).argmax(1) == label).double().mean())


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 1.0, "covariance": "classes"},
        {"alpha": 1.0, "covariance": "classes", "prior": "labels"},
        {"alpha": 1.0, "neighbours": 3},
        {"alpha": 1.0, "neighbours": 0},
        {"alpha": 0.5, "rounds": 3},
        {"alpha": 0.5, "rounds": 2, "covariance": "classes", "neighbours": 2},
    ],
)
@pytest.mark.parametrize("counts", [(2, 9, 5, 4), (3, 0, 5, 4)])
def test_every_form_equals_the_loop(options, counts):
    shots, asked, _ = world(counts)
    rows = [shots.image_SD.double().tolist(), shots.label_S.tolist(), shots.text_KD.double().tolist(), shots.scale]
    twin = REFERENCE(*rows, asked[:6].double().tolist(), **options, pool=shots.free_UD.double().tolist())
    assert torch.allclose(gda_clip(shots, **options)(asked[:6]).double(), torch.tensor(twin).double(), atol=2e-5, rtol=1e-5)


def test_without_any_label_it_is_the_loop_as_well():
    shots, asked, _ = world()
    bare = shots.take(torch.zeros(0, dtype=torch.int64))
    twin = REFERENCE(
        [], [], shots.text_KD.double().tolist(), shots.scale, asked[:6].double().tolist(), alpha=0.3, rounds=2, pool=shots.free_UD.tolist()
    )
    assert torch.allclose(gda_clip(bare, alpha=0.3, rounds=2)(asked[:6]).double(), torch.tensor(twin).double(), atol=2e-5, rtol=1e-5)


def test_a_step_of_maximisation_is_scikit_learns_with_tied_covariance():
    """Given the same shares: means, and the covariance of all pictures, whose divisor is one less here."""
    shots, _, _ = world(free=60)
    bare = shots.take(torch.zeros(0, dtype=torch.int64))
    share_UK = torch.softmax(8 * shots.free_UD.double() @ shots.text_KD.double().T, dim=1)
    peer = GaussianMixture(4, covariance_type="tied", reg_covar=0.0)
    peer._initialize(shots.free_UD.double().numpy(), share_UK.numpy())
    mean_KD = means(bare, share_UK, 64)
    cov_DD, count = spread(bare, mean_KD, share_UK, "pictures")
    assert count == 60
    assert torch.allclose(mean_KD, torch.from_numpy(peer.means_), atol=1e-12)
    assert torch.allclose(cov_DD * 59 / 60, torch.from_numpy(peer.covariances_), atol=1e-12)


def test_pictures_without_labels_improve_a_poor_start_from_the_words():
    shots, image, label = world(spread=0.25, text=0.4, free=400)
    bare = shots.take(torch.zeros(0, dtype=torch.int64))
    start = right(bare.zero_shot(), image, label)
    assert start < 0.95
    assert right(gda_clip(bare, alpha=30.0, rounds=10), image, label) > start + 0.02


def test_pictures_without_labels_improve_one_labelled_picture_a_class():
    shots, image, label = world((1, 1, 1, 1), spread=0.25, text=0.4, free=400)
    assert right(gda_clip(shots, alpha=30.0, rounds=10), image, label) > right(gda_clip(shots, alpha=30.0), image, label) + 0.02


def test_neighbours_move_an_unseen_class_towards_the_pictures():
    """Words lie apart from pictures: the class without pictures has its mean nearer to its pictures by its neighbours."""
    draw = generator(0, "gap")
    gap = F.normalize(torch.randn(16, generator=draw), dim=0)
    centre = F.normalize(torch.randn(20, 16, generator=draw), dim=1)
    label = torch.arange(20).repeat_interleave(8)
    image = F.normalize(centre[label] + 2 * gap + 0.1 * torch.randn(160, 16, generator=draw), dim=1)
    text = F.normalize(centre - 2 * gap, dim=1)
    shots = Shots(image[:152], label[:152], text, tuple(map(str, range(20))), 10.0, draw)  # the last class has no picture
    centre_D = image[152:].double().mean(0)
    apart = [float((means(shots, None, count)[19] - centre_D).norm()) for count in (0, 8)]
    assert apart[1] < 0.8 * apart[0]


def test_with_classes_counted_alike_a_big_class_does_not_decide_the_covariance():
    draw = generator(0, "uneven spread")
    wide, narrow = torch.randn(900, 6, generator=draw), 0.1 * torch.randn(10, 6, generator=draw)
    image = torch.cat([wide, narrow + 3]).float()
    label = torch.cat([torch.zeros(900), torch.ones(10)]).long()
    shots = Shots(image, label, torch.eye(6)[:2], ("a", "b"), 1.0, draw)
    mean_KD = means(shots, None, 64)
    half = (wide.T.cov().trace() * 899 / 900 + narrow.T.cov().trace() * 9 / 10) / 2
    assert float(spread(shots, mean_KD, None, "classes")[0].trace()) == pytest.approx(float(half), rel=1e-5)
    assert float(spread(shots, mean_KD, None, "pictures")[0].trace()) == pytest.approx(float(wide.T.cov().trace()), rel=0.02)


def test_a_rare_class_is_found_with_a_uniform_prior_and_lost_with_the_labels():
    shots, image, label = world((60, 60, 60, 2), spread=0.5, text=1.0)
    rare = label == 3
    uniform, labels = (gda_clip(shots, alpha=10.0, prior=prior) for prior in ("uniform", "labels"))
    assert right(uniform, image[rare], label[rare]) > right(labels, image[rare], label[rare]) + 0.05


def test_rounds_without_pictures_are_an_error():
    with pytest.raises(UsageError, match="no pictures without labels"):
        gda_clip(replace(world()[0], free_UD=None), rounds=1)


def test_without_labels_the_pool_decides_by_itself():
    """What the settings are where nothing was given: five rounds at weight 1 without labels, none at weight 0.1 with them."""
    shots, image, _ = world(free=100)
    bare = shots.take(torch.zeros(0, dtype=torch.int64))
    assert torch.equal(gda_clip(bare)(image), gda_clip(bare, alpha=1.0, rounds=5)(image))
    assert not torch.equal(gda_clip(bare)(image), gda_clip(bare, alpha=1.0, rounds=0)(image))
    assert torch.equal(gda_clip(shots)(image), gda_clip(shots, alpha=0.1, rounds=0)(image))
    entry = registry.find("gda-clip", "adapt")
    assert torch.equal(make(entry, bare, {})(image), gda_clip(bare)(image))
    assert choose("gda-clip", bare, {}).unasked.startswith("nothing could be held out")
    with pytest.raises(UsageError, match="needs labelled pictures"):
        make(entry, replace(bare, free_UD=None), {})
