"""What every objective must show, on pairs or on views; runs for each one that the registry finds."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from diptych.core import registry
from diptych.core.rng import generator
from diptych.core.types import Pairs
from diptych.engine.options import OBJECTIVES
from diptych.engine.parallel import Ranks, contrast

IDS = [entry.id for entry in registry.entries() if entry.family in OBJECTIVES]
SCALE, BIAS, N = 7.5, -2.0, 6
CONCEPTS = {"unique": [0, 1, 2, 3, 4, 5], "repeated": [4, 1, 4, 2, 1, 4], "all equal": [9] * 6}
NEEDS = {"bias", "ema", "teacher", "image.tokens", "text.tokens", "image.pooled", "text.pooled"}


def twin_file(identity: str) -> Path:
    """Where the naive twin of an objective stands; tests/rules asks that it is there."""
    return Path(__file__).parents[1] / "reference" / f"{identity.replace('-', '_')}.py"


def reference(identity: str) -> Any:
    """The module of the naive twin in tests/reference."""
    path = twin_file(identity)
    spec = importlib.util.spec_from_file_location(f"reference_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def variants() -> list[Any]:
    return [pytest.param(i, o, id=f"{i}-{o or 'plain'}") for i in IDS if twin_file(i).exists() for o in reference(i).OPTIONS]


def rows(n: int = N, d: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = generator(seed, "rows")
    return tuple(F.normalize(torch.randn(n, d, generator=draw, dtype=torch.float64), dim=1) for _ in range(2))  # type: ignore[return-value]


def further(identity: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Per-row material and state of the method's reference; empty where it has none."""
    twin, draw = reference(identity), generator(0, "material")
    taps = twin.material(N, draw) if hasattr(twin, "material") else {}
    return taps, twin.state(draw) if hasattr(twin, "state") else {}


def pairs_of(identity: str, image, text, concept, scale=None, bias=None, taps=None, state=None) -> Pairs:
    """One rank's rows with the material of the method's reference."""
    own, held = further(identity)
    scale = torch.tensor(SCALE, dtype=torch.float64) if scale is None else scale
    bias = torch.tensor(BIAS, dtype=torch.float64) if bias is None else bias
    taps, state = own if taps is None else taps, held if state is None else state
    return Pairs(image, text, image, text, 0, scale, bias, concept, concept, taps, {}, state)


def value(identity: str, options: dict, pairs: Pairs, ranks: Ranks | None = None) -> Any:
    """The objective through the same door that the engine uses."""
    entry = registry.find(identity, *OBJECTIVES)
    module = entry.load()
    one = Ranks(0, 1, 0, torch.device("cpu"))
    columns = getattr(module, "COLUMNS", frozenset())
    return contrast(lambda p: entry.function(p, **options), pairs, ranks or one, blockwise=module.CARD.blockwise, columns=columns)


def told(identity: str, options: dict, image, text, concept: list[int], scale=SCALE, taps=None) -> float:
    """The reference's answer, from nested lists."""
    own, state = further(identity)
    taps = own if taps is None else taps
    more: dict[str, Any] = {"taps": {name: t.tolist() for name, t in taps.items()}} if own else {}
    more |= {"state": {name: t.tolist() for name, t in state.items()}} if state else {}
    return reference(identity).reference(image.tolist(), text.tolist(), concept, scale, BIAS, **more, **options)


