"""Token methods off the shelf: through ``encode_image`` and through ``diptych evaluate --tokens``."""

from __future__ import annotations

import pytest
import torch

from diptych.cli.thinned import thinned
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.tokens.tome import tome
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset
from diptych.towers.thinned import Thinned

PIXELS = torch.randint(0, 256, (5, 3, 32, 32), generator=generator(0, "pixels"), dtype=torch.uint8)


def test_encode_image_takes_a_token_method():
    model = DualEncoder(preset("tiny"))
    with torch.no_grad():
        wanted = model.eval().image_features(PIXELS, tokens=tome(ratio=0.5))
    torch.testing.assert_close(model.encode_image(PIXELS, tokens=tome(ratio=0.5)), wanted, atol=1e-6, rtol=0)
    assert not torch.allclose(model.encode_image(PIXELS), wanted, atol=1e-4)


def test_what_a_method_draws_is_the_same_at_every_call():
    model, drawing = DualEncoder(preset("tiny")), tome(matching="random")
    assert torch.equal(model.encode_image(PIXELS, tokens=drawing), model.encode_image(PIXELS, tokens=drawing))


def test_a_thinned_model_is_another_model():
    model = DualEncoder(preset("tiny"))
    one, two = Thinned(model, tome(ratio=0.5), "tome ratio=0.5"), Thinned(model, tome(ratio=0.25), "tome ratio=0.25")
    assert len({model.fingerprint(), one.fingerprint(), two.fingerprint()}) == 3
    assert one.config.name == "tiny, tome ratio=0.5"
    assert torch.equal(one.encode_image(PIXELS), model.encode_image(PIXELS, tokens=tome(ratio=0.5)))
    assert torch.equal(one.encode_text(["a"]), model.encode_text(["a"]))


@pytest.mark.parametrize(
    ("tokens", "settings", "told"),
    [
        (None, ["ratio=0.5"], "none is named"),
        ("tomb", [], "no method of that name.*tome"),
        ("tome", ["ratios=0.5"], "no such setting.*ratio"),
        ("tome", ["ratio"], "no '='"),
        ("tome", ["ratio=2"], "less than 1"),
        ("tome", ["ratio=0.5", "r=3"], "give one"),
        ("evit", [], "'evit' with image tower 'hybrid'.*no class token"),
    ],
)
def test_what_does_not_go_is_said_in_one_line(tokens, settings, told):
    with pytest.raises(UsageError, match=told):
        thinned("mini", tokens, settings)


def test_a_tower_without_blocks_takes_no_method():
    with pytest.raises(UsageError, match=r"'tome' with image tower 'efficientnet_lite0'.*no blocks"):
        thinned("pocket", "tome", [])
