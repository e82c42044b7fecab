"""A preset that takes one side from another model."""

from __future__ import annotations

import pytest
import torch

from diptych.core.errors import UsageError
from diptych.data.tokenizers import Tokenizer
from diptych.engine.build import build_model
from diptych.engine.run import Run
from diptych.towers import presets
from diptych.towers.bert import BertConfig
from diptych.towers.dual import DualConfig, DualEncoder
from diptych.towers.formats.load import save
from diptych.towers.hybrid import HybridConfig


def small(side: int, width: int = 16, embed_dim: int = 24) -> DualConfig:
    image = HybridConfig(image_size=(side, side), stem=8, stages=(8, 16), stage_depths=(1, 1), width=width, depth=1, heads=2, mlp=32)
    text = BertConfig(width=24, depth=1, heads=2, mlp_width=32, vocab=259, context=16, pad_id=258)
    base = presets.preset("demo")
    return DualConfig.model_validate({**dict(base), "name": "small", "image": image, "text": text, "embed_dim": embed_dim})


@pytest.fixture
def donors(tmp_path, monkeypatch):
    """Presets ``small-32`` and ``small-64``, and a saved model of the first."""
    tokenizer = Tokenizer.byte_level(16)
    save(DualEncoder(small(32), tokenizer, seed=5), tmp_path / "donor")
    for side in (32, 64):
        monkeypatch.setitem(presets.PRESETS, f"small-{side}", lambda side=side: small(side))
    monkeypatch.setitem(presets.PRESETS, "other", lambda: small(32, width=32))
    return tmp_path / "donor"


def start(**init) -> DualEncoder:
    return build_model(Run.from_dict({"init": init, "budget": {"steps": 1}}))


def test_text_side_comes_whole(donors):
    from diptych.towers.formats.load import load

    model = start(preset="small-64", text_from=str(donors))
    expected = load(str(donors)).encode_text(["a red apple", "pear"])
    assert torch.equal(model.encode_text(["a red apple", "pear"]), expected)
    assert model.image.image_size == (64, 64)


def test_image_tower_keeps_its_function_at_its_own_size_and_fits_another(donors):
    from diptych.towers.formats.load import load

    donor = load(str(donors))
    pixels_BCHW = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    same = start(preset="small-32", image_from=str(donors), text_from=str(donors)).eval()
    larger = start(preset="small-64", image_from=str(donors), text_from=str(donors)).eval()
    with torch.no_grad():
        assert torch.equal(same.image_features(pixels_BCHW), donor.image_features(pixels_BCHW))
        assert larger.image_features(torch.rand(1, 3, 64, 64)).shape == (1, 24)
    assert larger.image.position.shape[0] == 4 * donor.image.position.shape[0]
    assert torch.equal(larger.image.stem.first.weight, donor.image.stem.first.weight)


def test_another_tower_is_refused_with_both_sides_named(donors):
    with pytest.raises(UsageError, match=r"width: the preset has \[32\], .* has \[16\]"):
        start(preset="other", image_from=str(donors), text_from=str(donors))


def test_sides_go_with_a_preset_only(donors):
    with pytest.raises(UsageError, match="go with preset"):
        start(from_=str(donors), text_from=str(donors))
