"""Descriptions chosen in a picture's neighbourhood: against the loop, its controls, and what it claims in a world of words."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch
from bag_of_words import encode, seen, shots_of

from diptych.adapt.zero_shot.description_semantics import description_semantics, shuffled, telling
from diptych.core.errors import UsageError
from diptych.core.rng import generator

REFERENCE = Path(__file__).resolve().parents[2] / "reference"
TOLD = {
    "hen": ["feathers", "a red comb", "two legs"],
    "owl": ["feathers", "big eyes", "two legs"],
    "fox": ["fur", "a bushy tail"],
    "cat": ["fur", "whiskers"],
    "bus": [],
}


@pytest.fixture
def file(tmp_path):
    (tmp_path / "told.json").write_text(json.dumps(TOLD))
    return str(tmp_path / "told.json")


def pictures(per_class, seed=0, spread=1.0):
    """Pictures show a class's name and all that is said of it."""
    texts = [f"{name} {' '.join(TOLD[name])}" for name in TOLD for _ in range(per_class)]
    return seen(texts, spread, seed), [k for k in range(len(TOLD)) for _ in range(per_class)]


@pytest.mark.parametrize(("near", "chosen", "weight"), [(3, 2, 1.0), (2, 5, 0.0), (9, 1, 4.0)])
def test_chosen_descriptions_equal_the_loop(file, near, chosen, weight):
    image, label = pictures(3)
    some = [i for i, y in enumerate(label) if y != 3]  # no picture of a cat
    shots = shots_of(TOLD, image[some], [label[i] for i in some])
    rule = description_semantics(shots, descriptions=file, near=near, chosen=chosen, weight=weight)
    rows = seen(["cat fur", "owl eyes", "hen comb feathers", "bus", "fox tail whiskers"], 1.0, 5)
    pool = sorted({one for words in TOLD.values() for one in words})
    own = [[pool.index(one) for one in words] for words in TOLD.values()]
    given = [shots.image_SD, shots.text_KD, encode(pool), rows]
    image_l, text_l, pool_l, rows_l = (one.double().tolist() for one in given)
    twin = runpy.run_path(str(REFERENCE / "description_semantics.py"))["logits"]
    theirs = twin(image_l, shots.label_S.tolist(), text_l, pool_l, own, 20.0, rows_l, near=min(near, 5), chosen=chosen, weight=weight)
    ours = rule.answer(None, shots.classes).logits(rows)  # type: ignore[arg-type]
    assert torch.allclose(ours.double(), torch.tensor(theirs, dtype=torch.float64), atol=1e-4)


def test_what_all_near_classes_share_is_not_chosen():
    alike = torch.tensor([[[0.9, 0.1, 0.5], [0.9, 0.6, 0.2]]])  # two near classes, three descriptions
    chosen = telling(alike, torch.tensor([[True, True]]), 1)
    assert chosen.tolist() == [[[0, 0, 1], [0, 1, 0]]]
    every = telling(alike, torch.tensor([[True, True]]), 3)
    assert every.tolist() == [[[1, 0, 1], [1, 1, 0]]]  # a tie fits both
    assert not telling(alike, torch.tensor([[True, False]]), 3).any()  # nothing to tell it apart from
    three = torch.cat([alike, torch.ones(1, 1, 3)], dim=1)
    assert telling(three, torch.tensor([[True, True, False]]), 1).tolist() == [[[0, 0, 1], [0, 1, 0], [0, 0, 0]]]


def test_classes_that_are_not_near_follow_in_the_order_of_their_names(file):
    image, label = pictures(4)
    shots = shots_of(TOLD, image, label)
    rows, _ = pictures(6, seed=3, spread=2.0)
    answer = description_semantics(shots, descriptions=file, near=2).answer(None, shots.classes).logits(rows)  # type: ignore[union-attr, arg-type]
    name = rows @ shots.text_KD.T
    order = name.argsort(1, descending=True)
    assert set(answer.argmax(1).tolist()) <= set(range(5))
    assert bool((answer.gather(1, order[:, :2]).amin(1) >= answer.gather(1, order[:, 2:]).amax(1)).all())
    behind = answer.gather(1, order[:, 2:])
    assert bool((behind[:, :-1] >= behind[:, 1:]).all())


def test_the_controls_are_own_and_anothers_descriptions(file):
    shots = shots_of(TOLD)
    own = description_semantics(shots, descriptions=file, take="own", weight=3.0)
    means = torch.stack([encode(words or [name]).mean(0) for name, words in TOLD.items()])
    assert torch.allclose(own.weight, 20 * (3 * shots.text_KD + means) / 4, atol=1e-4)  # type: ignore[union-attr]
    named = description_semantics(shots, descriptions=file, take="own", weight=0.0, form="{name}, {description}")
    texts = [[f"{name}, {one}" for one in words] or [name] for name, words in TOLD.items()]
    assert torch.allclose(named.weight, 20 * torch.stack([encode(some).mean(0) for some in texts]), atol=1e-4)  # type: ignore[union-attr]
    told = [tuple(words) for words in TOLD.values()]
    for seed in range(5):
        mixed = shuffled(told, generator(seed, "shuffled"))
        assert sorted(mixed) == sorted(told)
        assert all(a != b for a, b in zip(mixed, told, strict=True))


def test_chosen_descriptions_beat_own_ones_and_those_beat_shuffled_ones(tmp_path):
    """Near classes share most of what is said of them, and some of what is said is not to be seen."""
    words = {f"bird{i}": ["feathers", "beak", "wings", "song", f"mark{i}", f"rumour{i}"] for i in range(6)}
    (tmp_path / "told.json").write_text(json.dumps(words))
    texts = [f"bird feathers beak wings mark{i}" for i in range(6)]

    def drawn(count, seed):
        return seen([one for one in texts for _ in range(count)], 1.0, seed), torch.arange(6).repeat_interleave(count)

    image, label = drawn(8, 0)
    shots = shots_of(words, image, label.tolist())
    rows, right = drawn(60, 1)
    share = {}
    for take in ("chosen", "own", "shuffled"):
        made = description_semantics(shots, descriptions=str(tmp_path / "told.json"), weight=0.5, chosen=1, near=6, take=take)
        logits = made(rows) if take != "chosen" else made.answer(None, shots.classes).logits(rows)  # type: ignore[union-attr, arg-type, operator]
        share[take] = float((logits.argmax(1) == right).double().mean())
    assert share["chosen"] > share["own"] + 0.05
    assert share["own"] > share["shuffled"] + 0.05


def test_it_tells_what_it_lacks(file):
    with pytest.raises(UsageError, match="no labelled pictures to choose by"):
        description_semantics(shots_of(TOLD), descriptions=file)
    image, label = pictures(1)
    with pytest.raises(UsageError, match="would be new"):
        description_semantics(shots_of(TOLD, image, label), descriptions=file, form="{name}, {description}")
    with pytest.raises(UsageError, match=r"it has no \{description\}"):
        description_semantics(shots_of(TOLD), descriptions=file, take="own", form="{name}")
    with pytest.raises(UsageError, match="nothing describes any of these classes"):
        description_semantics(shots_of(("qxz", "zxq")), take="own")
