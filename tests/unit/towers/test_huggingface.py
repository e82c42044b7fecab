"""Parity with transformers' own CLIP and SigLIP, random weights, both directions."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from diptych.core.errors import DiptychError
from diptych.core.types import Preprocess
from diptych.data.tokenizers import Tokenizer
from diptych.towers.dual import DualEncoder
from diptych.towers.encode import pixels
from diptych.towers.formats.load import load, save
from diptych.towers.presets import CLIP_MEAN, CLIP_STD, clip, siglip
from diptych.towers.text import TransformerConfig
from diptych.towers.vision import ViTConfig

transformers = pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "golden"))
from formats_strings import strings  # noqa: E402

TEXT = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3, "vocab_size": 60}
TEXT |= {"max_position_embeddings": 9, "bos_token_id": 1, "pad_token_id": 0}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 24, "patch_size": 8}


def peer(kind: str, activation: str = "quick_gelu", eos: int = 2):
    """A transformers model whose every parameter is random."""
    torch.manual_seed(0)
    if kind == "clip":
        text, vision = TEXT | {"eos_token_id": eos, "hidden_act": activation}, VISION | {"hidden_act": activation}
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
        model = transformers.CLIPModel(config)
    else:
        text = TEXT | {"eos_token_id": 1, "hidden_size": 32, "num_attention_heads": 4, "projection_size": 32}
        model = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=VISION))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if not name.startswith("logit"):
                value.copy_(torch.randn_like(value) * 0.2 + (name.endswith("norm.weight") or "layer_norm" in name))
    return model.eval()


def folder_of(model, path: Path) -> Path:
    """The peer saved with an image processor, as a hub repository holds it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(path)
    siglip_kind = model.config.model_type == "siglip"
    size = {"height": 24, "width": 24} if siglip_kind else {"shortest_edge": 24}
    crop = {} if siglip_kind else {"do_center_crop": True, "crop_size": {"height": 24, "width": 24}}
    processor = {"size": size, "resample": 3, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3], **crop}
    (path / "preprocessor_config.json").write_text(json.dumps(processor))
    return path


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 50, (5, 9), generator=draw)
    ids[torch.arange(5), torch.tensor([2, 4, 5, 8, 3])] = 57
    return torch.randn(4, 3, 24, 24, generator=draw), ids


def assert_parity(ours: DualEncoder, theirs) -> None:
    pictures, ids = inputs()
    with torch.no_grad():
        out = theirs(input_ids=ids, pixel_values=pictures)
        image, text = ours.image_features(pictures, normalise=False), ours.text_features(ids)
        torch.testing.assert_close(image, out.image_embeds, atol=1e-5, rtol=0)
        torch.testing.assert_close(text, out.text_embeds, atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.logits(image, text), out.logits_per_image, atol=1e-5, rtol=1e-6)


CASES = [("clip", "quick_gelu", 2), ("clip", "gelu", 57), ("siglip", "", 0)]


