"""REAL: counting, the choice of names, retrieval and the balanced head, against loops and in a world with a rare name."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch
from bag_of_words import encode, seen, shots_of
from torch.nn import functional as F

from diptych.adapt.parts.captioned import captions_of, counts, tokens
from diptych.adapt.zero_shot.real_neglected_tails import BATCH, fitted, real_neglected_tails, retrieved
from diptych.core.errors import DiptychError, UsageError
from diptych.core.rng import generator

TWIN = runpy.run_path(str(Path(__file__).resolve().parents[2] / "reference" / "real_neglected_tails.py"))
CAPTIONS = (
    ("a puma in the snow", "a big cat"),
    ("The cougar, asleep.",),
    ("two pumas and a puma",),
    ("a mountain lion", "puma"),
    ("a cash-machine on a wall",),
    ("an ATM",),
    ("atm; ATM!",),
)
SYNONYMS = {"cougar": ["puma", "mountain lion"], "cash machine": ["ATM"], "wall": []}


@pytest.fixture
def file(tmp_path):
    (tmp_path / "synonyms.json").write_text(json.dumps(SYNONYMS))
    return str(tmp_path / "synonyms.json")


def captioned(**more):
    rows = seen([some[0] for some in CAPTIONS], 0.5)
    return shots_of(tuple(SYNONYMS), rows, [0, 0, 0, 0, 1, 1, 1], captions=CAPTIONS, **more)


def test_counting_is_of_whole_words_in_a_row():
    flat = [caption for some in CAPTIONS for caption in some]
    phrases = ["puma", "mountain lion", "cougar", "ATM", "cash machine", "lion mountain", "cat", "?"]
    told = counts(phrases, flat)
    assert {one: told[one] for one in phrases[:-1]} == TWIN["counts"](phrases[:-1], flat)
    assert told["puma"] == 3  # "pumas" is another word; twice in a caption counts once
    assert told["ATM"] == 2
    assert told["?"] == 0
    assert tokens("Crème-brûlée, 2x!") == ("crème", "brûlée", "2x")


def test_the_most_frequent_synonym_stands_for_the_name(file):
    head = real_neglected_tails(captioned(templates=("{}", "a drawing of a {}")), synonyms=file)
    texts = [encode([name, f"a drawing of a {name}"]).mean(0) for name in ("puma", "ATM", "wall")]
    assert torch.allclose(head.weight, 20 * F.normalize(torch.stack(texts), dim=1), atol=1e-4)
    assert head.config.made_by == "real-neglected-tails, 2 of 3 names replaced"


def test_a_synonym_that_is_as_frequent_does_not_replace_the_name(file, tmp_path):
    (tmp_path / "captions.txt").write_text("a cougar\n\na puma\na mountain lion\n")
    head = real_neglected_tails(shots_of(tuple(SYNONYMS)), synonyms=file, captions=str(tmp_path / "captions.txt"))
    assert head.config.made_by.endswith("0 of 3 names replaced")


def test_retrieval_equals_the_loop_and_is_balanced(file):
    shots = captioned()
    names = [(name, *some) for name, some in SYNONYMS.items()]
    mean_KD = torch.stack([F.normalize(encode(some).mean(0), dim=0) for some in names])
    for most in (1, 2, 9):
        at, label = retrieved(shots, names, most)
        twin = TWIN["retrieved"](CAPTIONS, names, lambda caption, k: float(encode([caption])[0] @ mean_KD[k]), most)
        assert list(zip(at.tolist(), label.tolist(), strict=True)) == twin
        assert int(torch.bincount(label).max()) <= most
    assert at.tolist().count(4) == 2  # the machine on a wall is found for both


def test_the_head_is_trained_as_the_loop_trains_it():
    shots = captioned()
    pictures = (shots.image_SD, torch.tensor([0, 0, 0, 0, 1, 1, 2]))
    prompts = (encode(["puma", "a puma", "ATM", "an ATM", "wall", "a wall"]), torch.tensor([0, 0, 1, 1, 2, 2]))
    start = shots.text_KD
    found = fitted(shots, start, pictures, prompts, 4, 3e-2)
    draw, order, batches = generator(0, "bag of words"), torch.zeros(0, dtype=torch.int64), []
    for _ in range(4):
        for part in torch.randperm(7, generator=draw).split(BATCH):
            if len(order) < BATCH:
                order = torch.cat([order, torch.randperm(6, generator=draw)])
            texts, order = order[:BATCH], order[BATCH:]
            batches.append([(pictures[0][i].tolist(), int(pictures[1][i])) for i in part])
            batches[-1] += [(prompts[0][i].tolist(), int(prompts[1][i])) for i in texts]
    twin = TWIN["trained"](start.double().tolist(), batches, 20.0, 3e-2, 4)
    assert torch.allclose(found.double(), torch.tensor(twin, dtype=torch.float64), atol=2e-4)
    assert float((found - start).abs().max()) > 0.02


def test_share_mixes_the_heads(file):
    plain, none, whole, half = (
        real_neglected_tails(captioned(), synonyms=file, lr=1e-2, **more)
        for more in ({}, {"linear": True, "share": 0.0}, {"linear": True, "share": 1.0}, {"linear": True})
    )
    assert torch.allclose(plain.weight, none.weight, atol=1e-5)
    assert torch.allclose(half.weight, (none.weight + whole.weight) / 2, atol=1e-4)
    assert not torch.allclose(whole.weight, none.weight, atol=1e-2)
    assert "8 pictures retrieved for 3 classes" in half.config.made_by


def test_labels_are_not_looked_at(file):
    one, other = captioned(), captioned()
    other = type(other)(**{name: getattr(other, name) for name in other.__dataclass_fields__} | {"label_S": 2 - one.label_S})
    heads = [real_neglected_tails(shots, synonyms=file, linear=True) for shots in (one, other)]
    assert torch.equal(heads[0].weight, heads[1].weight)


def test_rare_names_are_mended_by_frequent_synonyms_and_by_retrieved_pictures(tmp_path):
    """The model has hardly learned the rare names: their rows say little of the pictures. Captions use other words."""
    classes = [f"rare{i}" for i in range(6)]
    (tmp_path / "synonyms.json").write_text(json.dumps({name: [f"common{i}"] for i, name in enumerate(classes)}))
    texts = [f"common{i} seldom{i} seldom{i}" for i in range(6)]
    label = torch.arange(6).repeat_interleave(30)
    rows = seen([texts[k] for k in label], 2.0, 1)
    shown = seen([texts[k] for k in label], 2.0, 2)
    shots = shots_of(classes, shown, label.tolist(), captions=tuple((f"a common{int(k)}",) for k in label))
    file = str(tmp_path / "synonyms.json")
    prompt = real_neglected_tails(shots, synonyms=file)
    linear = real_neglected_tails(shots, synonyms=file, linear=True, lr=3e-2)
    right = [float((head(rows).argmax(1) == label).double().mean()) for head in (shots.zero_shot(), prompt, linear)]
    assert right[1] > right[0] + 0.2
    assert right[2] > right[1] + 0.05


def test_it_tells_what_it_lacks(file, tmp_path):
    bare = shots_of(tuple(SYNONYMS))
    with pytest.raises(UsageError, match="no captions to count in"):
        real_neglected_tails(bare, synonyms=file)
    (tmp_path / "captions.txt").write_text("a puma\n")
    with pytest.raises(UsageError, match="no captions to find them by"):
        real_neglected_tails(bare, synonyms=file, captions=str(tmp_path / "captions.txt"), linear=True)
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(UsageError, match="the file is empty"):
        captions_of(str(tmp_path / "empty.txt"), bare)
    with pytest.raises(DiptychError, match="cannot be read"):
        captions_of(str(tmp_path / "none.txt"), bare)
    other = shots_of(("qxz", "zxq"), seen(["a"]), [0], captions=(("nothing of these",),))
    with pytest.raises(UsageError, match="no caption names any class"):
        real_neglected_tails(other, linear=True)
