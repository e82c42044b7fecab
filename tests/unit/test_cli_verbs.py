"""The verbs end to end, with the smallest model, on pictures made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import diptych
from diptych.cli.app import run
from diptych.cli.convert import parity
from diptych.cli.inputs import image_files, model_and_rest
from diptych.core.errors import DiptychError, UsageError
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset

LABELS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    diptych.save(DualEncoder(preset("tiny"), seed=1), folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "deep").mkdir()
    for index, colour in enumerate(LABELS):
        Image.new("RGB", (40, 30), colour).save(folder / ("deep" if index else ".") / f"{colour}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def answer(capsys, *arguments: object):
    """The parsed standard output of a call that has to succeed."""
    code = run([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def test_classify_takes_the_model_first_or_by_option(capsys, model_folder, pictures):
    labels = ",".join(LABELS)
    first = answer(capsys, "classify", model_folder, pictures, "--labels", labels)
    assert first == answer(capsys, "classify", "--model", model_folder, pictures, "--labels", labels)
    assert [Path(row["image"]).name for row in first] == ["blue.png", "green.png", "red.png"]
    model = diptych.load(model_folder)
    names, chances = model.classifier(LABELS).predict([row["image"] for row in first])
    assert [row["label"] for row in first] == names
    assert [row["probability"] for row in first] == pytest.approx(chances.amax(1).tolist(), abs=1e-6)


def test_classify_shows_the_next_best_and_can_answer_none(capsys, model_folder, pictures):
    [row] = answer(capsys, "classify", model_folder, pictures / "red.png", "--labels", ",".join(LABELS), "--top", 9, "--none-below", 0.999)
    assert row["label"] is None
    assert {item["label"] for item in row["top"]} == set(LABELS)
    assert sum(item["probability"] for item in row["top"]) == pytest.approx(1, abs=1e-5)
    assert row["top"] == sorted(row["top"], key=lambda item: -item["probability"])
    assert run(["classify", str(model_folder), str(pictures / "red.png"), "--labels", "a,b", "--none-below", "0.999"]) == 0
    assert "none of these" in capsys.readouterr().out


def test_classify_reads_labels_and_templates(capsys, model_folder, pictures, tmp_path):
    (tmp_path / "labels.txt").write_text("a cat, black\n\n  a dog \n")
    call = ["classify", model_folder, pictures / "red.png", "--labels-file", tmp_path / "labels.txt", "--top", 2]
    [plain] = answer(capsys, *call)
    assert {item["label"] for item in plain["top"]} == {"a cat, black", "a dog"}
    [prompted] = answer(capsys, *call, "--template", "a drawing of {}", "--template", "{}!")
    assert prompted["top"] != plain["top"]
    assert run(["classify", str(model_folder), str(pictures / "red.png"), "--labels", "a,b", "--template", "a photo"]) == 2
    assert "{}" in capsys.readouterr().err


def test_a_broken_picture_is_one_line(capsys, model_folder, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture at all")
    assert run(["classify", str(model_folder), str(tmp_path / "broken.png"), "--labels", "a,b"]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "broken.png" in captured.err


@pytest.mark.parametrize("ending", ["npy", "safetensors", "jsonl"])
def test_encode_writes_unit_rows_with_their_ids(capsys, model_folder, pictures, tmp_path, ending):
    (tmp_path / "texts.txt").write_text("grün\n\nblue\n", encoding="utf-8")
    target = tmp_path / "new" / f"rows.{ending}"
    told = answer(capsys, "encode", model_folder, pictures, "--text", "red", "--texts", tmp_path / "texts.txt", "--out", target)
    assert (told["rows"], told["images"], told["texts"]) == (6, 3, 3)
    if ending == "npy":
        rows = np.load(target, allow_pickle=False)
        ids = [json.loads(line) for line in (tmp_path / "new" / "rows.ids.jsonl").read_text(encoding="utf-8").splitlines()]
    elif ending == "safetensors":
        with safe_open(target, framework="np") as file:
            rows, ids = file.get_tensor("rows"), json.loads(file.metadata()["ids"])
    else:
        ids = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
        rows = np.array([row.pop("row") for row in ids], dtype=np.float32)
    assert [row["id"] for row in ids[3:]] == ["red", "grün", "blue"]
    assert [row["kind"] for row in ids] == ["image"] * 3 + ["text"] * 3
    model = diptych.load(model_folder)
    expected = torch.cat([model.encode_image([row["id"] for row in ids[:3]]), model.encode_text(["red", "grün", "blue"])]).numpy()
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert list(target.parent.glob("*.part")) == []


def test_encode_without_a_target_prints_lines(capsys, model_folder):
    assert run(["encode", str(model_folder), "--text", "red", "--text", "blue"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == answer(capsys, "encode", model_folder, "--text", "red", "--text", "blue")
    assert [line["id"] for line in lines] == ["red", "blue"]


def test_positionals_are_told_apart():
    assert model_and_rest(["mini", "a.png"], None, "x") == ("mini", ["a.png"])
    assert model_and_rest(["a.png", "b.png"], "mini", "x") == ("mini", ["a.png", "b.png"])
    with pytest.raises(UsageError, match=r"a\.png"):
        model_and_rest(["a.png"], None, "x")


def test_image_files_keep_the_order_given(pictures, tmp_path):
    given = [str(pictures / "deep" / "green.png"), str(pictures)]
    assert [path.name for path in image_files(given)] == ["green.png", "blue.png", "green.png", "red.png"]
    with pytest.raises(DiptychError, match="no image"):
        image_files([str(tmp_path)])


def test_convert_shows_the_parity_after_reloading(capsys, model_folder, tmp_path):
    same = answer(capsys, "convert", model_folder, tmp_path / "same", "--to", "native")
    assert set(same["parity"]) == {"images", "texts", "logits"}
    assert max(same["parity"].values()) == 0
    half = answer(capsys, "convert", model_folder, tmp_path / "half", "--dtype", "float16")
    assert 1e-6 < max(half["parity"].values()) < half["tolerance"]
    assert (tmp_path / "half" / "model.safetensors").stat().st_size < (tmp_path / "same" / "model.safetensors").stat().st_size


def test_convert_keeps_nothing_that_differs(capsys, model_folder, tmp_path, monkeypatch):
    other = DualEncoder(preset("tiny"), seed=2)
    real = diptych.load
    monkeypatch.setattr("diptych.towers.formats.load.load", lambda name: real(name) if str(name) == str(model_folder) else other)
    assert run(["convert", str(model_folder), str(tmp_path / "out")]) == 1
    assert "differs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_parity_sees_towers_and_scale(model_folder):
    model, other = diptych.load(model_folder), diptych.load(model_folder)
    with torch.no_grad():
        other.log_scale += 0.01
    found = parity(model, other)
    assert found["images"] == found["texts"] == 0
    assert found["logits"] > 1e-3


def test_convert_refuses_a_full_folder_and_half_precision_elsewhere(capsys, model_folder, pictures, tmp_path):
    assert run(["convert", str(model_folder), str(pictures)]) == 2
    assert run(["convert", str(model_folder), str(tmp_path / "x"), "--to", "openai", "--dtype", "float16"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
