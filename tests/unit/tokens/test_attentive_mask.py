"""A-CLIP's mask: its scores against attention computed token by token, what stays, and its look in training."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.core.types import Tokens
from diptych.tokens.a_clip import a_clip, scored
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset

TWIN = runpy.run_path(str(Path(__file__).parents[2] / "reference" / "a_clip.py"))["masked"]
PIXELS = torch.randint(0, 256, (3, 3, 32, 32), generator=generator(0, "pixels"), dtype=torch.uint8)


def attentions(tower, pixels_BCHW: torch.Tensor) -> list:
    """Attention of the class token to the patches, image × layer × head × patch, in float64 loops."""
    x_BTD, found = tower.embed(pixels_BCHW).x_BTD.double(), []
    tower = tower.double()
    for block in tower.blocks:
        q_BTD, k_BTD, _ = block.attention.qkv(block.norm1(x_BTD)).chunk(3, dim=-1)
        size = q_BTD.shape[-1] // block.attention.heads
        layer = []
        for head in range(block.attention.heads):
            part = slice(head * size, (head + 1) * size)
            logits_BT = torch.stack([(q_BTD[:, 0, part] * k_BTD[:, t, part]).sum(1) for t in range(x_BTD.shape[1])], dim=1)
            layer.append((logits_BT / size**0.5).softmax(1)[:, 1:])
        found.append(layer)
        x_BTD = block(x_BTD)
    tower.float()
    return [[[head[row].tolist() for head in layer] for layer in found] for row in range(len(pixels_BCHW))]


@pytest.mark.parametrize(("resolution", "grid"), [(1.0, (4, 4)), (0.5, (2, 2)), (0.7, (3, 3))])
@torch.no_grad()
def test_the_mask_is_its_twin(resolution, grid):
    model = DualEncoder(preset("tiny")).eval()
    for block in model.image.blocks:  # sharper than at the start, so that patches differ
        block.attention.qkv.weight.mul_(4.0)  # type: ignore[union-attr, operator]
    small = F.interpolate(model.normalise(PIXELS), size=(grid[0] * 8, grid[1] * 8), mode="bilinear", antialias=True)
    small = model.normalise(PIXELS) if resolution == 1.0 else small
    told = attentions(model.image, small)
    made = a_clip(ratio=0.5, resolution=resolution)
    made.look(SimpleNamespace(ema=model, image_BCHW=PIXELS))
    assert made.score_BHW is not None
    assert made.score_BHW.shape == (3, *grid)
    after = made.after_embed(model.image.embed(model.normalise(PIXELS)))
    assert after.kept_BT is not None
    for row in range(3):
        assert after.kept_BT[row].tolist() == TWIN(told[row], grid, (4, 4), 0.5)


@torch.no_grad()
def test_scores_are_shares_and_the_pooled_row_is_the_towers():
    model = DualEncoder(preset("tiny")).eval()
    score_BHW, pooled_BW = scored(model, PIXELS, 1.0)
    assert (score_BHW.flatten(1).sum(1) < 1).all()
    torch.testing.assert_close(pooled_BW, model.image(model.normalise(PIXELS))[0], atol=1e-5, rtol=0)


def test_what_is_attended_stays():
    made = a_clip(ratio=0.75)
    made.score_BHW = torch.tensor([[[0.0, 9.0], [1.0, 0.0]]])
    x_BTD = torch.tensor([[[7.0], [0.0], [1.0], [2.0], [3.0]]])
    assert made.after_embed(Tokens(x_BTD, 1, (2, 2))).x_BTD.flatten().tolist() == [7.0, 1.0]


def test_it_works_in_training_only():
    tokens = Tokens(torch.zeros(2, 5, 3), 1, (2, 2))
    with pytest.raises(UsageError, match=r"'a-clip'.*has not looked"):
        a_clip().after_embed(tokens)
    made = a_clip()
    made.score_BHW = torch.rand(3, 2, 2)
    with pytest.raises(UsageError, match="has not looked at these"):
        made.after_embed(tokens)


def test_momentum_rises_along_half_a_cosine():
    assert [a_clip(momentum=0.9).momentum(share) for share in (0.0, 0.5, 1.0)] == pytest.approx([0.9, 0.95, 1.0])


def test_a_tower_without_class_token_is_refused():
    model = DualEncoder(preset("mini-32")).eval()
    with pytest.raises(UsageError, match=r"'a-clip' with image tower 'hybrid'.*no class token"):
        model.image_features(PIXELS, tokens=a_clip())
