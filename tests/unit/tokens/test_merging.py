"""ToMe, PiToMe and EViT against their naive twins and hand-worked cases; how many tokens are left where."""

from __future__ import annotations

import itertools
import runpy
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.core.types import Middle, Tokens
from diptych.tokens.evit import Options as EvitOptions
from diptych.tokens.evit import evit
from diptych.tokens.parts.counts import counts
from diptych.tokens.pitome import Options as PitomeOptions
from diptych.tokens.pitome import energies, pitome
from diptych.tokens.tome import Options as TomeOptions
from diptych.tokens.tome import tome
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset

REFERENCE = Path(__file__).parents[2] / "reference"
TWINS = {name: runpy.run_path(str(REFERENCE / f"{name}.py"))["reference"] for name in ("tome", "pitome", "evit")}


def drawn(patches: int, prefix: int = 1, sized: bool = True) -> tuple[Tokens, torch.Tensor, torch.Tensor]:
    """Float64 tokens with sizes, keys, and the class token's attention."""
    draw = generator(patches, "drawn", prefix)
    x_BTD = torch.randn(3, prefix + patches, 4, generator=draw, dtype=torch.float64)
    size_BT = torch.randint(1, 4, (3, patches), generator=draw).float() if sized else None
    keys = torch.randn(3, prefix + patches, 3, generator=draw)
    attention = torch.rand(3, prefix + patches, generator=draw).softmax(1)
    return Tokens(x_BTD, prefix, (1, patches), size_BT), keys, attention


def same(after: Tokens, before: Tokens, row: int, tokens: list, sizes: list) -> None:
    wanted = torch.cat([before.x_BTD[row, : before.prefix], torch.tensor(tokens, dtype=torch.float64)])
    torch.testing.assert_close(after.x_BTD[row], wanted, atol=1e-6, rtol=0)
    assert after.size_BT is not None
    assert after.size_BT[row].tolist() == pytest.approx(sizes)


@pytest.mark.parametrize(("patches", "prefix", "r"), [(8, 1, 1), (8, 0, 4), (9, 1, 4), (12, 5, 3), (2, 1, 1)])
def test_tome_is_its_twin(patches, prefix, r):
    before, keys, _ = drawn(patches, prefix)
    after = tome(r=r).between(before, Middle(0, 3, keys))
    assert after.x_BTD.shape[1] == prefix + patches - r
    for row in range(3):
        patch, size, key = (t[row, -patches:].tolist() for t in (before.x_BTD, before.size_BT, keys))  # type: ignore[index]
        same(after, before, row, *TWINS["tome"](patch, size, key, r))


@pytest.mark.parametrize("block", [0, 2])
@pytest.mark.parametrize(("patches", "prefix", "keep"), [(8, 1, 0.5), (8, 0, 0.8), (9, 1, 0.6), (12, 5, 0.75)])
def test_pitome_is_its_twin(patches, prefix, keep, block):
    before, keys, _ = drawn(patches, prefix)
    after = pitome(keep=keep, alpha=0.7).between(before, Middle(block, 3, keys))
    merges = int(patches * (1 - keep) + 1e-9)
    assert after.x_BTD.shape[1] == prefix + patches - merges
    for row in range(3):
        patch, size, key = (t[row, -patches:].tolist() for t in (before.x_BTD, before.size_BT, keys))  # type: ignore[index]
        same(after, before, row, *TWINS["pitome"](patch, size, key, merges, block, 3, alpha=0.7))


@pytest.mark.parametrize(("patches", "prefix", "keep"), [(8, 1, 0.5), (10, 1, 0.7), (9, 3, 0.1)])
def test_evit_is_its_twin(patches, prefix, keep):
    before, _, attention = drawn(patches, prefix)
    after = evit(keep=keep).between(before, Middle(1, 4, class_BT=attention))
    for row in range(3):
        patch, size, weight = (t[row, -patches:].tolist() for t in (before.x_BTD, before.size_BT, attention))  # type: ignore[index]
        tokens, sizes, _ = TWINS["evit"](patch, size, weight, keep)
        same(after, before, row, tokens, sizes)
    assert not after.proportional


