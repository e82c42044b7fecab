"""The selective-scan tower against its float64 loop, by finite differences, and at its seams."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diptych.core.errors import UsageError
from diptych.tokens.random_mask import random_mask
from diptych.towers.build import build_image_tower, parse_image_config
from diptych.towers.mamba_clip import Mamba, MambaConfig
from diptych.towers.scan import CHUNK, selective_scan

SMALL = MambaConfig(image_size=(16, 24), patch=8, width=5, depth=2, expand=2, state=3, conv=3, rank=2)
SCANS = ("bidirectional", "cross")


@pytest.fixture(scope="module")
def twin():
    path = Path(__file__).parents[2] / "reference" / "mamba_clip.py"
    spec = importlib.util.spec_from_file_location("reference_mamba_clip", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tower(scan: str, **changes) -> Mamba:
    """A float64 tower whose every parameter is random."""
    made = build_image_tower(parse_image_config({**SMALL.model_dump(), "scan": scan, **changes})).double()
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in made.parameters():
            value.add_(torch.randn(value.shape, generator=draw, dtype=torch.float64) * 0.3)
    assert isinstance(made, Mamba)
    return made.eval()


def parts(length: int, draw: int = 0) -> list[Tensor]:
    """x, dt, A, B, C of two orders and three rows."""
    generator = torch.Generator().manual_seed(draw)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return [
        normal(2, length, 3, 4),
        normal(2, length, 3, 4).abs(),
        -normal(2, 5, 4).abs(),
        normal(2, length, 3, 5),
        normal(2, length, 3, 5),
    ]


@pytest.mark.parametrize("scan", SCANS)
def test_mixer_equals_its_reference(twin, scan: str) -> None:
    mixer = tower(scan).blocks[0].mixer
    x_BTD = torch.randn(2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = {name.removesuffix(".weight"): value.tolist() for name, value in mixer.state_dict().items()}
    found = mixer(x_BTD)
    for row in range(2):
        wanted = torch.tensor(twin.reference(x_BTD[row].tolist(), weights, SMALL.grid, scan), dtype=torch.float64)
        torch.testing.assert_close(found[row], wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("length", [1, CHUNK, 2 * CHUNK + 3])
def test_scan_equals_its_reference_at_every_length(twin, length: int) -> None:
    x, dt, a, b, c = parts(length)
    found = selective_scan(x, dt, a, b, c)
    for k in range(2):
        for row in range(3):
            wanted = twin.scan(x[k, :, row].tolist(), dt[k, :, row].tolist(), a[k].tolist(), b[k, :, row].tolist(), c[k, :, row].tolist())
            torch.testing.assert_close(found[k, :, row], torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("length", [3, CHUNK + 2])
def test_scan_gradient_is_the_finite_difference(length: int) -> None:
    assert torch.autograd.gradcheck(selective_scan, [part.requires_grad_() for part in parts(length)])


def test_scan_stays_finite_where_everything_is_forgotten_or_nothing_is() -> None:
    x, dt, a, b, c = parts(40)
    for factor in (1e-9, 1e4):
        inputs = [part.float().requires_grad_() for part in (x, dt * factor, a, b, c)]
        out = selective_scan(*inputs)
        out.square().sum().backward()
        assert torch.isfinite(out).all()
        assert all(part.grad is not None and torch.isfinite(part.grad).all() for part in inputs)


def test_scan_is_float32_inside_a_bfloat16_run() -> None:
    inputs = parts(20)
    with torch.autocast("cpu", torch.bfloat16):
        found = selective_scan(*(part.float() for part in inputs))
    torch.testing.assert_close(found.double(), selective_scan(*inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scan", SCANS)
def test_tower_gives_its_normed_tokens_and_their_mean(scan: str) -> None:
    made = tower(scan)
    pixels = torch.randn(2, 3, 16, 24, dtype=torch.float64)
    row_BD, _ = made(pixels)
    same_BD, taps = made(pixels, taps={"image.tokens"})
    assert taps["image.tokens"].shape == (2, 6, 5)
    assert torch.equal(row_BD, same_BD)
    assert torch.allclose(taps["image.tokens"].mean(1), row_BD)


@pytest.mark.parametrize("scan", SCANS)
def test_every_token_reaches_every_other(scan: str) -> None:
    made = tower(scan)
    pixels = torch.randn(1, 3, 16, 24, dtype=torch.float64, requires_grad=True)
    tokens = made.embed(pixels)
    tokens.x_BTD.retain_grad()
    y_BTD = made.blocks[0](tokens.x_BTD)
    for token in range(6):
        (seen,) = torch.autograd.grad(y_BTD[0, token].sum(), tokens.x_BTD, retain_graph=True)
        assert (seen[0].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("scan", SCANS)
def test_every_parameter_gets_a_gradient(scan: str) -> None:
    made = tower(scan).train()
    made(torch.randn(2, 3, 16, 24, dtype=torch.float64))[0].square().sum().backward()
    assert [name for name, value in made.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_dropped_tokens_go_with_rows_and_not_with_columns() -> None:
    drop = random_mask(ratio=0.5, device=torch.device("cpu"))
    pixels = torch.randn(2, 3, 16, 24, dtype=torch.float64)
    _, taps = tower("bidirectional")(pixels, tokens=drop, taps={"image.tokens"})
    assert taps["image.tokens"].shape == (2, 3, 5)
    with pytest.raises(UsageError, match="cross scan"):
        tower("cross")(pixels, tokens=drop)


def test_other_sizes_work_where_rows_are_read_and_bad_ones_are_refused() -> None:
    assert tower("bidirectional")(torch.randn(1, 3, 32, 32, dtype=torch.float64))[0].shape == (1, 5)
    with pytest.raises(UsageError, match="multiples of 8"):
        tower("bidirectional")(torch.randn(1, 3, 20, 24, dtype=torch.float64))
    with pytest.raises(UsageError, match="image_size"):
        parse_image_config({**SMALL.model_dump(), "image_size": (17, 24)})


def test_initial_steps_and_decays_are_mamba_s() -> None:
    mixer = Mamba(SMALL.model_copy(update={"width": 64})).blocks[0].mixer
    first = torch.nn.functional.softplus(mixer.step_bias)
    assert first.min() >= 1e-3 * 0.999
    assert first.max() <= 1e-1 * 1.001
    assert first.max() > 20 * first.min()
    assert torch.allclose(-mixer.log_a.exp()[0, :, 0], -torch.tensor([1.0, 2.0, 3.0]))
