"""The stages of LLM2CLIP on a small encoder: what each trains, what stays, and that a second call trains nothing again."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from diptych.engine.run import DataConfig, InitConfig
from diptych.recipes.llm2clip import build, encoder, llm2clip, tune
from diptych.towers.formats.load import load, save
from diptych.towers.formats.sentence import load_sentence

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("towers", "objectives")]


@pytest.fixture
def small(tmp_path) -> Path:
    from test_sentence import folder

    return folder(tmp_path / "small")


def short(run):
    """Three steps on a handful of pictures in memory."""
    return run.with_set("budget.steps=3", "data.batch=8", "data.workers=0", "save.every=3")


def test_the_adapter_begins_as_the_identity(small):
    tower, tokenizer = load_sentence(small, context=32)
    model = encoder(small, context=32, preset="tiny", hidden=8)
    texts = ["a red apple", "two"]
    with torch.no_grad():
        rows = F.normalize(tower(tokenizer(texts))[0], dim=-1)
    torch.testing.assert_close(model.encode_text(texts), rows, rtol=1e-5, atol=1e-5)


def test_each_stage_trains_its_part(small, tmp_path, monkeypatch):
    from drawn_texts import Halves

    from diptych.engine import loop

    data, train, trained = Halves(("{} {}", "{1} under {0}")), loop.train, []

    def on_halves(run, out):
        trained.append(run.name)
        return train(run, out, dataset=data, progress=False)

    monkeypatch.setattr(loop, "train", on_halves)
    save(encoder(small, context=32, preset="tiny", hidden=8), tmp_path / "all" / "encoder")
    first = short(tune("-", None, lr=1e-3))
    second = short(llm2clip(preset="tiny", data=None)).model_copy(
        update={"init": InitConfig(preset="tiny", text_from="-", freeze=("text",))}
    )
    second = second.model_copy(update={"data": DataConfig(batch=8, workers=0)})
    last = build(tmp_path / "all", tuned=first, taught=second)
    start, middle = load(str(tmp_path / "all" / "encoder")), load(str(tmp_path / "all" / "tune" / "model"))

    def same(a, b) -> bool:
        return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))

    assert not same(start.text, middle.text)
    assert same(start.text_projection, middle.text_projection)
    assert same(start.image, middle.image)
    assert same(middle.text, last.text)
    assert not same(middle.text_projection, last.text_projection)
    assert not same(middle.image, last.image)
    log = [json.loads(line) for line in (tmp_path / "all" / "tune" / "log.jsonl").read_text().splitlines()]
    assert "caption_accuracy" in log[-1]
    build(tmp_path / "all", tuned=first, taught=second)
    assert trained == ["llm2clip-tune", "llm2clip"]
