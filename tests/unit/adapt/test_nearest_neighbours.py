"""k nearest neighbours with words against scikit-learn, the protocol of its name, and Tip-Adapter, which it is where all vote."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bag_of_words import seen, shots_of
from pydantic import ValidationError
from sklearn.neighbors import KNeighborsClassifier

import diptych
from diptych.adapt.training_free.knn import Options, knn
from diptych.adapt.training_free.tip_adapter import tip_adapter
from diptych.core.errors import UsageError
from diptych.evaluate.metrics import neighbours
from diptych.towers.head import Head
from diptych.towers.rule import Rule

NAMES = ("fox", "owl", "bus", "hat")


def given(per_class=9, spread=2.0, seed=0):
    label = torch.arange(4).repeat_interleave(per_class)
    return shots_of(NAMES, seen([NAMES[k] for k in label], spread, seed), label.tolist())


def logits(made, rows):
    return made.answer(None, NAMES).logits(rows) if isinstance(made, Rule) else made(rows)


@pytest.mark.parametrize("k", [1, 5, 36])
def test_votes_are_scikit_learns(k):
    shots, rows = given(), seen(["fox owl", "bus", "hat fox", "owl"] * 5, 2.0, 7)
    ours = logits(knn(shots, k=k, temperature=0.2, words=0.0), rows)

    def weight(distance):  # of unit rows: distance² = 2 − 2 cosine
        return np.exp((1 - distance**2 / 2) / 0.2)

    peer = KNeighborsClassifier(k, weights=weight).fit(shots.image_SD.double().numpy(), shots.label_S.numpy())
    theirs = torch.from_numpy(peer.predict_proba(rows.double().numpy()))
    assert torch.allclose((ours / ours.sum(1, keepdim=True)).double(), theirs, atol=1e-5)


def test_it_agrees_with_the_protocol_of_its_name():
    shots, rows = given(), seen(["fox owl", "bus", "hat fox", "owl"], 2.0, 7)
    cosine, at = neighbours.nearest(rows, shots.image_SD, 7)
    votes = neighbours.votes(cosine, shots.label_S[at], 4, 7, 0.1)
    ours = logits(knn(shots, k=7, temperature=0.1, alpha=1.0, words=0.0), rows).double()
    assert torch.allclose(ours * ((1 - cosine[:, :1].double()) / 0.1).exp(), votes, atol=1e-4)


def test_with_all_voting_it_is_tip_adapter_and_a_head():
    shots, rows = given(), seen(["fox owl", "bus", "hat fox", "owl"], 2.0, 7)
    every = knn(shots, k=None, temperature=0.25, alpha=2.0)
    assert isinstance(every, Head)
    assert torch.allclose(every(rows), tip_adapter(shots, alpha=2.0, beta=4.0)(rows), atol=1e-5)
    assert torch.allclose(every(rows), logits(knn(shots, k=99, temperature=0.25, alpha=2.0), rows), atol=1e-4)


def test_votes_add_what_the_words_miss_and_words_what_few_pictures_miss():
    label = torch.arange(4).repeat_interleave(100)
    shots, rows = given(per_class=4, spread=3.0), seen([NAMES[k] for k in label], 3.0, 9)
    misled = type(shots)(shots.image_SD, shots.label_S, shots.text_KD.roll(1, 0) + shots.text_KD, NAMES, 20.0, shots.draw)

    def right(made):
        return float((logits(made, rows).argmax(1) == label).double().mean())

    assert right(knn(misled, k=4, temperature=0.5, alpha=100.0)) > right(misled.zero_shot()) + 0.1
    assert right(knn(shots, k=4, temperature=0.5, alpha=3.0)) > right(knn(shots, k=4, temperature=0.5, words=0.0)) + 0.1


def test_a_model_with_the_rule_is_saved_and_answers(tmp_path):
    model = diptych.load("mini")
    names = ("dog", "cat")
    rows = torch.nn.functional.normalize(torch.eye(model.embed_dim)[:6] + 0.1, dim=1)
    text = model.encode_text(names)
    shots = shots_of(names)
    shots = type(shots)(rows, torch.tensor([0, 0, 0, 1, 1, 1]), text, names, 20.0, shots.draw)
    adapted = model.with_rule(knn(shots, k=2))  # type: ignore[arg-type]
    diptych.save(adapted, tmp_path / "model")
    again = diptych.load(str(tmp_path / "model"))
    assert again.classifier().labels == names
    assert torch.allclose(again.classifier().probabilities(rows), adapted.classifier().probabilities(rows), atol=1e-5)


def test_it_tells_what_it_lacks():
    with pytest.raises(UsageError, match="no labelled pictures"):
        knn(shots_of(NAMES))
    for wrong in ({"k": 0}, {"temperature": 0.001}, {"alpha": 0.0}, {"words": -1.0}):
        with pytest.raises(ValidationError):
            Options(**wrong)  # type: ignore[arg-type]