@pytest.mark.parametrize(("kind", "activation", "eos"), CASES)
def test_import_and_export_agree_with_transformers(kind: str, activation: str, eos: int, tmp_path: Path) -> None:
    theirs = peer(kind, activation, eos)
    folder = folder_of(theirs, tmp_path / "theirs")
    ours = load(folder)
    assert_parity(ours, theirs)
    save(ours, tmp_path / "ours", format="huggingface")
    again = type(theirs).from_pretrained(tmp_path / "ours").eval()
    assert_parity(ours, again)
    first, second = load_file(folder / "model.safetensors"), load_file(tmp_path / "ours" / "model.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert load(tmp_path / "ours").config.model_dump(exclude={"name"}) == ours.config.model_dump(exclude={"name"})


def test_our_own_models_run_in_transformers(tmp_path: Path) -> None:
    image = ViTConfig(image_size=(24, 24), patch=8, width=32, depth=1, heads=2, mlp=64)
    text = TransformerConfig(vocab=60, context=9, width=16, depth=1, heads=2, mlp=32)
    ours = DualEncoder(clip("small", image, text, 12).model_copy(update={"tokenizer": None}), seed=1).eval()
    save(ours, tmp_path / "clip", format="huggingface")
    assert_parity(ours, transformers.CLIPModel.from_pretrained(tmp_path / "clip").eval())
    image = image.model_copy(update={"pool": "attention", "class_token": False, "norm_pre": False, "patch_bias": True})
    text = text.model_copy(update={"width": 32, "causal": False, "pool": "last"})
    ours = DualEncoder(siglip("small", image, text), seed=1).eval()
    save(ours, tmp_path / "siglip", format="huggingface")
    assert_parity(ours, transformers.SiglipModel.from_pretrained(tmp_path / "siglip").eval())


def test_openai_naming_computes_what_transformers_does(tmp_path: Path) -> None:
    image = ViTConfig(image_size=(24, 24), patch=8, width=64, depth=1, heads=1, mlp=256, activation="quick_gelu")
    text = TransformerConfig(vocab=60, context=9, width=64, depth=2, heads=1, mlp=256, activation="quick_gelu")
    config = clip("small", image, text, 12).model_copy(update={"tokenizer": None, "preprocess": Preprocess((24, 24), CLIP_MEAN, CLIP_STD)})
    ours = DualEncoder(config, seed=2).eval()
    save(ours, tmp_path / "openai", format="openai")
    tensors = load_file(tmp_path / "openai" / "clip.safetensors")
    assert tensors["visual.conv1.weight"].shape == (64, 3, 8, 8)
    assert tensors["text_projection"].shape == (64, 12)
    numbers = {"input_resolution": torch.tensor(24), "context_length": torch.tensor(9), "vocab_size": torch.tensor(60)}
    save_file({**tensors, **numbers}, tmp_path / "openai" / "clip.safetensors")
    again = load(tmp_path / "openai" / "clip.safetensors")
    assert again.config.image == config.image
    assert again.config.text == config.text
    save(again, tmp_path / "hf", format="huggingface")
    assert_parity(again, transformers.CLIPModel.from_pretrained(tmp_path / "hf").eval())
    save_file({**tensors, "context_length": torch.tensor(77)}, tmp_path / "openai" / "clip.safetensors")
    with pytest.raises(DiptychError, match=r"context_length is 77.*9"):
        load(tmp_path / "openai" / "clip.safetensors")


def test_token_ids_are_transformers(tmp_path: Path) -> None:
    ours = Tokenizer.clip(style="huggingface")
    ours.save(tmp_path)
    vocab, merges = (json.loads((tmp_path / "tokenizer.json").read_text())["model"][key] for key in ("vocab", "merges"))
    theirs = transformers.CLIPTokenizer(vocab=vocab, merges=[tuple(pair) for pair in merges])
    texts = strings()
    wanted = theirs(texts, max_length=77, truncation=True)["input_ids"]
    rows = ours(texts).tolist()
    wrong = [text for text, row, want in zip(texts, rows, wanted, strict=True) if row != want + [0] * (77 - len(want))]
    assert not wrong, f"{len(wrong)} of {len(texts)} differ, first {wrong[0]!r}"


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_preprocessing_survives_and_matches(kind: str, tmp_path: Path) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    folder = folder_of(peer(kind), tmp_path / "theirs")
    ours = load(folder)
    assert ours.config.preprocess.mean == (0.4, 0.5, 0.6)
    processor = (CLIPImageProcessorPil if kind == "clip" else SiglipImageProcessorPil).from_pretrained(folder)
    picture = np.random.default_rng(0).integers(0, 256, (37, 60, 3), dtype=np.uint8)
    wanted = torch.as_tensor(np.asarray(processor(Image.fromarray(picture))["pixel_values"][0]))
    made = ours.normalise(pixels(picture, ours.config.preprocess)[None])[0]
    assert (made - wanted).abs().max() <= 1 / 255 / 0.2
    save(ours, tmp_path / "ours", format="huggingface")
    assert load(tmp_path / "ours").config.preprocess == ours.config.preprocess


@pytest.mark.parametrize(
    ("side", "key", "value", "named"),
    [
        ("text_config", "hidden_act", "selu", "selu"),
        ("text_config", "max_position_embeddings", 12, r"\(9, 24\).*\(12, 24\)"),
        ("text_config", "rope_theta", 1.0, "rope_theta"),
        ("vision_config", "num_channels", 4, "num_channels"),
        ("vision_config", "patch_size", 4, "patch_embedding"),
        ("vision_config", "num_hidden_layers", 1, "layers.1"),
        ("vision_config", "num_attention_heads", 5, "heads"),
        ("vision_config", "image_size", 32, "size"),
        ("", "model_type", "blip", "blip"),
        ("", "projection_dim", 7, "projection"),
    ],
)
def test_what_differs_is_refused(side: str, key: str, value, named: str, tmp_path: Path) -> None:
    folder = folder_of(peer("clip"), tmp_path / "theirs")
    raw = json.loads((folder / "config.json").read_text())
    (raw[side] if side else raw)[key] = value
    (folder / "config.json").write_text(json.dumps(raw))
    with pytest.raises(DiptychError, match=named):
        load(folder)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    folder = folder_of(peer("clip"), tmp_path / "theirs")
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(DiptychError, match=r"tokenizer\.json"):
        load(folder)
    (folder / "tokenizer_config.json").unlink()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(DiptychError, match="not safetensors"):
        load(folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(DiptychError, match="preprocessor_config"):
        load(folder)


def test_export_refuses_what_it_cannot_say(tmp_path: Path) -> None:
    image = ViTConfig(image_size=(24, 24), patch=8, width=32, depth=1, heads=2, mlp=64, pool="mean")
    text = TransformerConfig(vocab=60, context=9, width=16, depth=1, heads=2, mlp=32)
    model = DualEncoder(clip("small", image, text, 12).model_copy(update={"tokenizer": None}))
    with pytest.raises(DiptychError, match=r"pooling is 'mean'.*'class'"):
        save(model, tmp_path / "out", format="huggingface")
    with pytest.raises(DiptychError, match=r"activation is 'gelu'.*'quick_gelu'"):
        save(model, tmp_path / "out", format="openai")
    assert not (tmp_path / "out").exists()
