"""TCA against its plain loop through the blocks of a tower, what it remembers, and how it travels with a model."""

from __future__ import annotations

import copy
import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stream_world import LABELS, TEMPLATES, imported, pictures, shots, typed, work
from torch import Tensor

import diptych
from diptych.adapt.parts.condense import Condense, around, chosen
from diptych.adapt.test_time.tca import tca
from diptych.cli.app import run as main
from diptych.core.errors import UsageError
from diptych.core.types import Tokens
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset

TWIN = runpy.run_path(str(Path(__file__).resolve().parents[2] / "reference" / "tca.py"))
MANY = {"ratio": 0.6, "centres": 3, "capacity": 2}


def at_work(model, **options):
    return tca(work(model), **(MANY | options)).answer(model, LABELS)


def looked(block, x_TW: Tensor, classed: bool, prefix: int) -> tuple[Tensor, Tensor]:
    """Tokens after the block's attention, and what patch tokens are ranked by, for one picture."""
    x_TW = x_TW[None]
    q, k, _ = block.attention.qkv(block.norm1(x_TW)).chunk(3, dim=-1)
    split = (block.attention.heads, -1)
    q_HTK, k_HTK = (one[0].unflatten(-1, split).transpose(0, 1) for one in (q, k))
    if classed:
        share = (q_HTK[:, :1] @ k_HTK.transpose(1, 2) / q_HTK.shape[-1] ** 0.5).softmax(-1).mean(0)[0, prefix:]
    else:
        key_NK = k_HTK.mean(0)[prefix:]
        share = (key_NK @ key_NK.mean(0) / key_NK.shape[-1] ** 0.5).softmax(0)
    return (x_TW + block.attention(block.norm1(x_TW)))[0], share


def slow(model, picture: Tensor, reservoir, ratio: float, centres: int) -> tuple[Tensor, list[list[float]]]:
    """One picture's row and class tokens, block by block; tokens are condensed and anchors chosen by the reference."""
    tower = model.image
    state = tower.embed(model.normalise(picture[None]))
    classed, x, size = state.prefix == 1, state.x_BTD[0], torch.ones(16, dtype=torch.float64)
    places, seen, first = chosen(len(tower.blocks)), [], state.prefix
    for index, block in enumerate(tower.blocks):
        anchor = reservoir.anchor(index - 1, seen[-1]) if index and index in places else None
        given = x if anchor is None else torch.cat([x[:first], torch.tensor([anchor], dtype=torch.float64), x[first:]])
        y, share = looked(block, given, classed, first + (anchor is not None))
        y = y if anchor is None else torch.cat([y[:first], y[first + 1 :]])
        if index in places:
            left = round(16 * (1 - ratio) ** ((places.index(index) + 1) / len(places)))
            made, sizes = TWIN["condensed"](y[first:].tolist(), size.tolist(), share.tolist(), left, centres, classed)
            y, size = torch.cat([y[:first], torch.tensor(made, dtype=torch.float64)]), torch.tensor(sizes, dtype=torch.float64)
        x = y + block.mlp(block.norm2(y))
        mean = (x[first:] * size[:, None]).sum(0) / size.sum()
        seen.append((x[0] if classed else mean).tolist())
    pooled = tower.pool(Tokens(x[None], first, state.grid, size[None], proportional=False))
    row = torch.nn.functional.normalize(model.image_projection(pooled), dim=-1)[0]
    return row, seen


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_stream_is_the_plain_loop(kind):
    model = copy.deepcopy(imported(kind)).double()
    given = pictures(12)
    got = tca(work(imported(kind)), **MANY, weight=3.0).answer(model, LABELS).logits(given)
    reservoir = TWIN["Reservoir"](2, 0.5)
    text = model.classifier(LABELS, TEMPLATES).rows_KD.double()
    anchored = 0
    with torch.no_grad():
        for index, picture in enumerate(given):
            row, seen = slow(model, picture, reservoir, 0.6, 3)
            anchored += reservoir.anchor(0, seen[0]) is not None
            wanted = reservoir.corrected((model.scale * text @ row).tolist(), seen, 3.0, 5.0)
            torch.testing.assert_close(got[index].double(), torch.tensor(wanted, dtype=torch.float64), atol=1e-4, rtol=1e-5)
    assert anchored > 3  # anchors were there to be chosen
    assert any(len(items) == 2 for items in reservoir.items.values())


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_tokens_go_and_sizes_stay(kind):
    model = imported(kind)
    counts = []

    class Watched(Condense):
        def after_block(self, index, tokens):
            made = super().after_block(index, tokens)
            if tokens.size_BT is not None:
                counts.append(tokens.x_BTD.shape[1] - tokens.prefix)
                assert float(tokens.size_BT.sum()) == pytest.approx(16 * len(tokens.x_BTD))
            return made

    model.image_features(pictures(2), tokens=Watched(model.image.gives, 0.6, 3))
    assert counts == [round(16 * 0.4 ** ((i + 1) / 3)) for i in range(3)]


