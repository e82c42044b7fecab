"""WenLan's queues and momentum towers: what goes in, what goes out, and who gets gradients."""

from __future__ import annotations

import math

import pytest
import torch
from few_steps import few_steps

from diptych.core.types import Pairs
from diptych.objectives.pairs.clip import clip
from diptych.objectives.pairs.wenlan_brivl import wenlan_brivl
from diptych.objectives.parts.queue import Queue


def numbered(*values: int) -> dict[str, torch.Tensor]:
    return {"text": torch.tensor(values, dtype=torch.float32)[:, None]}


def test_the_oldest_rows_go_first():
    queue = Queue({"text": 1}, 4)
    assert queue.state()["queue.full"].tolist() == [False] * 4
    queue.put(numbered(1, 2, 3), torch.tensor([1, 2, 3]))
    assert queue.state()["queue.full"].tolist() == [True, True, True, False]
    queue.put(numbered(4, 5, 6), torch.tensor([4, 5, 6]))
    assert sorted(queue.state()["queue.text"].flatten().tolist()) == [3, 4, 5, 6]
    assert queue.state()["queue.concept"].tolist() == queue.state()["queue.text"].flatten().tolist()
    queue.put(numbered(7, 8, 9, 10, 11, 12), torch.arange(7, 13))
    assert sorted(queue.state()["queue.concept"].tolist()) == [9, 10, 11, 12]
    assert queue.state()["queue.concept"].tolist() == queue.state()["queue.text"].flatten().tolist()


def test_a_queue_goes_on_from_a_checkpoint():
    queue, again = Queue({"text": 1}, 4), Queue({"text": 1}, 4)
    queue.put(numbered(1, 2, 3), torch.tensor([1, 2, 3]))
    again.load_state_dict(queue.state_dict())
    for one in (queue, again):
        one.put(numbered(4, 5), torch.tensor([4, 5]))
    assert torch.equal(queue.get_buffer("rows_text"), again.get_buffer("rows_text"))


def small(held: int = 0) -> Pairs:
    draw = torch.Generator().manual_seed(0)
    image, text, more = (torch.nn.functional.normalize(torch.randn(4, 3, generator=draw, dtype=torch.float64), dim=1) for _ in range(3))
    keys = {"key.image": image, "key.text": text}
    state = {"queue.image": more, "queue.text": more, "queue.concept": torch.tensor([10, 11, 12, 13]), "queue.full": torch.arange(4) < held}
    concept = torch.tensor([0, 1, 1, 2])
    return Pairs(image, text, image, text, 0, torch.tensor(5.0, dtype=torch.float64), None, concept, concept, keys, keys, state)


def test_an_empty_queue_and_momentum_towers_that_are_the_towers_give_clip():
    assert wenlan_brivl(small()).total.item() == pytest.approx(clip(small()).total.item(), abs=1e-12)


def test_each_key_in_the_queue_makes_it_harder():
    losses = [wenlan_brivl(small(held=held)).total.item() for held in range(5)]
    assert losses == sorted(losses)
    assert losses[0] < losses[1]
    assert wenlan_brivl(small(held=3)).report["keys"].item() == 7.0


def test_momentum_towers_follow_without_gradient_and_the_queue_fills():
    taught = few_steps("wenlan-brivl", "objective.options={queue: 30, momentum: 0.9}", steps=3)
    assert taught.method.queue.count.item() == 36
    assert taught.method.queue.rows_image.norm(dim=1).allclose(torch.ones(30), atol=1e-5)
    assert taught.method.momentum(0.3) == 0.9
    follower = taught.stepper.follower
    assert follower is not None
    for name, average in follower.copy.named_parameters():
        assert average.grad is None, name
    assert any(not torch.equal(a, b) for a, b in zip(follower.copy.parameters(), taught.stepper.model.parameters(), strict=True))


def test_it_trains_with_both_towers_and_against_frozen_texts():
    for setting in ("init.freeze=[]", "init.freeze=[text, text_projection]"):
        taught = few_steps("wenlan-brivl", "objective.options={queue: 12}", setting, steps=5)
        assert all(math.isfinite(loss) for loss in taught.losses)
        assert taught.losses[-1] < max(taught.losses)