def test_evit_without_fusion_keeps_the_attentive_ones_as_they_are():
    before, _, attention = drawn(10, sized=False)
    after = evit(keep=0.5, fuse=False).between(before, Middle(1, 4, class_BT=attention))
    for row in range(3):
        _, _, kept = TWINS["evit"](before.x_BTD[row, 1:].tolist(), [1.0] * 10, attention[row, 1:].tolist(), 0.5)
        assert after.kept_BT is not None
        assert after.kept_BT[row].tolist() == kept
        assert torch.equal(after.x_BTD[row, 1:], before.x_BTD[row, 1:][kept])


def test_tome_by_hand():
    """Patches at 0°, 0°, 90°, 80°: 0 and 1 are the most alike, then 2 and 3."""
    angle = torch.tensor([0.0, 0.0, 90.0, 80.0]).deg2rad()
    keys = torch.stack([angle.cos(), angle.sin()], dim=1)[None]
    x = torch.tensor([[[2.0], [4.0], [10.0], [20.0]]])
    one = tome(r=1).between(Tokens(x, 0, (2, 2)), Middle(0, 1, keys))
    assert one.x_BTD.flatten().tolist() == [10.0, 3.0, 20.0]
    assert one.size_BT is not None
    assert one.size_BT.tolist() == [[1.0, 2.0, 1.0]]
    two = tome(r=2).between(Tokens(x, 0, (2, 2)), Middle(0, 1, keys))
    assert two.x_BTD.flatten().tolist() == [3.0, 15.0]


def test_pitome_protects_the_isolated():
    """Three alike and one alone: the lone token stays as it was, where ToMe with r = 2 must merge it."""
    angle = torch.tensor([0.0, 5.0, 180.0, 10.0]).deg2rad()
    keys = torch.stack([angle.cos(), angle.sin()], dim=1)[None]
    x = torch.tensor([[[1.0], [3.0], [100.0], [8.0]]])
    after = pitome(ratio=0.25).between(Tokens(x, 0, (2, 2)), Middle(0, 1, keys))
    assert 100.0 in after.x_BTD.flatten().tolist()
    assert 100.0 not in tome(r=2).between(Tokens(x, 0, (2, 2)), Middle(0, 1, keys)).x_BTD.flatten().tolist()
    energy = energies((keys @ keys.transpose(1, 2)).clamp(max=1.0), 0.9, 1.0)[0]
    assert energy.argmin() == 2
    assert energy.argmax() == 1


def test_random_merging_is_as_many_and_different():
    before, keys, _ = drawn(12)
    made = tome(r=4, matching="random")
    made.generator.manual_seed(1)  # type: ignore[attr-defined]
    one = made.between(before, Middle(0, 3))
    two = made.between(before, Middle(0, 3))
    looked = tome(r=4).between(before, Middle(0, 3, keys))
    assert one.x_BTD.shape == looked.x_BTD.shape
    assert not torch.equal(one.x_BTD, two.x_BTD)
    assert one.size_BT is not None
    assert torch.equal(one.size_BT.sum(1), before.size_BT.sum(1))  # type: ignore[union-attr]


def test_evit_at_random_keeps_as_many_and_needs_no_class_token():
    before, _, _ = drawn(10)
    made = evit(keep=0.5, choose="random")
    one, two = made.between(before, Middle(1, 4)), made.between(before, Middle(1, 4))
    assert one.x_BTD.shape == two.x_BTD.shape == (3, 7, 4)
    assert not torch.equal(one.x_BTD, two.x_BTD)
    assert one.size_BT is not None
    assert torch.equal(one.size_BT.sum(1), before.size_BT.sum(1))  # type: ignore[union-attr]
    assert not made.uses


def test_how_many_are_left():
    assert counts(64, 0.5, 3, "even") == (53, 43, 32)
    assert counts(64, 0.5, 3, "share") == (51, 40, 32)
    assert counts(16, 0.75, 2, "even") == (8, 4)  # 10 could not become 4
    assert counts(16, 0.75, 2, "even", halves=False) == (10, 4)
    assert counts(7, 0.99, 3, "share", halves=False)[-1] == 1
    assert counts(64, 0.5, 3, "early") == (32, 32, 32)
    assert counts(49, 0.8, 4, "early") == (25, 13, 10, 10)  # 49 - 39 = 10; a block can merge 24 of 49
    assert counts(64, 0.75, 3, "early", halves=False) == (16, 16, 16)
    assert counts(24, 0.0, 3, "even") == counts(24, 0.0, 3, "share") == (24, 24, 24)
    for patches, ratio, steps, spread in itertools.product((16, 49, 196), (0.1, 0.4, 0.6, 0.75), (3, 4, 12), ("even", "share", "early")):
        left = counts(patches, ratio, steps, spread)  # type: ignore[arg-type]
        assert left[-1] == patches - round(ratio * patches)
        assert all(after <= before <= 2 * after for before, after in itertools.pairwise((patches, *left)))
    with pytest.raises(UsageError, match="at most half"):
        counts(64, 0.8, 2, "even")


