"""What every method must show that the family's suite leaves out because it needs pictures without labels or captions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from rows_world import right, world

from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.engine.fewshot import make

SETTINGS = {
    "caps-adapter": {"alpha": 30.0},
    "laplacian-shot": {},
    "transductive-mv-zsl": {},
    "fixmatch": {"steps": 40, "threshold": 0.7},
    "semi-fszs": {"steps": 40, "threshold": 0.7},
    "wad": {"steps": 30},
    "deep-lds": {"steps": 20},
    "fed-mp": {"lr": 1e-3, "uncertainty": 0.3},
}


def made(identity, shots):
    return make(registry.find(identity, "adapt"), replace(shots, draw=generator(0, "pool methods")), SETTINGS[identity])


def told(answerer, rows):
    """Logits of a head, or of a rule that looks at no model."""
    return answerer(rows) if hasattr(answerer, "weight") and callable(answerer) else answerer.answer(None, answerer.classes).logits(rows)


@pytest.mark.parametrize("identity", SETTINGS)
@pytest.mark.parametrize("counts", [(1, 1, 1, 1), (6, 6, 6, 0), (9, 1, 1, 1), (3, 1, 0, 0)])
@pytest.mark.parametrize("free", [2, 30])
def test_few_and_uneven_pictures_and_a_pool_smaller_than_the_classes_give_finite_answers(identity, counts, free):
    shots, asked, _, _ = world(counts, free=free)
    logits = told(made(identity, shots), asked)
    assert logits.shape == (800, 4)
    assert bool(logits.isfinite().all())


@pytest.mark.parametrize("identity", SETTINGS)
def test_the_same_picture_many_times_gives_finite_answers(identity):
    shots, asked, _, _ = world((2, 2, 2, 2))
    same = replace(shots.take(torch.tensor([0, 0, 0, 2])), free_UD=shots.image_SD[:1].expand(9, -1).clone())
    assert bool(told(made(identity, same), asked).isfinite().all())


@pytest.mark.parametrize("identity", SETTINGS)
def test_same_draw_same_answers_and_what_was_given_stays(identity):
    shots, asked, label, _ = world((4, 4, 4, 4), text=0.3)
    before = [shots.image_SD.clone(), shots.text_KD.clone(), shots.label_S.clone(), shots.pool_UD.clone()]
    one, other = (told(made(identity, shots), asked) for _ in range(2))
    assert torch.equal(one, other)
    assert all(torch.equal(a, b) for a, b in zip(before, [shots.image_SD, shots.text_KD, shots.label_S, shots.pool_UD], strict=True))
    assert not one.requires_grad
    assert right(one, label) > right(shots.zero_shot()(asked), label)


@pytest.mark.parametrize("identity", SETTINGS)
def test_what_is_missing_is_said_before_anything_is_computed(identity):
    shots = world()[0]
    needs = registry.find(identity, "adapt").card.needs
    for need, lacking in {
        "labels": shots.take(torch.zeros(0, dtype=torch.int64)),
        "unlabelled": replace(shots, free_UD=None),
        "captions": replace(shots, captions=()),
    }.items():
        if need in needs:
            with pytest.raises(UsageError, match=r"needs"):
                made(identity, lacking)
