"""Our towers against what open_clip computed: recorded everywhere, live where open_clip is installed."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from diptych.core.errors import DiptychError
from diptych.data.tokenizers import Tokenizer
from diptych.towers.formats.load import load, save

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from formats_strings import strings  # noqa: E402

FOLDERS = sorted(path.parent for path in (HERE / "formats_open_clip").glob("*/open_clip_config.json"))
CLIP_KEYS = ("visual.proj", "transformer.resblocks.1.ln_1.bias", "logit_scale")


def edit(folder: Path, change) -> None:
    """Apply ``change`` to the folder's config."""
    path = folder / "open_clip_config.json"
    raw = json.loads(path.read_text())
    change(raw["model_cfg"])
    path.write_text(json.dumps(raw))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return Path(shutil.copytree(HERE / "formats_open_clip" / "plain", tmp_path / "plain"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_recorded_outputs(folder: Path) -> None:
    model, recorded = load(folder), load_file(folder / "outputs.safetensors")
    with torch.no_grad():
        image, text = model.image_features(recorded["pixels"], normalise=False), model.text_features(recorded["ids"])
        logits = model.logits(image, text)
    torch.testing.assert_close(image, recorded["image"], atol=1e-5, rtol=0)
    torch.testing.assert_close(text, recorded["text"], atol=1e-5, rtol=0)
    torch.testing.assert_close(logits, recorded["logits"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_export_gives_the_same_weights_and_config(folder: Path, tmp_path: Path) -> None:
    model = load(folder)
    save(model, tmp_path / "out", format="open_clip")
    theirs, ours = load_file(folder / "open_clip_model.safetensors"), load_file(tmp_path / "out" / "open_clip_model.safetensors")
    if folder.name == "custom_plain":  # written as plain CLIP with scalars: the same numbers under shorter names
        theirs = {name.removeprefix("text."): value.squeeze() for name, value in theirs.items()}
        ours = {name: value.squeeze() for name, value in ours.items()}
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    again = load(tmp_path / "out")
    drop = {"name", "init_bias"}
    assert again.config.model_dump(exclude=drop) == model.config.model_dump(exclude=drop)


def test_preprocessing_is_read_and_written_back(tmp_path: Path) -> None:
    model = load(HERE / "formats_open_clip" / "scaled")
    assert model.config.preprocess.size == (16, 32)
    assert (model.config.preprocess.resize, model.config.preprocess.interpolation) == ("squash", "bilinear")
    assert model.config.preprocess.std == (0.25, 0.25, 0.25)
    save(model, tmp_path / "out", format="open_clip")
    raw = json.loads((tmp_path / "out" / "open_clip_config.json").read_text())["preprocess_cfg"]
    assert raw["size"] == [16, 32]
    assert raw["resize_mode"] == "squash"
    assert raw["interpolation"] == "bilinear"


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
def test_token_ids_are_open_clips(clean: str) -> None:
    made = Tokenizer.clip()
    tokenizer = Tokenizer(made.core, made.config.model_copy(update={"clean": clean}))
    recorded = json.loads((HERE / "formats_open_clip" / "tokens.json").read_text())[clean]
    texts = strings()
    rows = tokenizer(texts).to(torch.int32).numpy()
    digests = [hashlib.sha256(row.tobytes()).hexdigest()[:8] for row in rows]
    wrong = [text for text, ours, at in zip(texts, digests, range(0, len(recorded), 8), strict=True) if ours != recorded[at : at + 8]]
    assert not wrong, f"{len(wrong)} of {len(texts)} differ, first {wrong[0]!r}"
    assert len(set(digests)) > 1500


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda cfg: cfg["vision_cfg"].update(qk_norm=True), "qk_norm"),
        (lambda cfg: cfg["vision_cfg"].update(new_switch=1), "new_switch"),
        (lambda cfg: cfg["vision_cfg"].update(attentional_pool=True), "attentional_pool"),
        (lambda cfg: cfg["vision_cfg"].update(timm_model_name="convnext_base"), "timm_model_name"),
        (lambda cfg: cfg["vision_cfg"].update(pool_type="none"), "pool_type"),
        (lambda cfg: cfg["vision_cfg"].update(no_ln_pre=True), "visual.ln_pre"),
        (lambda cfg: cfg["vision_cfg"].update(layers=3), "3 more|resblocks.2"),
        (lambda cfg: cfg["vision_cfg"].update(layers=[3, 4, 6, 3]), "layers"),
        (lambda cfg: cfg["text_cfg"].update(context_length=12), r"positional_embedding.*\(10, 16\).*\(12, 16\)"),
        (lambda cfg: cfg["text_cfg"].update(hf_model_name="roberta-base"), "hf_model_name"),
        (lambda cfg: cfg["text_cfg"].update(hf_tokenizer_name="bert"), "tokenizer"),
        (lambda cfg: cfg["text_cfg"].update(tokenizer_kwargs={"strip_sep_token": True}), "strip_sep_token"),
        (lambda cfg: cfg["text_cfg"].update(act_kwargs={"slope": 1}), "slope"),
        (lambda cfg: cfg["text_cfg"].update(heads=3), "heads"),
        (lambda cfg: cfg.update(multimodal_cfg={}), "multimodal_cfg"),
        (lambda cfg: cfg.update(init_logit_bias=-10), "logit_bias"),
        (lambda cfg: cfg.pop("embed_dim"), "embed_dim"),
    ],
)
def test_what_differs_is_refused(plain: Path, change, named: str) -> None:
    edit(plain, change)
    with pytest.raises(DiptychError, match=named):
        load(plain)


@pytest.mark.parametrize("key", CLIP_KEYS)
def test_missing_and_unknown_keys_are_named(plain: Path, key: str) -> None:
    path = plain / "open_clip_model.safetensors"
    tensors = load_file(path)
    value = tensors.pop(key)
    save_file(tensors, path)
    with pytest.raises(DiptychError, match=key):
        load(plain)
    save_file({**tensors, key: value, "extra.weight": torch.zeros(2)}, path)
    with pytest.raises(DiptychError, match=r"extra\.weight"):
        load(plain)


def test_pickles_are_refused_with_the_way_out(plain: Path) -> None:
    (plain / "open_clip_model.safetensors").unlink()
    (plain / "open_clip_pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(DiptychError, match="not safetensors"):
        load(plain)


def test_a_single_file_with_its_json_beside(plain: Path, tmp_path: Path) -> None:
    shutil.copy(plain / "open_clip_model.safetensors", tmp_path / "vit.safetensors")
    raw = json.loads((plain / "open_clip_config.json").read_text())
    (tmp_path / "vit.json").write_text(json.dumps(raw["model_cfg"]))
    assert load(tmp_path / "vit.safetensors").config.image == load(plain).config.image


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_live_open_clip_reads_our_export(folder: Path, tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    model, recorded = load(folder), load_file(folder / "outputs.safetensors")
    save(model, tmp_path / "out", format="open_clip")
    peer = open_clip.create_model(f"local-dir:{tmp_path / 'out'}").eval()
    with torch.no_grad():
        peer_logits, _ = peer.get_logits(recorded["pixels"], recorded["ids"])
        rows = model.image_features(recorded["pixels"], normalise=False), model.text_features(recorded["ids"])
    torch.testing.assert_close(model.logits(*rows), peer_logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(peer_logits, recorded["logits"], atol=1e-5, rtol=0)


def test_live_openai_naming(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    from open_clip.model import build_model_from_openai_state_dict

    from diptych.towers.dual import DualEncoder
    from diptych.towers.presets import _openai

    config = _openai("small", 32, 8, (64, 1, 1), (64, 1, 1, 9, 70), 24).model_copy(update={"tokenizer": None})
    model = DualEncoder(config, seed=3).eval()
    with torch.no_grad():
        for value in model.parameters():  # that builder rounds what it is given to float16
            value.copy_(value.half().float())
    save(model, tmp_path / "out", format="openai")
    tensors = load_file(tmp_path / "out" / "clip.safetensors")
    peer = build_model_from_openai_state_dict(dict(tensors), cast_dtype=torch.float32).eval().float()
    pixels, ids = torch.randn(2, 3, 32, 32), torch.randint(0, 70, (3, 9))
    with torch.no_grad():
        torch.testing.assert_close(
            model.image_features(pixels, normalise=False), peer.encode_image(pixels, normalize=True), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(model.text_features(ids), peer.encode_text(ids, normalize=True), atol=1e-5, rtol=0)
    assert open_clip.__version__


def test_live_tokenizer() -> None:
    tokenizer = pytest.importorskip("open_clip.tokenizer").SimpleTokenizer()
    texts = strings()[::7]
    assert torch.equal(tokenizer(texts), Tokenizer.clip()(texts))