def test_nothing_condensed_and_nothing_corrected_is_zero_shot():
    model = imported("clip")
    got = at_work(model, ratio=0.0, weight=0.0, anchors=False).logits(pictures(4))
    torch.testing.assert_close(got, model.scale * model.encode_image(pictures(4)) @ shots(model).text_KD.T, atol=2e-4, rtol=1e-4)
    anchored = at_work(model, ratio=0.0, weight=0.0).logits(pictures(8))
    assert (anchored - at_work(model, ratio=0.0, weight=0.0, anchors=False).logits(pictures(8))).abs().max() > 1e-3


def test_equal_tokens_have_centres_of_their_own():
    merged, member = around(torch.ones(5, 3), 2)
    torch.testing.assert_close(merged, torch.ones(2, 3))
    assert sorted(set(member.tolist())) == [0, 1]
    far, member = around(torch.tensor([[0.0], [1.0], [10.0], [12.0]]), 2)
    assert member.tolist() == [0, 0, 1, 1]  # centres are 0 and 12; 1 weighs 1 beside 0, 10 weighs a half beside 12
    torch.testing.assert_close(far, torch.tensor([[0.5], [(12 + 0.5 * 10) / 1.5]]))


def test_a_stream_goes_on_until_its_reset_and_never_over_it():
    model, given = imported("clip"), pictures(10)
    stream, never = at_work(model), at_work(model, reset="never")
    first = stream.logits(given)
    assert torch.equal(never.logits(given), first)
    assert not torch.equal(stream.logits(given), first)
    assert stream.reset is not None
    assert never.reset is None
    stream.reset()
    assert torch.equal(torch.cat([stream.logits(part) for part in given.split(3)]), first)
    turned = at_work(model).logits(given.flip(0)).flip(0)
    assert not torch.allclose(turned, first, atol=1e-3)
    assert stream.logits(given[:0]).shape == (0, len(LABELS))


def test_the_parent_stays_as_it_is_and_the_rule_travels(tmp_path):
    model = copy.deepcopy(imported("siglip"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = model.with_rule(tca(work(model), **MANY))
    wanted = made.classifier(LABELS).predict(pictures(6))[1]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    diptych.save(made, tmp_path / "model")
    again = diptych.load(str(tmp_path / "model"))
    torch.testing.assert_close(again.classifier(LABELS).predict(pictures(6))[1], wanted)
    assert made.classifier(("tree", "house")).predict(pictures(1))[1].shape == (1, 2)


def test_what_has_no_meaning_is_refused():
    model = imported("clip")
    with pytest.raises(UsageError, match="would remember none"):
        tca(work(model), reset="each")
    without = DualEncoder(preset("demo"))
    with pytest.raises(UsageError, match="no blocks to work on fewer tokens"):
        tca(replace(work(model), model=without))


def test_the_command_line_runs_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    assert main([*typed("tca", tmp_path, "--set", "ratio=0.5", "--shots", "1"), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["method"], row["trainable"], row["options"]["ratio"]) == ("tca", 0, 0.5)
    assert row["milliseconds"]["rule"] > 0
