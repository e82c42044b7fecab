"""A-CLIP's losses by hand, its views through tower and EMA, and in training with masks of several kinds."""

from __future__ import annotations

import math

import pytest
import torch
from few_steps import few_steps
from torch.nn import functional as F

from diptych.core.types import Pairs
from diptych.objectives.pairs.a_clip import Method, Options, a_clip
from diptych.tokens.a_clip import a_clip as mask
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset
from diptych.towers.see import See

EYE = torch.eye(2)


def pairs(changed: dict[str, torch.Tensor] | None = None) -> Pairs:
    taps = dict.fromkeys(("u.1", "z.0", "z.1", "p.0", "p.1", "t.0", "t.1"), EYE) | (changed or {})
    columns = {name: taps[name] for name in ("u.1", "z.0", "z.1")}
    concept, state = torch.arange(2), {"progress": torch.tensor(0.0, dtype=torch.float64)}
    return Pairs(EYE, EYE, EYE, EYE, 0, torch.tensor(2.0), None, concept, concept, taps, columns, state)


def test_by_hand():
    """Two pictures at right angles: the pair's loss is ln(1 + exp(-2)); a view sees itself's twin at 1 and two strangers at 0."""
    found = a_clip(pairs())
    assert found.terms["pairs"].item() == pytest.approx(math.log1p(math.exp(-2.0)))
    assert found.terms["views"].item() == pytest.approx(math.log1p(2 * math.exp(-10.0)), abs=1e-6)
    assert found.terms["ema"].item() == pytest.approx(0.0, abs=1e-6)
    crossed = a_clip(pairs({"p.0": EYE.flip(0)}), ema_weight=2.0)
    assert crossed.terms["ema"].item() == pytest.approx(2.0)  # one of two ways is at right angles: 2 · mean(2, 0)
    swapped = a_clip(pairs({"u.1": EYE.flip(0)}))
    assert swapped.terms["pairs"].item() == pytest.approx((math.log1p(math.exp(-2.0)) + math.log1p(math.exp(2.0))) / 2)
    assert a_clip(pairs(), ssl_weight=0.0, ema_weight=0.0).total.item() == pytest.approx(found.terms["pairs"].item())


def see_of(model: DualEncoder, ema: DualEncoder, tokens=None) -> See:
    draw = torch.Generator().manual_seed(0)
    first, second = torch.randint(0, 256, (2, 4, 3, 32, 32), generator=draw, dtype=torch.uint8)
    see = See(model, first, None, draw, {"view.0": second}, ema=ema, tokens=tokens)
    if tokens is not None:
        tokens.look(see)
    pooled, _ = model.image(model.normalise(first), tokens=tokens)
    return See(model, first, None, draw, {"view.0": second}, {"image.pooled": pooled}, ema=ema, tokens=tokens)


def test_rows_come_of_tower_and_ema():
    model, ema = DualEncoder(preset("tiny"), seed=0), DualEncoder(preset("tiny"), seed=1)
    method, see = Method(model, Options(norm="none")), see_of(model, ema)
    rows = method.rows(see)
    assert {name for name, row in rows.items() if not row.requires_grad} == {"t.0", "t.1"}
    second = see.extra["view.0"]
    torch.testing.assert_close(rows["u.1"], see.image(second), atol=1e-5, rtol=0)
    for name, picture in (("t.0", see.image_BCHW), ("t.1", second)):
        torch.testing.assert_close(rows[name], method.projector(ema.image(ema.normalise(picture))[0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows["z.0"], method.head(see.taps["image.pooled"]))


def test_the_masks_pass_of_the_ema_gives_its_rows():
    """At full resolution the rows are those of a pass of their own, and both views are masked by their own scores."""
    model, ema = DualEncoder(preset("tiny"), seed=0), DualEncoder(preset("tiny"), seed=1)
    method, tokens = Method(model, Options(norm="none")), mask(ratio=0.5)
    masked, whole = method.rows(see_of(model, ema, tokens)), method.rows(see_of(model, ema))
    for name in ("t.0", "t.1"):
        torch.testing.assert_close(masked[name], whole[name], atol=1e-5, rtol=0)
    alone = mask(ratio=0.5)
    see = see_of(model, ema)
    alone.look(See(model, see.extra["view.0"], None, see.draw, ema=ema))
    torch.testing.assert_close(masked["u.1"], see.image(see.extra["view.0"], tokens=alone), atol=1e-5, rtol=0)
    assert not torch.allclose(masked["u.1"], whole["u.1"], atol=1e-3)


def test_the_projectors_ema_takes_in_a_share():
    method = Method(DualEncoder(preset("tiny")), Options(momentum=0.9))
    before = [copy.clone() for copy in method.copies]
    with torch.no_grad():
        for parameter in method.projector.parameters():
            parameter.add_(1.0)
    method(pairs())
    for copy, old in zip(method.copies, before, strict=True):
        torch.testing.assert_close(copy, old + 0.1)
    assert [method.momentum(share) for share in (0.0, 0.5, 1.0)] == pytest.approx([0.9, 0.95, 1.0])


@pytest.mark.parametrize("tokens", [(), ("tokens.name=a-clip", "tokens.options.resolution=0.5"), ("tokens.name=random-mask",)])
def test_it_trains_with_any_mask(tokens):
    taught = few_steps("a-clip", *tokens)
    assert all(taught.moved().values())


def test_equal_views_have_equal_rows():
    model = DualEncoder(preset("tiny"))
    see = see_of(model, model)
    same = See(model, see.image_BCHW, None, see.draw, {"view.0": see.image_BCHW}, see.taps, ema=model)
    rows = Method(model, Options(norm="none")).rows(same)
    torch.testing.assert_close(rows["z.0"], rows["z.1"])
    torch.testing.assert_close(rows["u.1"], F.normalize(model.image_projection(see.taps["image.pooled"]), dim=-1))