@pytest.mark.parametrize("concepts", CONCEPTS, ids=str)
@pytest.mark.parametrize(("identity", "options"), variants())
def test_equals_reference(identity, options, concepts):
    image, text = rows()
    concept = CONCEPTS[concepts]
    ours = value(identity, options, pairs_of(identity, image, text, torch.tensor(concept)))
    theirs = told(identity, options, image, text, concept)
    assert ours.total.item() == pytest.approx(theirs, rel=1e-10, abs=1e-12)
    assert sum(t.item() for t in ours.terms.values()) == pytest.approx(theirs, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(("identity", "options"), variants())
def test_gradient_equals_differences_of_the_reference(identity, options):
    """Also of every tap, except those that the reference's ``STOPPED`` says get none."""
    image, text = rows()
    concept, taps = CONCEPTS["repeated"], further(identity)[0]
    stopped = getattr(reference(identity), "STOPPED", frozenset())
    leaves = {"image": image, "text": text} | {name: t for name, t in taps.items() if t.is_floating_point()}
    leaves = {name: t.clone().requires_grad_() for name, t in leaves.items()}
    scale = torch.tensor(SCALE, dtype=torch.float64, requires_grad=True)
    with_grad = {**taps, **{name: t for name, t in leaves.items() if name in taps}}
    value(
        identity, options, pairs_of(identity, leaves["image"], leaves["text"], torch.tensor(concept), scale=scale, taps=with_grad)
    ).total.backward()

    def at(name: str, place: tuple[int, ...], by: float) -> float:
        moved = {key: t.detach().clone() for key, t in {**with_grad, **leaves}.items()}
        moved[name][place] += by
        return told(identity, options, moved["image"], moved["text"], concept, taps={key: moved[key] for key in taps})

    h = 1e-5
    for name, leaf in leaves.items():
        for row in (0, 3, 5):
            place = (row, *(size // 2 for size in leaf.shape[1:]))
            slope = 0.0 if name in stopped else (at(name, place, h) - at(name, place, -h)) / (2 * h)
            got = 0.0 if leaf.grad is None else leaf.grad[place].item()
            assert got == pytest.approx(slope, rel=1e-6, abs=1e-8), name
    ends = [told(identity, options, image, text, concept, scale=SCALE + sign) for sign in (h, -h)]
    got = 0.0 if scale.grad is None else scale.grad.item()
    assert got == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("concepts", CONCEPTS, ids=str)
@pytest.mark.parametrize(("identity", "options"), variants())
def test_invariant_under_permutation(identity, options, concepts):
    image, text = rows()
    concept, taps = torch.tensor(CONCEPTS[concepts]), further(identity)[0]
    order = torch.randperm(N, generator=generator(1, "order"))
    straight = value(identity, options, pairs_of(identity, image, text, concept)).total
    turned = {name: t[order] for name, t in taps.items()}
    other = value(identity, options, pairs_of(identity, image[order], text[order], concept[order], taps=turned)).total
    torch.testing.assert_close(other, straight, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", ["scale 100", "equal rows", "opposite rows"])
@pytest.mark.parametrize(("identity", "options"), variants())
def test_finite_at_extremes(identity, options, case, dtype):
    image, text = rows(d=8)
    taps, state = further(identity)
    if case != "scale 100":
        image = image[:1].expand(6, 8).clone()
        text = image.clone() if case == "equal rows" else -image
        taps = {name: t[:1].expand_as(t).clone() for name, t in taps.items()}
    rows_of = {"image": image, "text": text} | taps
    given = {name: t.to(dtype).requires_grad_() if t.is_floating_point() else t for name, t in rows_of.items()}
    scale = torch.tensor(100.0, requires_grad=True)
    state = {name: t.float() if t.is_floating_point() else t for name, t in state.items()}
    pairs = pairs_of(
        identity,
        given["image"],
        given["text"],
        torch.arange(6),
        scale=scale,
        bias=torch.tensor(BIAS),
        taps={name: given[name] for name in taps},
        state=state,
    )
    if image.shape[1] != rows()[0].shape[1] and (taps or state):
        pairs = replace(pairs, image_BD=given["image"][:, :5], text_BD=given["text"][:, :5])
        pairs = replace(pairs, image_ND=pairs.image_BD, text_ND=pairs.text_BD)
    loss = value(identity, options, pairs)
    loss.total.backward()
    assert loss.total.dtype == torch.float32
    assert torch.isfinite(loss.total)
    grads = [t.grad for t in (*given.values(), scale) if t.grad is not None]
    assert grads
    for grad in grads:
        assert torch.isfinite(grad).all()


def on_this_rank(identity: str, options: dict, concept: list[int]) -> dict[str, np.ndarray]:
    """The value on this rank's half, and the gradients of its rows, its material and the scale."""
    ranks = Ranks.current()
    image, text = rows()
    taps = further(identity)[0]
    n = len(image) // ranks.world
    mine = slice(ranks.rank * n, (ranks.rank + 1) * n)
    given = {"image": image, "text": text} | taps
    given = {name: t[mine].clone().requires_grad_(t.is_floating_point()) for name, t in given.items()}
    scale = torch.tensor(SCALE, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(BIAS, dtype=torch.float64, requires_grad=True)
    pairs = pairs_of(
        identity, given["image"], given["text"], torch.tensor(concept)[mine], scale, bias, {name: given[name] for name in taps}
    )
    loss = value(identity, options, pairs, ranks)
    loss.total.backward()
    out = {f"row {name}": np.zeros(tuple(t.shape)) if t.grad is None else t.grad.numpy() for name, t in given.items()}
    shared = {"total": loss.total.detach(), "scale": scale.grad, "bias": bias.grad}
    return out | {name: np.zeros(()) if t is None else t.numpy() for name, t in shared.items()}


@pytest.mark.parametrize("concepts", CONCEPTS, ids=str)
@pytest.mark.parametrize(("identity", "options"), variants())
def test_two_ranks_equal_one(identity, options, concepts, two_ranks):
    concept = CONCEPTS[concepts]
    one = on_this_rank(identity, options, concept)
    two = two_ranks(on_this_rank, identity, options, concept)
    # The engine averages ranks: values and shared parameters by the mean; a row's gradient is halved by that mean.
    for name, whole in one.items():
        both = np.concatenate([two[0][name], two[1][name]]) / 2 if name.startswith("row ") else (two[0][name] + two[1][name]) / 2
        np.testing.assert_allclose(both, whole, rtol=1e-10, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("identity", IDS)
def test_chance_is_the_loss_of_rows_that_tell_nothing(identity):
    module = registry.find(identity, *OBJECTIVES).load()
    if module.chance(N) is None:
        return
    twin = reference(identity)
    if hasattr(twin, "flat"):  # the method's own rows that tell nothing
        assert module.chance(N) == pytest.approx(twin.flat(N), abs=1e-12)
        return
    flat = torch.tensor([[1.0, 0.0]] * N, dtype=torch.float64)
    bias = -float(np.log(N - 1))
    answer = twin.reference(flat.tolist(), flat.tolist(), list(range(N)), 0.0, bias)
    assert module.chance(N) == pytest.approx(answer, abs=1e-12)


def test_cards_are_complete():
    assert {"clip", "siglip"} <= set(IDS)
    for identity in IDS:
        module = registry.find(identity, *OBJECTIVES).load()
        assert module.CARD.paper
        assert module.CARD.where
        assert module.CARD.needs <= NEEDS, identity
        assert set(module.Options.model_fields) >= set().union(*map(set, reference(identity).OPTIONS))
