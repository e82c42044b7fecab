"""ViTamin's blocks against their float64 loops, and its sizes against the published ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from diptych.core.errors import UsageError
from diptych.towers.base import count_parameters
from diptych.towers.build import build_image_tower
from diptych.towers.hybrid import InvertedResidual
from diptych.towers.layers import GatedMlp
from diptych.towers.presets import preset
from diptych.towers.vitamin import vitamin

PUBLISHED = {"small": 22.0e6, "base": 87.5e6}  # table 2 of the paper


@pytest.fixture(scope="module")
def twin():
    path = Path(__file__).parents[2] / "reference" / "vitamin.py"
    spec = importlib.util.spec_from_file_location("reference_vitamin", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@torch.no_grad()
@pytest.mark.parametrize(("out", "stride"), [(4, 1), (6, 2), (4, 2)])
def test_inverted_residual_equals_its_reference(twin, out: int, stride: int) -> None:
    torch.manual_seed(0)
    block = InvertedResidual(4, out, stride, 2, "gelu", 1e-6).double()
    for value in block.parameters():
        value.add_(torch.randn_like(value) * 0.3)
    layers = {name: getattr(block, name) for name in ("expand", "depthwise", "project", "shortcut")}
    weights = {name: layer.weight.squeeze().tolist() if out != 4 or name != "shortcut" else None for name, layer in layers.items()}
    weights |= {f"{name}_bias": layer.bias.tolist() for name, layer in layers.items() if weights[name] is not None}
    weights |= {"gain": block.norm.weight.tolist(), "shift": block.norm.bias.tolist()}
    x_BCHW = torch.randn(1, 4, 4, 6, dtype=torch.float64)
    wanted = twin.inverted_residual(x_BCHW[0].permute(1, 2, 0).tolist(), weights, stride, 1e-6)
    found = block(x_BCHW)[0].permute(1, 2, 0)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-11, atol=1e-12)


@torch.no_grad()
def test_gated_mlp_equals_its_reference(twin) -> None:
    torch.manual_seed(0)
    mlp = GatedMlp(5, 7, "gelu").double()
    gate, value = zip(*((part.tolist() for part in layer.chunk(2)) for layer in (mlp.up.weight, mlp.up.bias)), strict=True)
    x_BD = torch.randn(3, 5, dtype=torch.float64)
    for row in range(3):
        wanted = twin.gated_mlp(x_BD[row].tolist(), gate, value, mlp.down.weight.tolist(), mlp.down.bias.tolist())
        torch.testing.assert_close(mlp(x_BD)[row], torch.tensor(wanted, dtype=torch.float64), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_sizes_have_the_published_number_of_parameters(size: str) -> None:
    with torch.device("meta"):
        tower = build_image_tower(vitamin(size))
    assert count_parameters(tower) == pytest.approx(PUBLISHED[size], rel=0.01)


def test_study_size_is_that_of_the_plain_transformer_it_is_held_against() -> None:
    ours, plain = (build_image_tower(preset(name).image) for name in ("study-vitamin", "study-vit"))
    assert count_parameters(ours) == pytest.approx(count_parameters(plain), rel=0.03)
    assert ours.config.grid == plain.config.grid


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(UsageError, match="large"):
        vitamin("larg")