def test_class_attention_of_a_tower_without_class_token_is_a_clear_error():
    """SigLIP has none: EViT cannot work there, ToMe and PiToMe can."""
    config = preset("siglip-b-16")
    small = config.image.model_copy(update={"image_size": (32, 32), "width": 32, "depth": 2, "heads": 2, "mlp": 64})
    text = config.text.model_copy(update={"width": 32, "depth": 1, "heads": 2, "mlp": 64, "vocab": 64})
    model = DualEncoder(config.model_copy(update={"image": small, "text": text, "embed_dim": 32})).eval()
    pixels = torch.rand(2, 3, 32, 32)
    with pytest.raises(UsageError, match=r"'evit' with image tower 'vit'.*no class token"):
        model.image_features(pixels, tokens=evit())
    for made in (tome(ratio=0.5), pitome(ratio=0.5)):
        assert model.image_features(pixels, tokens=made).shape == (2, 32)
    with pytest.raises(UsageError, match=r"'tome' with image tower 'conv'"):
        DualEncoder(preset("demo")).eval().image_features(pixels, tokens=tome())


def test_every_block_leaves_as_many_as_planned():
    model, shapes = DualEncoder(preset("tiny")).eval(), []
    for block in model.image.blocks:
        block.mlp.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape[1]))  # type: ignore
    plans = [(tome(ratio=0.5), (13, 9)), (pitome(ratio=0.5), (12, 9)), (evit(ratio=0.5), (12, 9)), (evit(keep=0.7), (14, 12))]
    plans += [(tome(ratio=0.5, spread="early"), (9, 9)), (pitome(ratio=0.5, spread="early"), (9, 9)), (evit(blocks=(0,)), (9, 9))]
    for made, left in plans:
        shapes.clear()
        model.image_features(torch.rand(2, 3, 32, 32), tokens=made)
        assert tuple(shapes) == left
    with pytest.raises(UsageError, match="blocks 0 to 1"):
        model.image_features(torch.rand(2, 3, 32, 32), tokens=evit(blocks=(2,)))


def test_options_say_a_thing_once():
    for options, other in ((TomeOptions, {"r": 3}), (PitomeOptions, {"keep": 0.8}), (EvitOptions, {"keep": 0.7})):
        with pytest.raises(ValidationError, match="give one"):
            options.model_validate({"ratio": 0.5, **other})
    for bad in ((), (-1,)):
        with pytest.raises(ValidationError):
            EvitOptions(blocks=bad)


def test_equal_tokens_merge_without_any_change():
    """A picture of one colour on a tower without positions: merging equal tokens, weighed by size, changes nothing."""
    tower = DualEncoder(preset("mini-32")).eval().image
    tower.embed = lambda pixels: Tokens(torch.randn(2, 1, 256, generator=generator(0, "one")).expand(2, 16, 256), 0, (4, 4))  # type: ignore[method-assign]
    plain = tower(torch.zeros(2, 3, 32, 32))[0]
    for made in (tome(ratio=0.75), pitome(ratio=0.75), tome(ratio=0.5, matching="random")):
        torch.testing.assert_close(tower(torch.zeros(2, 3, 32, 32), tokens=made)[0], plain, atol=1e-5, rtol=1e-4)


def test_a_random_match_is_seeded_by_its_generator():
    model = DualEncoder(preset("tiny")).eval()
    pixels = torch.rand(2, 3, 32, 32, generator=generator(0, "pixels"))
    rows = []
    for seed in (1, 1, 2):
        made = tome(matching="random")
        made.generator.manual_seed(seed)  # type: ignore[attr-defined]
        rows.append(model.image_features(pixels, tokens=made))
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])
