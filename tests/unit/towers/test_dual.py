"""The model object: encoding what users have, classifying, tokenizers, fingerprints."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.core.errors import UsageError
from diptych.core.types import Sample
from diptych.data.tokenizers import Tokenizer, clean
from diptych.towers.classifier import none_threshold
from diptych.towers.dual import DualConfig, DualEncoder
from diptych.towers.presets import PRESETS, preset


@pytest.fixture(scope="module")
def model() -> DualEncoder:
    return DualEncoder(preset("tiny"))


def test_pictures_of_every_kind_give_the_same_row(model: DualEncoder, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    picture = Image.fromarray(array)
    data = io.BytesIO()
    picture.save(data, "PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data.getvalue())
    kinds = [array, picture, data.getvalue(), path, str(path), Sample("a", path), picture.convert("RGBA")]
    rows = model.encode_image(kinds, batch_size=3)
    assert rows.shape == (7, 32)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, rows[:1].expand(7, -1), atol=1e-6, rtol=0)
    torch.testing.assert_close(model.encode_image(array), rows[:1], atol=1e-6, rtol=0)
    assert model.encode_image([]).shape == (0, 32)
    with pytest.raises(UsageError, match="float64 array"):
        model.encode_image([array / 255.0])


def test_uint8_and_float_pixels_are_normalised_alike(model: DualEncoder) -> None:
    bytes_BCHW = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(value).double()[:, None, None] for value in (model.config.preprocess.mean, model.config.preprocess.std))
    wanted = (bytes_BCHW.double() / 255 - mean) / std
    torch.testing.assert_close(model.normalise(bytes_BCHW).double(), wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.normalise(bytes_BCHW / 255).double(), wanted, atol=1e-5, rtol=0)
    with pytest.raises(UsageError, match="int64"):
        model.normalise(bytes_BCHW.long())


def test_texts_are_encoded_once_each_in_any_order(model: DualEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["bb", "a", "a longer one", "bb", "", "a"]
    wanted = model.text_features(model.tokenizer(texts)).detach()
    seen = []
    plain = model.text_features
    monkeypatch.setattr(model, "text_features", lambda ids: seen.append(tuple(ids.shape)) or plain(ids))
    torch.testing.assert_close(model.encode_text(texts, batch_size=2), wanted, atol=1e-6, rtol=0)
    assert seen == [(2, 3), (2, 14)]


def test_modes_and_gradients_are_as_they_were(model: DualEncoder) -> None:
    model.train()
    model.text.eval()
    model.encode_text("a")
    assert model.image.training
    assert not model.text.training
    model.eval()
    assert not model.encode_text(["a"]).requires_grad
    assert model.text_features(model.tokenizer(["a"])).requires_grad


def test_classifier_by_hand(model: DualEncoder) -> None:
    classifier = model.classifier(["cat", "dog"], templates=["a {}", "{}!"])
    rows = torch.nn.functional.normalize(torch.stack([model.encode_text([f"a {x}", f"{x}!"]).mean(0) for x in ("cat", "dog")]), dim=-1)
    torch.testing.assert_close(classifier.rows_KD, rows)
    names, chances = classifier.predict(rows)
    assert names == ["cat", "dog"]
    gap = float(1 - rows[0] @ rows[1]) / 0.07
    torch.testing.assert_close(chances[0, 0].item(), 1 / (1 + math.exp(-gap)), atol=1e-4, rtol=0)
    assert classifier.predict(rows, none_below=1.0)[0] == [None, None]
    assert none_threshold(torch.tensor([[0.9, 0.1], [0.4, 0.6]]), keep=0.5) == pytest.approx(0.75)
    for labels, templates in (([], None), ("cat", None), (["cat"], ["no place"]), (["cat"], [])):
        with pytest.raises(UsageError):
            model.classifier(labels, templates)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="0–1"):
        classifier.predict(rows, none_below=3)


def test_seeds_fingerprints_and_the_global_state() -> None:
    state = torch.random.get_rng_state()
    a, b, c = DualEncoder(preset("tiny")), DualEncoder(preset("tiny")), DualEncoder(preset("tiny"), seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert a.fingerprint() == b.fingerprint() != c.fingerprint()
    with torch.no_grad():
        b.log_scale.add_(1e-3)
    assert a.fingerprint() != b.fingerprint()


def test_scale_is_capped() -> None:
    model = DualEncoder(preset("tiny"))
    assert model.scale.item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        model.log_scale.fill_(9.0)
    assert model.scale.item() == 100.0


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_survive_json(name: str) -> None:
    config = preset(name)
    assert DualConfig.model_validate_json(config.model_dump_json()) == config
    with pytest.raises(UsageError, match="vit-b-32"):
        preset("vit-b-23")


def test_tokenizer_context_and_vocabulary_must_fit() -> None:
    with pytest.raises(ValueError, match="context 12 is not the text tower's 16"):
        DualEncoder(preset("tiny"), Tokenizer.byte_level(12))
    with pytest.raises(UsageError, match=r"49407.*511"):
        DualEncoder(preset("tiny"), Tokenizer.clip(16))
    silent = DualEncoder(preset("tiny").model_copy(update={"tokenizer": None}))
    with pytest.raises(UsageError, match="no tokenizer"):
        silent.encode_text("a")


def test_cleaning_modes() -> None:
    text = "  Caf&amp;eacute;  A_b, it’s\n schÃ¶n "
    assert clean(text, "none") == text
    assert clean(text, "whitespace") == "Café A_b, it's schön"
    assert clean(text, "lower") == "café a_b, it's schön"
    assert clean(text, "canonicalize") == "café a b its schön"
    assert clean("<i> &amp;lt;", "whitespace") == "<i> <"
    assert clean("A_b,  C!", "siglip") == "ab c"


def test_tokenizer_cuts_says_so_and_reads_back(tmp_path: Path) -> None:
    tokenizer = Tokenizer.clip(8)
    assert tokenizer(["a red apple"]).tolist() == [[49406, 320, 736, 3055, 49407, 0, 0, 0]]
    long = "one two three four five six seven"
    assert tokenizer([long])[0, -1] == 49407
    assert tokenizer.cut(["a", "one two three four five six", long]) == [False, False, True]
    assert tokenizer.decode(tokenizer(["A red  apple's core"])[0]) == "a red apple 's core"
    again = Tokenizer.from_file(tokenizer.save(tmp_path), **tokenizer.config.model_dump())
    assert torch.equal(again([long, "Ünï 😀 <end_of_text>"]), tokenizer([long, "Ünï 😀 <end_of_text>"]))
    with pytest.raises(UsageError, match="int"):
        tokenizer(["a", 3])  # type: ignore[list-item]
