"""Fed-MP: its parts against loops, and what prototypes and clients' labels give for classes that no client has."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rows_world import right, world
from torch.nn import functional as F

from diptych.adapt.federated import fed_mp as federated
from diptych.adapt.federated.fed_mp import adapted, client, closeness, fed_mp, joined, multimodal, started
from diptych.core.rng import generator

REFERENCE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "reference" / "fed_mp.py"))


def told(rule, rows):
    """Logits of the rule; it looks at no model."""
    return rule.answer(None, rule.classes).logits(rows)


def test_adapter_closeness_and_prototypes_equal_the_loops():
    shots, asked, _, _ = world((3, 2, 4, 2), free=40, scale=20.0)
    adapter = started(8, generator(0, "adapter"))
    plain = {name: value.double().tolist() for name, value in adapter.items()}
    twin = [REFERENCE["adapted"](row, **plain) for row in asked[:6].double().tolist()]
    assert torch.allclose(adapted(asked[:6], adapter).double(), torch.tensor(twin).double(), atol=1e-6)
    words = 3 * torch.randn(3, 8, generator=generator(1, "words"))
    assert closeness(shots.text_KD, words) == pytest.approx(
        max(1e-6, REFERENCE["closeness"](shots.text_KD.tolist(), words.tolist())), abs=1e-5
    )
    assert closeness(shots.text_KD, -shots.text_KD.sum(0, keepdim=True)) == 1e-6
    for uncertainty in (0.1, 0.7):
        twin = REFERENCE["prototypes"](shots.free_UD.double().tolist(), shots.text_KD.double().tolist(), 20.0, uncertainty)
        assert torch.allclose(multimodal(shots.free_UD, shots.text_KD, 20.0, uncertainty).double(), torch.tensor(twin).double(), atol=1e-5)


def test_the_joint_adapter_is_the_weighted_mean():
    one, other = ({"down": torch.full((2, 2), value)} for value in (1.0, 4.0))
    assert torch.equal(joined([one, other], [2.0, 1.0])["down"], torch.full((2, 2), 2.0))


def test_one_client_with_all_classes_is_its_own_adapter_whatever_the_aggregation():
    shots = world(free=20)[0]
    made = [
        fed_mp(replace(shots, draw=generator(0, "same")), clients=1, rounds=1, lr=1e-3, aggregation=how) for how in ("closeness", "fedavg")
    ]
    assert torch.allclose(made[0].get_buffer("down"), made[1].get_buffer("down"), atol=1e-6)
    several = fed_mp(replace(shots, draw=generator(0, "same")), clients=2, rounds=1, lr=1e-3)
    assert float((several.get_buffer("down") - made[0].get_buffer("down")).abs().max()) > 1e-4


@pytest.mark.parametrize("how", ["closeness", "fedavg"])
def test_clients_are_joined_by_closeness_or_by_pictures_and_the_next_round_starts_there(monkeypatch, how):
    shots, _, _, _ = world((6, 1, 3, 0), free=40, scale=20.0)
    began, words, weights, made = [], [], [], []
    own, join = federated.client, federated.joined

    def watched(given, adapter, classes_C, **options):
        found = own(given, adapter, classes_C, **options)
        began.append(adapter)
        words.append((classes_C, found[1]))
        return found

    def joining(adapters, given):
        weights.append(given)
        made.append(join(adapters, given))
        return made[-1]

    monkeypatch.setattr(federated, "client", watched)
    monkeypatch.setattr(federated, "joined", joining)
    rule = fed_mp(shots, clients=3, rounds=2, lr=1e-3, aggregation=how, residual_weight=2.0, uncertainty=0.7)
    assert (len(began), len(made)) == (6, 2)
    assert all(one is made[0] for one in began[3:])
    assert all(torch.equal(rule.get_buffer(name), value) for name, value in made[1].items())
    for given, of in zip(weights, (words[:3], words[3:]), strict=True):
        pictures = [float(sum(int(shots.label_S.eq(k).sum()) for k in classes.tolist())) for classes, _ in of]
        close = [max(1e-6, REFERENCE["closeness"](shots.text_KD.tolist(), one.tolist())) for _, one in of]
        assert given == pytest.approx(pictures if how == "fedavg" else close, abs=1e-5)
        assert max(given) > 1.1 * min(given)
    rows = adapted(shots.free_UD, made[1]).double().tolist()
    twin = REFERENCE["prototypes"](rows, shots.text_KD.double().tolist(), 20.0, 0.7)
    assert torch.allclose(rule.get_buffer("prototype").double(), torch.tensor(twin).double(), atol=1e-5)


def test_a_client_learns_its_classes_and_keeps_its_residual_to_itself():
    shots, _, _, _ = world((6,) * 4, width=16, text=0.5)
    adapter, classes = started(16, generator(0, "start")), torch.tensor([2, 0])
    mine = torch.isin(shots.label_S, classes)
    losses, learned = [], []
    for epochs in (1, 40):
        given = replace(shots, draw=generator(0, "client"))
        own, words = client(given, adapter, classes, lr=1e-2, epochs=epochs, residual_weight=0.3, noise=1.0)
        label = (shots.label_S[mine, None] == classes).int().argmax(1)
        losses.append(float(F.cross_entropy(10 * adapted(shots.image_SD[mine], own) @ F.normalize(words, dim=1).T, label)))
        assert words.shape == (2, 16)
        learned.append(words)
    assert losses[1] < 0.5 * losses[0]
    assert float((learned[1] - learned[0]).abs().max()) > 0.01  # the residuals are trained too
    assert set(own) == {"down", "low", "up", "high"}


def test_prototypes_wait_until_every_class_has_a_picture():
    """Pictures near three of four names: the words stay as they are; one more near the fourth, and all four move."""
    text = F.normalize(torch.eye(4, 8) + 0.1, dim=1)
    free = F.normalize(text[torch.arange(18) % 3] + 0.05, dim=1)
    assert torch.equal(multimodal(free, text, 50.0, 0.5), text)
    moved = multimodal(torch.cat([free, text[3:]]), text, 50.0, 0.5)
    assert bool(((moved - text).abs().amax(1) > 1e-3)[:3].all())


def test_prototypes_of_the_pool_name_classes_that_no_client_has():
    found = []
    for seed in range(3):
        shots, asked, label, _ = world((6,) * 6 + (0,) * 2, width=32, text=0.2, free=400, scale=30.0, seed=seed)
        unseen = label >= 6
        heads = [fed_mp(replace(shots, draw=generator(0, "run")), prototypes=on, uncertainty=0.4) for on in (True, False)]
        found.append([right(told(head, asked[unseen]), label[unseen]) for head in heads])
    with_pool, words = torch.tensor(found).mean(0).tolist()
    assert with_pool > words + 0.03


def test_few_and_uneven_pictures_are_answered_with_more_clients_than_classes():
    shots, asked, _, _ = world((1, 5, 0, 1), free=5)
    before = shots.image_SD.clone()
    heads = [fed_mp(replace(shots, draw=generator(0, "same")), clients=9) for _ in range(2)]
    assert bool(told(heads[0], asked).isfinite().all())
    assert torch.equal(told(heads[0], asked), told(heads[1], asked))
    assert torch.equal(shots.image_SD, before)
