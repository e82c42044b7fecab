"""The native folder: round trip, golden embedding, errors, and that nothing half-written is ever left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from diptych.core.errors import DiptychError, UsageError
from diptych.towers.dual import DualEncoder
from diptych.towers.formats import hub, weights
from diptych.towers.formats.load import load, save
from diptych.towers.presets import preset


@pytest.fixture
def model() -> DualEncoder:
    return DualEncoder(preset("tiny"), seed=4)


@pytest.fixture
def folder(model: DualEncoder, tmp_path: Path) -> Path:
    return save(model, tmp_path / "model")


def change(path: Path, *keys: str, value: object) -> None:
    """Set one value deep in a JSON file."""
    raw = json.loads(path.read_text())
    at = raw
    for key in keys[:-1]:
        at = at[key]
    at[keys[-1]] = value
    path.write_text(json.dumps(raw))


def test_round_trip_is_exact(model: DualEncoder, folder: Path) -> None:
    again = load(folder)
    assert again.config == model.config
    assert again.fingerprint() == model.fingerprint()
    assert not again.training
    texts = ["a red apple", "ünï 😀"]
    assert torch.equal(again.encode_text(texts), model.encode_text(texts))
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "preprocess.json", "golden.safetensors", "card.md"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_storage_is_upcast(model: DualEncoder, dtype: str, tmp_path: Path) -> None:
    save(model, tmp_path / "narrow", dtype=dtype)
    stored = load_file(tmp_path / "narrow" / "model.safetensors")
    assert stored["image.blocks.0.mlp.up.weight"].dtype == getattr(torch, dtype)
    assert stored["log_scale"].dtype == torch.float32
    again = load(tmp_path / "narrow")
    assert {value.dtype for value in again.state_dict().values()} == {torch.float32}
    ours, theirs = model.state_dict(), again.state_dict()
    for name, value in ours.items():
        expected = value.to(getattr(torch, dtype)).float() if value.ndim > 1 else value
        assert torch.equal(theirs[name], expected), name


def test_values_too_large_for_float16_are_refused(model: DualEncoder, tmp_path: Path) -> None:
    with torch.no_grad():
        model.image.blocks[0].mlp.up.weight[0, 0] = 1e6  # type: ignore[union-attr, index]
    with pytest.raises(DiptychError, match=r"mlp\.up\.weight is not finite as float16"):
        save(model, tmp_path / "out", dtype="float16")
    with pytest.raises(UsageError, match="float8"):
        save(model, tmp_path / "out", dtype="float8")


@pytest.mark.parametrize(
    ("file", "keys", "value", "named"),
    [
        ("config.json", ("model", "image", "activation"), "quick_gelu", "golden image differ"),
        ("config.json", ("model", "text", "activation"), "quick_gelu", "golden text differ"),
        ("config.json", ("model", "image", "norm_eps"), 0.1, "golden image differ"),
        ("config.json", ("model", "text", "causal"), False, "golden text differ"),
        ("config.json", ("model", "image", "pool"), "mean", "golden image differ"),
        ("config.json", ("model", "tokenizer", "clean"), "siglip", "golden ids differ"),
        ("config.json", ("model", "image", "depth"), 3, "blocks.2"),
        ("config.json", ("model", "image", "dephts"), 3, "dephts.*depth"),
        ("config.json", ("model", "text", "context"), 20, "context"),
        ("config.json", ("version",), 9, "version 9"),
        ("preprocess.json", ("mean",), [0.5, 0.5, 0.5], "golden image differ"),
        ("preprocess.json", ("resize",), "squash", "golden picture differ"),
        ("preprocess.json", ("interpolation",), "bilinear", "golden picture differ"),
    ],
)
def test_every_setting_that_decides_the_output_is_caught(folder: Path, file: str, keys: tuple[str, ...], value, named: str) -> None:
    change(folder / file, *keys, value=value)
    with pytest.raises(DiptychError, match=named):
        load(folder)


def test_changed_weights_and_broken_files_are_caught(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "text.norm.bias": tensors["text.norm.bias"] + 0.5}, path)
    with pytest.raises(DiptychError, match="golden text differ"):
        load(folder)
    save_file({**tensors, "text.norm.bias": torch.zeros(3)}, path)
    with pytest.raises(DiptychError, match=r"text\.norm\.bias has shape \(3,\).*\(32,\)"):
        load(folder)
    path.write_bytes(b"nonsense")
    with pytest.raises(DiptychError, match="not readable as safetensors"):
        load(folder)
    path.unlink()
    with pytest.raises(DiptychError, match="no such file"):
        load(folder)


def test_saving_again_keeps_other_files_and_the_card(model: DualEncoder, folder: Path) -> None:
    (folder / "records.jsonl").write_text("{}\n")
    (folder / "card.md").write_text("mine")
    save(model, folder)
    assert (folder / "records.jsonl").read_text() == "{}\n"
    assert (folder / "card.md").read_text() == "mine"
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_failed_save_leaves_the_old_model(model: DualEncoder, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load(folder).fingerprint()

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "_sync", full)
    with pytest.raises(DiptychError, match="No space left"):
        save(DualEncoder(preset("tiny"), seed=5), folder)
    monkeypatch.undo()
    assert load(folder).fingerprint() == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_folder_with_other_things_is_not_overwritten(model: DualEncoder, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep")
    with pytest.raises(DiptychError, match="other things than a model"):
        save(model, tmp_path)


def test_names_that_are_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no shipped model and no path"):
        load(tmp_path / "nowhere")
    with pytest.raises(DiptychError, match=r"no config\.json"):
        load(tmp_path)
    with pytest.raises(UsageError, match="ORG/NAME"):
        load("hf:clip")
    with pytest.raises(UsageError, match="laion2b_s34b_b79k"):
        load("open_clip:ViT-B-32/laion2b_s34b_b79")
    with pytest.raises(UsageError, match="native"):
        save(DualEncoder(preset("tiny")), tmp_path / "x", format="nativ")  # type: ignore[arg-type]


def test_hub_names_read_what_was_downloaded(model: DualEncoder, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = {}

    def snapshot(repo: str, allow_patterns: list[str]) -> str:
        asked.update(repo=repo, patterns=allow_patterns)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert load("hf:someone/model").fingerprint() == model.fingerprint()
    assert asked == {"repo": "someone/model", "patterns": hub.FILES["hf"]}
    (folder / "model.safetensors").unlink()
    with pytest.raises(DiptychError, match="no safetensors"):
        load("hf:someone/model")


def test_files_may_be_read_by_whoever_may_read_the_folder(tmp_path):
    (tmp_path / "shared").mkdir(mode=0o755)
    folder = save(DualEncoder(preset("tiny")), tmp_path / "shared" / "tiny")
    assert {path.stat().st_mode & 0o044 for path in folder.iterdir()} == {folder.stat().st_mode & 0o044}
