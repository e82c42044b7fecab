"""What every objective on pairs must show; runs for each one that the registry finds."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from diptych.core import registry
from diptych.core.rng import generator
from diptych.core.types import Pairs
from diptych.engine.parallel import Ranks, contrast

IDS = [entry.id for entry in registry.entries() if entry.family == "objective"]
SCALE, BIAS = 7.5, -2.0
CONCEPTS = {"unique": [0, 1, 2, 3, 4, 5], "repeated": [4, 1, 4, 2, 1, 4], "all equal": [9] * 6}


def reference(identity: str) -> Any:
    """The module of the naive twin in tests/reference."""
    path = Path(__file__).parents[1] / "reference" / f"{identity}.py"
    spec = importlib.util.spec_from_file_location(f"reference_{identity}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def variants() -> list[Any]:
    return [pytest.param(i, o, id=f"{i}-{o or 'plain'}") for i in IDS for o in reference(i).OPTIONS]


def rows(n: int = 6, d: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = generator(seed, "rows")
    return tuple(F.normalize(torch.randn(n, d, generator=draw, dtype=torch.float64), dim=1) for _ in range(2))  # type: ignore[return-value]


def value(identity: str, options: dict, image, text, concept, scale=None, bias=None) -> Any:
    """The objective on one rank, through the same door that the engine uses."""
    entry = registry.find(identity, "objective")
    scale = torch.tensor(SCALE, dtype=torch.float64) if scale is None else scale
    bias = torch.tensor(BIAS, dtype=torch.float64) if bias is None else bias
    pairs = Pairs(image, text, image, text, 0, scale, bias, concept, concept)
    return getattr(entry.load(), identity)(pairs, **options)


@pytest.mark.parametrize("concepts", CONCEPTS, ids=str)
@pytest.mark.parametrize(("identity", "options"), variants())
def test_equals_reference(identity, options, concepts):
    image, text = rows()
    concept = CONCEPTS[concepts]
    ours = value(identity, options, image, text, torch.tensor(concept))
    theirs = reference(identity).reference(image.tolist(), text.tolist(), concept, SCALE, BIAS, **options)
    assert ours.total.item() == pytest.approx(theirs, abs=1e-12)
    assert sum(t.item() for t in ours.terms.values()) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize(("identity", "options"), variants())
def test_gradient_equals_differences_of_the_reference(identity, options):
    image, text = rows()
    concept = CONCEPTS["repeated"]
    leaves = [image.requires_grad_(), text.requires_grad_(), torch.tensor(SCALE, dtype=torch.float64, requires_grad=True)]
    value(identity, options, leaves[0], leaves[1], torch.tensor(concept), scale=leaves[2]).total.backward()
    twin, h = reference(identity).reference, 1e-5
    for row, column in ((0, 0), (3, 2), (5, 4)):
        for which, leaf in enumerate(leaves[:2]):
            ends = []
            for sign in (h, -h):
                moved = [image.tolist(), text.tolist()]
                moved[which][row][column] += sign
                ends.append(twin(*moved, concept, SCALE, BIAS, **options))
            assert leaf.grad is not None
            assert leaf.grad[row, column].item() == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-8)
    ends = [twin(image.tolist(), text.tolist(), concept, SCALE + sign, BIAS, **options) for sign in (h, -h)]
    assert leaves[2].grad is not None
    assert leaves[2].grad.item() == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=1e-8)


@pytest.mark.parametrize("concepts", CONCEPTS, ids=str)
@pytest.mark.parametrize(("identity", "options"), variants())
def test_invariant_under_permutation(identity, options, concepts):
    image, text = rows()
    concept = torch.tensor(CONCEPTS[concepts])
    order = torch.randperm(6, generator=generator(1, "order"))
    straight = value(identity, options, image, text, concept).total
    turned = value(identity, options, image[order], text[order], concept[order]).total
    torch.testing.assert_close(turned, straight, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", ["scale 100", "equal rows", "opposite rows"])
@pytest.mark.parametrize(("identity", "options"), variants())
def test_finite_at_extremes(identity, options, case, dtype):
    image, text = rows(d=8)
    if case != "scale 100":
        image = image[:1].expand(6, 8).clone()
        text = image.clone() if case == "equal rows" else -image
    image, text = image.to(dtype).requires_grad_(), text.to(dtype).requires_grad_()
    scale = torch.tensor(100.0, requires_grad=True)
    loss = value(identity, options, image, text, torch.arange(6), scale=scale, bias=torch.tensor(BIAS))
    loss.total.backward()
    assert loss.total.dtype == torch.float32
    for tensor in (loss.total, image.grad, text.grad, scale.grad):
        assert tensor is not None
        assert torch.isfinite(tensor).all()


def on_this_rank(identity: str, options: dict, concept: list[int]) -> list[np.ndarray]:
    """The value on this rank's half, and the gradients of its rows and of the scale."""
    ranks = Ranks.current()
    image, text = rows()
    n = len(image) // ranks.world
    mine = slice(ranks.rank * n, (ranks.rank + 1) * n)
    image, text = image[mine].clone().requires_grad_(), text[mine].clone().requires_grad_()
    scale = torch.tensor(SCALE, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(BIAS, dtype=torch.float64, requires_grad=True)
    entry = registry.find(identity, "objective")
    loss = contrast(entry, options, image, text, scale, bias, torch.tensor(concept)[mine], {}, ranks)
    loss.total.backward()
    bias_grad = torch.zeros(()) if bias.grad is None else bias.grad
    assert image.grad is not None
    assert text.grad is not None
    assert scale.grad is not None
    return [t.detach().numpy() for t in (loss.total, image.grad, text.grad, scale.grad, bias_grad)]


@pytest.mark.parametrize("concepts", CONCEPTS, ids=str)
@pytest.mark.parametrize(("identity", "options"), variants())
def test_two_ranks_equal_one(identity, options, concepts, two_ranks):
    concept = CONCEPTS[concepts]
    one = on_this_rank(identity, options, concept)
    two = two_ranks(on_this_rank, identity, options, concept)
    # The engine averages ranks: values and shared parameters by the mean; a row's gradient is halved by that mean.
    for index in (0, 3, 4):
        np.testing.assert_allclose((two[0][index] + two[1][index]) / 2, one[index], atol=1e-12)
    for index in (1, 2):
        np.testing.assert_allclose(np.concatenate([two[0][index], two[1][index]]) / 2, one[index], atol=1e-12)


@pytest.mark.parametrize("identity", IDS)
def test_chance_is_the_loss_of_rows_that_tell_nothing(identity):
    n = 6
    flat = [[1.0, 0.0]] * n
    bias = -float(np.log(n - 1))
    told = registry.find(identity, "objective").load().chance(n)
    assert told == pytest.approx(reference(identity).reference(flat, flat, list(range(n)), 0.0, bias), abs=1e-12)


def test_cards_are_complete():
    assert {"clip", "siglip"} <= set(IDS)
    for identity in IDS:
        module = registry.find(identity, "objective").load()
        assert module.CARD.paper
        assert module.CARD.where
        assert set(module.Options.model_fields) >= set().union(*map(set, reference(identity).OPTIONS))
