"""The SparseFormer tower: regions, sampling and mixing by hand and by loops, and what a bootstrapped model inherits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.tokens.evit import evit
from diptych.towers.build import build_image_tower
from diptych.towers.dual import DualEncoder
from diptych.towers.formats.load import load
from diptych.towers.formats.native import save_native
from diptych.towers.presets import preset
from diptych.towers.sparseformer import Glance, SparseFormerConfig, _first_regions, adjusted, bootstrap, encoded, places

SMALL: dict[str, Any] = {
    "tokens": 5,
    "stem": 8,
    "points": 4,
    "focus_width": 16,
    "focus_heads": 2,
    "repeats": 2,
    "mixer": 8,
    "stem_stride": 2,
}
CONFIG = SparseFormerConfig(image_size=(32, 32), width=32, depth=2, heads=2, mlp=64, **SMALL)
PIXELS = torch.randint(0, 256, (3, 3, 32, 32), generator=generator(0, "pixels"), dtype=torch.uint8)


def test_regions_move_by_their_size_and_grow_by_exponentials():
    region = torch.tensor([[[0.2, 0.4, 0.6, 0.6]]])
    moved = adjusted(region, torch.tensor([[[0.5, -1.0, math.log(2.0), 0.0]]]))
    torch.testing.assert_close(moved, torch.tensor([[[0.2, 0.2, 1.0, 0.4]]]))
    torch.testing.assert_close(adjusted(region, torch.zeros(1, 1, 4)), region)


def test_places_spread_over_a_third_of_the_region_each_way():
    offset = torch.tensor([[[[-1.0, -5.0], [1.0, 5.0], [-1.0, 5.0], [1.0, -5.0]]]])
    found = places(torch.tensor([[[0.0, 0.5, 0.6, 1.0]]]), offset)
    wanted = torch.tensor([[0.1, 0.75 - 0.5 / 3], [0.5, 0.75 + 0.5 / 3], [0.1, 0.75 + 0.5 / 3], [0.5, 0.75 - 0.5 / 3]])
    torch.testing.assert_close(found[0, 0], wanted, atol=1e-4, rtol=0)


def test_first_regions_cover_the_picture():
    four = _first_regions(5)
    assert four[:4].tolist() == [[0.0, 0.0, 0.5, 0.5], [0.5, 0.0, 1.0, 0.5], [0.0, 0.5, 0.5, 1.0], [0.5, 0.5, 1.0, 1.0]]
    assert four[4].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert _first_regions(1).tolist() == [[0.25, 0.25, 0.75, 0.75]]


def test_regions_that_differ_are_encoded_apart():
    codes = encoded(torch.rand(1, 6, 4, generator=generator(0, "regions")), 64)[0]
    assert codes.shape == (6, 64)
    assert (torch.cdist(codes, codes) + torch.eye(6) * 9).min() > 0.5
    torch.testing.assert_close(codes[:, :32] ** 2 + codes[:, 32:] ** 2, torch.ones(6, 32))


def test_a_glance_is_its_loop():
    """Bilinear samples, then both mixings, token by token in plain loops."""
    glance = Glance(16, 3, 4, 8, 1e-5)
    draw = generator(0, "glance")
    with torch.no_grad():
        for value in glance.parameters():
            value.add_(torch.randn(value.shape, generator=draw) * 0.1)
    map_BCHW, x_BND = torch.randn(2, 3, 6, 5, generator=draw), torch.randn(2, 3, 16, generator=draw)
    region = torch.rand(2, 3, 2, generator=draw)
    region_BN4 = torch.cat([region * 0.5, region * 0.5 + 0.4], dim=2)
    found = glance(map_BCHW, x_BND, region_BN4)

    def bilinear(picture, x: float, y: float) -> torch.Tensor:
        row, column = min(max(y * 6 - 0.5, 0.0), 5.0), min(max(x * 5 - 0.5, 0.0), 4.0)
        r, c = min(int(row), 4), min(int(column), 3)
        a, b = row - r, column - c
        top = (1 - b) * picture[:, r, c] + b * picture[:, r, c + 1]
        return (1 - a) * top + a * ((1 - b) * picture[:, r + 1, c] + b * picture[:, r + 1, c + 1])

    for batch in range(2):
        for token in range(3):
            x_D, box = x_BND[batch, token], region_BN4[batch, token]
            offset_P2 = glance.place(glance.place_norm(x_D)).view(4, 2)
            weights = glance.mix_out(glance.mix_in(glance.mix_norm(x_D)))
            at = places(box[None, None], offset_P2[None, None])[0, 0].tolist()
            sample_PC = torch.stack([bilinear(map_BCHW[batch], x, y) for x, y in at])
            mixed = F.gelu(weights[9:].view(4, 4) @ F.gelu(sample_PC @ weights[:9].view(3, 3)))
            after = x_D + glance.out(mixed.flatten())
            after = after + glance.where(glance.where_norm(encoded(box[None, None], 16)[0, 0]))
            torch.testing.assert_close(found[batch, token], after, atol=1e-4, rtol=1e-4)


def test_few_tokens_reach_the_blocks_and_everything_learns():
    tower = build_image_tower(CONFIG)
    with torch.no_grad():  # what starts at zero hides what stands before it
        for value in tower.parameters():
            value.add_(torch.randn(value.shape, generator=generator(0, "noise", *value.shape)) * 0.05)
    x = torch.randn(2, 3, 32, 32, generator=generator(0, "x"))
    assert tower.embed(x).x_BTD.shape == (2, 6, 32)
    rows, taps = tower(x, taps=frozenset({"image.tokens"}))
    assert taps["image.tokens"].shape == (2, 5, 32)
    torch.testing.assert_close(tower(x)[0], rows, atol=1e-5, rtol=0)
    tower(x)[0].square().sum().backward()
    assert not [name for name, value in tower.named_parameters() if value.grad is None or not value.grad.any()]
    assert tower(x, tokens=evit(keep=0.6))[0].shape == (2, 32)


def test_what_a_bootstrapped_model_inherits(tmp_path):
    teacher = DualEncoder(preset("tiny"), seed=3)
    model = bootstrap(teacher, skip=1, **SMALL)
    assert len(model.image.blocks) == 1
    for ours, theirs in (
        (model.image.get_submodule("blocks.0"), teacher.image.get_submodule("blocks.1")),
        (model.image.get_submodule("norm"), teacher.image.get_submodule("norm")),
        (model.text, teacher.text),
    ):
        for name, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value)
    assert torch.equal(model.encode_text(["a cat"]), teacher.encode_text(["a cat"]))
    assert model.config.parent == "tiny"
    first = teacher.image.embed(teacher.normalise(PIXELS)).x_BTD[0, 0]
    torch.testing.assert_close(model.image.class_token, first)
    again = load(str(save_native(model, tmp_path / "model")))
    torch.testing.assert_close(again.encode_image(PIXELS), model.encode_image(PIXELS))


def test_what_cannot_be_bootstrapped_is_said():
    with pytest.raises(UsageError, match=r"'hybrid'.*no ViT that pools a class token|not a ViT"):
        bootstrap(DualEncoder(preset("mini-32")))
    with pytest.raises(UsageError, match="has 2 blocks"):
        bootstrap(DualEncoder(preset("tiny")), skip=2)
    for wrong in ({"points": 5}, {"focus_heads": 3}, {"focus_width": 12, "focus_heads": 2}):
        with pytest.raises(ValidationError):
            SparseFormerConfig(image_size=(32, 32), width=32, depth=1, heads=2, mlp=64, **{**SMALL, **wrong})
