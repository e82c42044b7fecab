"""ProtoCLIP: k-means, back translation and episodes by hand; heads, buffers and prototypes over a few steps."""

from __future__ import annotations

import pytest
import torch
from few_steps import few_steps

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.objectives.pairs.protoclip import Options
from diptych.objectives.parts.episodes import Episodes
from diptych.objectives.parts.kmeans import kmeans, means, nearest

CORNERS = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
SMALL = "objective.options={clusters: 3, episode: 24, width: 8, hidden: 16}"


def test_means_by_hand():
    rows = torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 4.0]])
    found, count = means(rows, torch.tensor([2, 2, 0]), 3)
    assert found.tolist() == [[5.0, 4.0], [0.0, 0.0], [2.0, 0.0]]
    assert count.tolist() == [1.0, 0.0, 2.0]


def test_nearest_is_by_distance_not_by_product():
    assert nearest(torch.tensor([[1.0, 0.0]]), torch.tensor([[9.0, 0.0], [1.1, 0.0]])).tolist() == [1]


@pytest.mark.parametrize("seed", range(5))
def test_kmeans_finds_four_far_clumps_from_any_start(seed):
    """Also from starts with two centres in one clump and after a centre loses its rows."""
    rows = torch.cat([corner + 0.1 * torch.randn(6, 2, generator=generator(seed, i)) for i, corner in enumerate(CORNERS)])
    rows[1] = rows[0]
    centres, label = kmeans(rows, 4, 20, generator(seed, "start"))
    again, _ = kmeans(rows, 4, 20, generator(seed, "start"))
    assert torch.equal(centres, again)
    inertia = (rows - centres[label]).square().sum()
    for _ in range(3):
        centres = torch.stack([rows[label == k].mean(0) for k in range(4)])
    torch.testing.assert_close((rows - centres[label]).square().sum(), inertia)
    assert len(label.unique()) == 4


def test_empty_centres_move_to_the_farthest_rows():
    """Three equal rows hold three of four starts; one clump apart must still be found."""
    rows = torch.tensor([[0.0, 0.0]] * 5 + [[4.0, 0.0], [0.0, 9.0]])
    centres, label = kmeans(rows, 3, 10, generator(1, "x"))
    assert sorted(centres.tolist()) == [[0.0, 0.0], [0.0, 9.0], [4.0, 0.0]]
    assert len(label.unique()) == 3


def test_an_episode_is_clustered_when_it_is_full_and_rows_beyond_it_are_left_out():
    kept = Episodes({"image": 2, "text": 2}, ("image", "text"), clusters=4, episode=8, steps=10)
    text = CORNERS.repeat(3, 1)
    image = torch.arange(12.0)[:, None].expand(12, 2)
    kept.keep({"image": image[:4], "text": text[:4]})
    assert kept.ready.item() == 0.0
    kept.keep({"image": image[4:12], "text": text[4:12]})
    assert kept.ready.item() == 1.0
    assert kept.count.tolist() == [0, 1]
    state = kept.state()
    order = [CORNERS.tolist().index(row) for row in state["text"].tolist()]
    assert sorted(order) == [0, 1, 2, 3]
    # corner i holds rows i and i + 4, whose pictures are i and i + 4: their mean is i + 2
    assert state["image.text"][:, 0].tolist() == [i + 2.0 for i in order]


def test_heads_learn_once_there_are_prototypes_and_a_checkpoint_holds_them():
    """24 rows an episode, 12 a step: prototypes from the third step on."""
    taught = few_steps("protoclip", SMALL, steps=5)
    assert [row["prototypes"] > 0 for row in taught.reports] == [False, False, True, True, True]
    assert all(taught.moved().values())
    state = taught.method.state_dict()
    assert state["episodes.count"].tolist() == [12, 2]
    assert state["episodes.ready"].item() == 1.0
    assert state["episodes.prototypes_text"].abs().sum() > 0


def test_back_translated_means_are_of_the_students_own_rows():
    taught = few_steps("protoclip", SMALL, steps=2)
    state, held = taught.method.episodes.state(), dict(taught.method.episodes.named_buffers())
    label = nearest(held["store_text"], state["text"])
    for k in label.unique():
        torch.testing.assert_close(state["image.text"][k], held["store_image"][label == k].mean(0))


def test_the_external_teacher_needs_a_frozen_text_tower():
    with pytest.raises(UsageError, match=r"init\.freeze"):
        few_steps("protoclip", "objective.options={external: 1.0}", steps=1)
    options = "objective.options={external: 1.0, clusters: 3, episode: 24, width: 8, hidden: 16}"
    taught = few_steps("protoclip", options, "init.freeze=[text, text_projection]", steps=3)
    assert taught.reports[-1]["external"] > 0


def test_more_prototypes_than_samples_are_refused():
    with pytest.raises(ValueError, match="more than the episode"):
        Options(clusters=10, episode=9)
