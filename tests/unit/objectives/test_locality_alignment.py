"""Locality alignment: masks, what teacher and decoder may see, and a few steps on scenes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from few_scenes import few_scenes, squashing

from diptych.core.errors import UsageError
from diptych.objectives.post.locality_alignment import Method, Options, draw_masks, hide, sequence
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset
from diptych.towers.see import See


def test_masks_come_with_their_complement_at_every_rate():
    mask = draw_masks(4000, 9, torch.Generator().manual_seed(0))
    assert mask.shape == (4000, 3, 9)
    assert (mask[:, 0] + mask[:, 1] == 1).all()
    assert (mask[:, 2] == 1).all()
    kept = mask[:, 0].sum(1)
    shares = torch.bincount(kept.long(), minlength=10) / 4000
    # u is as likely to be the k-th smallest of ten numbers for every k
    assert (shares - 0.1).abs().max() < 5 * (0.09 / 4000) ** 0.5


def test_hidden_pixels_are_zero_and_the_rest_untouched():
    pixels = torch.arange(1.0, 51.0).reshape(1, 1, 5, 10)
    mask = torch.tensor([[[1.0, 0.0, 0.0, 1.0]]])
    (view,) = hide(pixels, mask, (2, 2))
    assert torch.equal(view[0, :2, :5], pixels[0, 0, :2, :5])
    assert torch.equal(view[0, 2:4, 5:], pixels[0, 0, 2:4, 5:])
    assert view[0].count_nonzero() == 20


def see_of(model: DualEncoder, seed: int) -> See:
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return See(model, pixels, None, torch.Generator().manual_seed(seed), teacher=model)


def test_the_target_is_the_sequence_before_the_last_block():
    model = squashing()
    pixels = torch.randn(2, 3, 32, 32)
    x = model.image.embed(pixels).x_BTD
    torch.testing.assert_close(sequence(model.image, pixels, 2), x)
    torch.testing.assert_close(sequence(model.image, pixels, 1), model.image.blocks[0](x))
    assert not sequence(model.image, pixels, 0).requires_grad


def test_the_decoder_sees_no_masked_patch():
    model = squashing()
    decoder = Method(model, Options()).decoder
    patch, mask = torch.randn(1, 16, 32), draw_masks(1, 16, torch.Generator().manual_seed(2))
    assert 0 < mask[0, 0].sum() < 16
    told = decoder(patch, mask)
    assert told.shape == (1, 3, 17, 32)
    other = torch.where(mask[0, 0, :, None] > 0, patch[0], torch.randn(16, 32))[None]
    torch.testing.assert_close(decoder(other, mask)[:, 0], told[:, 0])
    assert not torch.allclose(decoder(other, mask)[:, 1], told[:, 1])


def test_rows_are_those_of_a_step_and_the_whole_view_is_the_teachers():
    model = squashing()
    method = Method(model, Options(pooled_weight=1.0))
    rows = method.rows(see_of(model, 5))
    again = method.rows(see_of(model, 5))
    assert all(torch.equal(rows[name], again[name]) for name in rows)
    assert not torch.equal(rows["seen"], method.rows(see_of(model, 6))["seen"])
    see = see_of(model, 5)
    torch.testing.assert_close(rows["seen"][:, 2], sequence(model.image, model.normalise(see.image_BCHW), 1))
    torch.testing.assert_close(rows["row"], rows["row_seen"])
    assert not rows["row_seen"].requires_grad


def test_it_trains_the_tower_and_the_decoder_and_leaves_the_teacher():
    taught = few_scenes("locality-alignment", steps=60)
    assert all(taught.moved().values())
    assert taught.losses[-1] < 0.5 * taught.losses[0]
    teacher = taught.stepper.encoder._aside[2]
    fresh = squashing()
    for mine, first in zip(teacher.image.parameters(), fresh.image.parameters(), strict=True):
        assert torch.equal(mine, first)
    moved = [not torch.equal(p, q) for p, q in zip(taught.stepper.model.image.parameters(), fresh.image.parameters(), strict=True)]
    assert sum(moved) > len(moved) / 2
    texts = zip(taught.stepper.model.text.parameters(), fresh.text.parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in texts)


def test_towers_without_transformer_blocks_and_token_methods_are_refused():
    with pytest.raises(UsageError, match="transformer blocks"):
        Method(DualEncoder(preset("study-conv")), Options())
    with pytest.raises(UsageError, match="transformer blocks"):
        Method(squashing(), Options(skip=2))
    method = Method(squashing(), Options())
    see = see_of(squashing(), 0)
    with pytest.raises(UsageError, match="token method"):
        method.rows(replace(see, tokens=object()))  # type: ignore[arg-type]
