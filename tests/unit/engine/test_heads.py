"""Tuning heads on cached features: it learns, it leaves the model alone, it repeats, and the second run reads its cache."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch.nn import functional as F

from diptych.core.errors import DiptychError, UsageError
from diptych.core.rng import generator
from diptych.data.open import open as open_data
from diptych.data.sources.base import Dataset
from diptych.engine import frozen
from diptych.engine.heads import HeadsConfig, PairRows, pair_rows, recall, tune_heads, with_heads
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset

NAMES = [f"{shade}{place}" for shade in "abcdefgh" for place in "stuvwxyz"]
QUICK = HeadsConfig(image_hidden=0, text_hidden=16, dropout=0.1, batch=48, epochs=120, lr=1e-2, checks=4, holdout=0.25)


@pytest.fixture(scope="module")
def model() -> DualEncoder:
    return DualEncoder(preset("tiny"), seed=1).eval()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """64 pictures of two colours each; the name spells both, with two captions."""
    folder = tmp_path_factory.mktemp("pictures")
    for index, name in enumerate(NAMES):
        image = Image.new("RGB", (32, 32), (32 * (index // 8), 255 - 32 * (index // 8), 90))
        image.paste((30, 36 * (index % 8), 250 - 36 * (index % 8)), (0, 16, 32, 32))
        image.save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"{name}\n{name} again\n", encoding="utf-8")
    return open_data(folder)


def test_learns_keeps_the_model_and_repeats(model: DualEncoder, pictures: Dataset, tmp_path: Path) -> None:
    before, events = model.fingerprint(), []
    tuned = tune_heads(model, pictures, config=QUICK, seed=3, cache=tmp_path, on_event=events.append)
    assert model.fingerprint() == before
    rows = pair_rows(model, pictures, tmp_path)
    start, end = recall(model, rows, 5), recall(tuned, rows, 5)
    assert min(end) > 0.4 > 2 * max(start)
    assert events[0]["step"] == 0
    assert max(event["recall"] for event in events) >= events[0]["recall"]
    assert tuned.config.parent == model.config.name
    assert {tuned.config.image_projection.kind, tuned.config.text_projection.kind} == {"residual"}
    for side in ("image", "text"):
        for old, new in zip(getattr(model, side).parameters(), getattr(tuned, side).parameters(), strict=True):
            assert torch.equal(old, new)
    assert not tuned.training


def test_a_seed_repeats_to_the_bit(model: DualEncoder, pictures: Dataset, tmp_path: Path) -> None:
    brief = QUICK.model_copy(update={"epochs": 6})
    first, again, other = (tune_heads(model, pictures, config=brief, seed=seed, cache=tmp_path).fingerprint() for seed in (3, 3, 4))
    assert first == again != other


def test_a_tuned_model_saves_loads_and_tunes_on(model: DualEncoder, pictures: Dataset, tmp_path: Path) -> None:
    from diptych.towers.formats.load import load, save

    tuned = tune_heads(model, pictures, config=QUICK.model_copy(update={"epochs": 2}), cache=tmp_path / "cache")
    save(tuned, tmp_path / "tuned")
    back = load(tmp_path / "tuned")
    assert torch.allclose(back.encode_text(["as", "hz"]), tuned.encode_text(["as", "hz"]), atol=1e-6)
    onward = tune_heads(back, pictures, config=QUICK.model_copy(update={"epochs": 2}), cache=tmp_path / "cache")
    assert onward.config.image_projection == back.config.image_projection


def test_heads_change_nothing_before_training(model: DualEncoder) -> None:
    fresh = with_heads(model, QUICK, seed=0)
    texts = ["one", "another"]
    assert torch.allclose(fresh.encode_text(texts), model.encode_text(texts), atol=1e-6)
    trained = {name.split(".")[0] for name, p in fresh.named_parameters() if p.requires_grad}
    assert trained == {"image_projection", "text_projection", "log_scale"}
    assert not any(p.requires_grad for p in fresh.image_projection.base.parameters())


def test_features_are_read_from_the_cache_and_only_while_valid(
    model: DualEncoder, pictures: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pair_rows(model, pictures, tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("pictures were decoded again")

    monkeypatch.setattr(frozen, "image_batches", refuse)
    second = pair_rows(model, pictures, tmp_path)
    assert torch.equal(first.image_NW, second.image_NW)
    assert torch.equal(first.text_MW, second.text_MW)
    other = DualEncoder(preset("tiny"), seed=2)
    with pytest.raises(AssertionError, match="decoded again"):
        pair_rows(other, pictures, tmp_path)


def test_cached_rows_are_what_the_model_computes(model: DualEncoder, pictures: Dataset, tmp_path: Path) -> None:
    rows = pair_rows(model, pictures, tmp_path)
    with torch.no_grad():
        image_ND = F.normalize(model.image_projection(rows.image_NW), dim=-1)
        text_ND = F.normalize(model.text_projection(rows.text_MW[[group[0] for group in rows.captions]]), dim=-1)
    assert torch.allclose(image_ND, model.encode_image(list(pictures)), atol=1e-5)
    assert torch.allclose(text_ND, model.encode_text([sample.captions[0] for sample in pictures]), atol=1e-5)


def test_recall_equals_a_loop(model: DualEncoder) -> None:
    draw = generator(9, "recall")
    captions = ((0, 1), (2,), (1, 3), (4, 5, 6))  # caption 1 belongs to two pictures, 7 to none
    rows = PairRows(torch.randn(4, 32, generator=draw), torch.randn(8, 32, generator=draw), captions, torch.full((4,), -1), tuple("abcd"))
    with torch.no_grad():
        image = F.normalize(model.image_projection(rows.image_NW), dim=-1)
        text = F.normalize(model.text_projection(rows.text_MW), dim=-1)
    for k in (1, 2, 3):
        to_image = [any(m in captions[i] for i in (text[m] @ image.T).topk(k).indices.tolist()) for m in range(7)]
        to_text = [any(m in captions[i] for m in (image[i] @ text[:7].T).topk(k).indices.tolist()) for i in range(4)]
        assert recall(model, rows, k) == pytest.approx((sum(to_image) / 7, sum(to_text) / 4))


def test_few_or_broken_pictures_and_impossible_settings(model: DualEncoder, pictures: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 20"):
        tune_heads(model, pictures.select(range(5)), config=QUICK, cache=tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("words", encoding="utf-8")
        (tmp_path / f"{name}.png").write_bytes(b"no picture")
    with pytest.raises(DiptychError, match="over the limit of 1%"):
        tune_heads(model, open_data(tmp_path), config=QUICK, cache=tmp_path / "cache")
    with pytest.raises(ValidationError, match="not both"):
        HeadsConfig(epochs=1, seconds=2)
