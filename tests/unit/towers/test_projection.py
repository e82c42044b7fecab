"""Projections against float64 loops, and configs that refuse what they would not read."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from diptych.core.rng import generator
from diptych.towers.projection import Mixture, ProjectionConfig, Residual, build_projection


def rows(*shape: int, name: str = "rows") -> torch.Tensor:
    return torch.randn(*shape, generator=generator(3, name))


@pytest.mark.parametrize("top_k", [None, 1, 3])
@pytest.mark.parametrize("centre", [False, True])
def test_mixture_is_the_weighted_sum_of_class_embeddings(top_k: int | None, centre: bool) -> None:
    layer = build_projection(ProjectionConfig(kind="mixture", classes=5, temperature=2.0, top_k=top_k, centre=centre), 4, 3)
    assert isinstance(layer, Mixture)
    if centre:
        layer.shift.centre.data.copy_(rows(3, name="centre"))
    x_BW = rows(6, 4)
    weight, bias, table = (p.double().tolist() for p in (layer.classifier.weight, layer.classifier.bias, layer.class_embeddings))
    for x_W, got in zip(x_BW.double().tolist(), layer(x_BW).tolist(), strict=True):
        logits = [sum(w * v for w, v in zip(weight[k], x_W, strict=True)) + bias[k] for k in range(5)]
        kept = sorted(range(5), key=lambda k: -logits[k])[: top_k or 5]
        powers = {k: math.exp(logits[k] / 2.0) for k in kept}
        for d in range(3):
            expected = sum(powers[k] * table[k][d] for k in kept) / sum(powers.values())
            expected -= layer.shift.centre[d].item() if centre else 0.0
            assert got[d] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"base": "linear", "bias": True}, {"base": "none"}, {"base": "none", "centre": True}, {"base": "mixture", "classes": 7}],
)
@pytest.mark.parametrize("hidden", [0, 16])
def test_residual_changes_nothing_before_training(options: dict, hidden: int) -> None:
    layer = build_projection(ProjectionConfig(kind="residual", hidden=hidden, **options), 8, 8).eval()
    assert isinstance(layer, Residual)
    x_BW = rows(5, 8)
    cosine = torch.cosine_similarity(layer(x_BW), layer.base(x_BW))
    assert torch.allclose(cosine, torch.ones(5), atol=1e-6)
    layer(x_BW).square().sum().backward()
    assert layer.head[-1].weight.grad.abs().sum() > 0


def test_centre_of_none_acts_on_unit_rows() -> None:
    layer = build_projection(ProjectionConfig(kind="none", centre=True), 2, 2)
    layer.centre.data.copy_(torch.tensor([0.5, 0.0]))
    assert torch.allclose(layer(torch.tensor([[3.0, 4.0]])), torch.tensor([[0.1, 0.8]]))


def test_linear_and_none() -> None:
    linear = build_projection(ProjectionConfig(bias=True), 4, 3)
    x_BW = rows(2, 4)
    assert torch.allclose(linear(x_BW), x_BW @ linear.weight.T + linear.bias)
    assert torch.equal(build_projection(ProjectionConfig(kind="none"), 4, 4)(x_BW), x_BW)
    with pytest.raises(ValueError, match="width 4"):
        build_projection(ProjectionConfig(kind="none"), 4, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "linear", "temperature": 2.0}, "temperature has no meaning"),
        ({"kind": "mixture"}, "needs classes"),
        ({"kind": "mixture", "classes": 3, "top_k": 4}, "top_k 4 exceeds 3"),
        ({"kind": "none", "bias": True}, "bias has no meaning"),
        ({"kind": "residual"}, "base belongs to"),
        ({"kind": "linear", "base": "none"}, "base belongs to"),
        ({"kind": "linear", "hidden": 8}, "belong to kind 'residual'"),
        ({"kind": "residual", "base": "none", "dropout": 0.5}, "hidden > 0"),
        ({"kind": "residual", "base": "none", "classes": 5}, "classes has no meaning"),
        ({"kind": "linear", "wat": 1}, "wat"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ProjectionConfig(**options)
