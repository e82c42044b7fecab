"""Names for a pool of pictures together: LaplacianShot and transductive multi-view propagation, against loops and each one alone."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rows_world import right, world
from sklearn.neighbors import NearestNeighbors
from torch.nn import functional as F

from diptych.adapt.parts.graph import assigned_means, links, nearest
from diptych.adapt.training_free import laplacian_shot, transductive_mv_zsl
from diptych.core.errors import UsageError

FOLDER = Path(__file__).resolve().parents[2] / "reference"
LAPLACIAN, MULTI_VIEW = (runpy.run_path(str(FOLDER / f"{name}.py")) for name in ("laplacian_shot", "transductive_mv_zsl"))
NONE = torch.zeros(0, dtype=torch.int64)


def plain(shots):
    """Rows as lists."""
    return shots.image_SD.double().tolist(), shots.label_S.tolist(), shots.text_KD.double().tolist()


@pytest.mark.parametrize("counts", [(2, 1, 3, 2), (2, 0, 3, 2)])
@pytest.mark.parametrize(
    "options", [{"pull": 0.7, "neighbours": 3, "share": 0.4, "steps": 20}, {"pull": 2, "neighbours": 5, "share": 1, "steps": 2}]
)
def test_laplacian_shot_equals_the_loop(counts, options):
    shots, asked, _, _ = world(counts, free=24)
    pool = shots.free_UD.double().tolist()
    twin = LAPLACIAN["named"](*plain(shots), shots.scale, pool, **options)
    assert torch.allclose(laplacian_shot.named(shots, **options).double(), torch.tensor(twin).double(), atol=1e-5)
    twin = LAPLACIAN["logits"](*plain(shots), shots.scale, asked[:5].double().tolist(), pool=pool, **options)
    assert torch.allclose(laplacian_shot.laplacian_shot(shots, **options)(asked[:5]).double(), torch.tensor(twin).double(), atol=1e-4)


@pytest.mark.parametrize("counts", [(2, 1, 3, 2), (0, 0, 0, 0)])
@pytest.mark.parametrize("options", [{"neighbours": 6, "spread": 0.9, "steps": 8}, {"neighbours": 3, "spread": 0.5, "steps": 3}])
def test_multi_view_propagation_equals_dense_powers_of_its_walk(counts, options):
    shots, _, _, _ = world(counts, free=20, gap=0.4)
    said = transductive_mv_zsl.description_rows(shots, "").double().tolist()
    twin = MULTI_VIEW["named"](*plain(shots), said, shots.free_UD.double().tolist(), shots.scale, **options)
    assert np.allclose(transductive_mv_zsl.named(shots, **options).numpy(), twin, atol=1e-5)


def test_nearest_are_scikit_learns():
    rows = F.normalize(torch.randn(3000, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    _, ours = nearest(rows, rows, 4, own=False)
    peer = NearestNeighbors(n_neighbors=5, metric="cosine").fit(rows.numpy())
    theirs = peer.kneighbors(rows.numpy(), return_distance=False)[:, 1:]
    assert float((ours.numpy() == theirs).mean()) > 0.999
    assert nearest(rows[:3], rows[:3], 9, own=False)[1].shape == (3, 2)


def test_links_and_means_by_hand():
    matrix = links(torch.tensor([[0, 2], [1, 0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 3).to_dense()
    assert matrix.tolist() == [[1, 4], [0, 3], [2, 0]]
    means = assigned_means(torch.tensor([[1.0, 0], [0, 1], [0, 1]]), torch.tensor([0, 0, 2]), torch.tensor([[9.0, 9], [3, 4], [9, 9]]))
    assert torch.allclose(means, torch.tensor([[0.5**0.5, 0.5**0.5], [0.6, 0.8], [0, 1]]))


def gains(found):
    """Means over the seeds."""
    return torch.tensor(found).mean(0).tolist()


def test_neighbours_name_better_than_prototypes_alone_and_so_does_the_head():
    found = []
    for seed in range(3):
        shots, asked, label, pool = world((2,) * 8, width=16, text=0.4, free=400, seed=seed)
        together, alone = (right(laplacian_shot.named(shots, pull=pull), pool) for pull in (1.0, 0.0))
        found.append([together, alone, right(laplacian_shot.laplacian_shot(shots)(asked), label), right(shots.zero_shot()(asked), label)])
    together, alone, head, words = gains(found)
    assert together > alone + 0.03
    assert head > words + 0.2


@pytest.mark.parametrize("gap", [0.0, 0.6])
def test_names_spread_over_views_are_better_than_the_nearest_word_without_any_label(gap):
    found = []
    for seed in range(3):
        shots, asked, label, pool = world((1,) * 8, width=16, text=0.3, free=400, gap=gap, seed=seed)
        bare = shots.take(NONE)
        near = right(bare.zero_shot()(bare.free_UD), pool)
        found.append([right(transductive_mv_zsl.named(bare), pool), near])
        found[-1] += [right(transductive_mv_zsl.transductive_mv_zsl(bare)(asked), label), right(bare.zero_shot()(asked), label)]
    spread, near, head, words = gains(found)
    assert spread > near + 0.08
    assert head > words + 0.1


def test_two_views_of_words_are_better_than_the_name_twice():
    found = []
    for seed in range(4):
        shots, _, _, pool = world((1,) * 8, width=16, text=0.4, free=400, seed=seed)
        bare = shots.take(NONE)
        same = replace(bare, encode=lambda texts, rows=bare.text_KD: rows)
        found.append([right(transductive_mv_zsl.named(bare), pool), right(transductive_mv_zsl.named(same), pool)])
    both, once = gains(found)
    assert both > once + 0.03


def test_descriptions_come_from_a_file_where_one_is_given(tmp_path):
    shots, *_ = world()
    asked: list[str] = []
    names = ("qq", "class b", "goose", "class d")
    told = replace(shots, classes=names, encode=lambda texts: (asked.extend(texts), shots.encode(texts))[1])
    path = tmp_path / "words.tsv"
    path.write_text("".join(f"{name}\tround\n{name}\tred\n" for name in names))
    transductive_mv_zsl.description_rows(told, str(path))
    transductive_mv_zsl.description_rows(told, "")
    assert asked[:5] == [*(f"{name}, round, red" for name in names), "this is qq"]
    assert asked[6].startswith("goose, ")


def test_without_a_pool_both_say_so():
    shots = replace(world()[0], free_UD=None)
    with pytest.raises(UsageError, match="0 without labels were given"):
        laplacian_shot.laplacian_shot(shots)
    with pytest.raises(UsageError, match="no pictures without labels"):
        transductive_mv_zsl.transductive_mv_zsl(shots)
