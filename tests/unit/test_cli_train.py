"""``inspect``, ``train`` and ``evaluate`` on pairs made here: what is held back, what is written, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import diptych
from diptych.cli.app import run
from diptych.cli.heads import settings
from diptych.cli.inputs import overrides
from diptych.cli.training import Request, named_run, open_parts, recipes
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.engine.run import Run
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    """240 pictures of one colour, with the colour in words."""
    folder = tmp_path_factory.mktemp("pairs")
    colour_NC = torch.randint(0, 256, (240, 3), generator=generator(0, "pairs"))
    for index, colour in enumerate(colour_NC.tolist()):
        Image.new("RGB", (36, 32), tuple(colour)).save(folder / f"{index:03}.png")
        (folder / f"{index:03}.txt").write_text("colour " + " ".join(str(part // 64) for part in colour))
    return folder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    diptych.save(DualEncoder(preset("tiny"), seed=1), folder)
    return folder


def recipe(folder: Path) -> Path:
    path = folder / "few.yaml"
    path.write_text(yaml.safe_dump({"init": {"preset": "tiny"}, "budget": {"steps": 4}, "data": {"batch": 16, "workers": 0}}))
    return path


def answer(capsys, *arguments: object):
    """The parsed standard output of a call that has to succeed, and its standard error."""
    code = run([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out), captured.err


def request(**changes) -> Request:
    empty: dict = dict.fromkeys(("recipe", "data", "val", "start", "tune"))
    return Request(**{**empty, "overrides": {}, "settings": (), "folder": Path(), "check": False, "command": "", **changes})


def test_inspect_tells_what_is_there_and_saves_samples(capsys, pairs, model_folder, tmp_path):
    found, _ = answer(capsys, "inspect", pairs, "--model", model_folder, "--samples", tmp_path / "new" / "shown.png")
    assert found["samples"] == found["captions"] == 240
    assert found["context"] == 16
    assert found["cut_by"] == "exact"
    with Image.open(found["samples_image"]) as strip:
        assert strip.width > 3 * 32
    assert run(["inspect", str(pairs)]) == 0
    assert "240" in capsys.readouterr().out


def test_inspect_refuses_what_contradicts(capsys, pairs, model_folder, tmp_path):
    assert run(["inspect", str(pairs), "--model", str(model_folder), "--context", "5"]) == 2
    assert run(["inspect", str(tmp_path / "nothing")]) == 2
    assert run(["inspect", str(pairs), "--column", "imag=x"]) == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_columns_are_named_by_part():
    assert overrides(["image=file", "caption=a", "caption=b"], "test") == {"image": "file", "caption": ("a", "b"), "split": "test"}
    for wrong in (["image"], ["image="], ["picture=x"], ["id=a", "id=b"]):
        with pytest.raises(UsageError):
            overrides(wrong, None)


def test_train_writes_a_measured_model(capsys, pairs, tmp_path):
    folder = tmp_path / "run"
    result, told = answer(capsys, "train", recipe(tmp_path), "--data", pairs, "--out", folder, "--set", "optim.lr=3e-4")
    assert "24 of 240 samples are held back" in told
    assert "cut by context" in told
    written = Run.from_yaml(folder / "run.yaml")
    assert (written.optim.lr, written.data.path) == (3e-4, str(pairs))
    assert {record["n"] for record in result["records"]} == {24}
    assert all(set(record) >= {"protocol", "set", "metric", "value", "interval", "chance", "command"} for record in result["records"])
    assert Path(result["report"]).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert diptych.load(result["model"]).embed_dim == 32
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert any("validation" in row for row in log)


def test_check_looks_and_trains_nothing(capsys, pairs, tmp_path):
    folder = tmp_path / "run"
    result, _ = answer(capsys, "train", recipe(tmp_path), "--data", pairs, "--out", folder, "--check", "--set", "seed=7")
    assert yaml.safe_load(result["settings"])["seed"] == 7
    assert result["preflight"]["samples"] == 216
    assert not folder.exists()


def test_without_a_recipe_one_is_picked_with_reasons(capsys, pairs, model_folder, tmp_path):
    call = ["train", "--data", pairs, "--from", model_folder, "--tune", "image", "--out", tmp_path / "run"]
    result, told = answer(capsys, *call, "--set", "budget.steps=2", "--set", "data.batch=8")
    assert "learning rate" in told
    assert "text_to_image_r@10" in told
    written = Run.from_yaml(tmp_path / "run" / "run.yaml")
    assert (written.init.tune, written.save.best_metric, written.budget.steps) == ("image", "text_to_image_r@10", 2)
    before, after = diptych.load(model_folder), diptych.load(result["model"])
    assert all(torch.equal(a, b) for a, b in zip(before.text.parameters(), after.text.parameters(), strict=True))


def test_tuning_heads_keeps_the_towers_and_is_measured(capsys, pairs, model_folder, tmp_path):
    folder = tmp_path / "run"
    call = ["train", "--from", model_folder, "--tune", "heads", "--data", pairs, "--out", folder]
    result, told = answer(capsys, *call, "--set", "epochs=3", "--set", "batch=64")
    assert "recall@10" in told
    before, after = diptych.load(model_folder), diptych.load(result["model"])
    assert all(torch.equal(a, b) for a, b in zip(before.image.parameters(), after.image.parameters(), strict=True))
    assert after.config.parent == before.config.name
    assert {record["n"] for record in result["records"]} == {24}
    assert yaml.safe_load((folder / "run.yaml").read_text())["heads"]["epochs"] == 3
    assert any("loss" in json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines())
    again, _ = answer(capsys, "train", folder / "run.yaml", "--out", tmp_path / "again")
    assert diptych.load(again["model"]).fingerprint() == after.fingerprint()


def test_evaluate_beside_a_baseline(capsys, pairs, model_folder, tmp_path):
    rows, _ = answer(capsys, "evaluate", model_folder, pairs, "--baseline", model_folder, "--out", tmp_path / "e", "--limit", 30)
    assert {row["n"] for row in rows} == {30}
    gains = [row["value"] for row in rows if row["metric"].endswith(".gain")]
    assert gains
    assert not any(gains)
    (tmp_path / "e" / "report.html").unlink()
    page, _ = answer(capsys, "report", tmp_path / "e")
    assert Path(page["report"]).is_file()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["no-such-recipe"], "no-such-recipe"),
        (["no-such.yaml"], "no-such.yaml"),
        (["few.yaml"], "--data"),
        (["few.yaml", "--data", "pictograms"], "pictograms/train"),
        (["few.yaml", "--data", "PAIRS", "--set", "optim.lrr=1"], "'lr'"),
        (["few.yaml", "--data", "PAIRS", "--set", "optim.lr"], "'='"),
        (["few.yaml", "--data", "PAIRS", "--from", "mini"], "few.yaml"),
        (["--data", "PAIRS", "--tune", "heads"], "--from"),
        (["--data", "PAIRS", "--from", "mini", "--tune", "head"], "heads"),
        (["--data", "PAIRS", "--from", "MODEL", "--tune", "heads", "--set", "epoch=1"], "'epochs'"),
        (["--from", "MODEL", "--tune", "heads"], "--data"),
    ],
)
def test_train_refuses_with_one_line(capsys, monkeypatch, tmp_path, pairs, model_folder, arguments, word):
    monkeypatch.chdir(tmp_path)
    recipe(tmp_path)
    places = {"PAIRS": str(pairs), "MODEL": str(model_folder)}
    assert run(["train", *(places.get(argument, argument) for argument in arguments)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert word in error


def test_settings_of_heads():
    assert settings(("lr=1e-3", "seed=4"))[0] == 4
    assert settings(("lr=1e-3",))[1].lr == 1e-3
    for wrong in ("lr=fast", "lr", "lrr=1", "seed=x", "lr=[", "epochs=0"):
        with pytest.raises(UsageError):
            settings((wrong,))


def test_what_is_held_back_is_disjoint_and_repeatable(pairs, quiet):
    train, held = open_parts(request(), str(pairs), None, 0, quiet)
    again = open_parts(request(), str(pairs), None, 0, quiet)[1]
    assert held is not None
    assert again is not None
    assert (len(train), len(held), list(held.ids)) == (216, 24, list(again.ids))
    assert not set(train.ids) & set(held.ids)
    assert list(open_parts(request(), str(pairs), None, 1, quiet)[1].ids) != list(held.ids)  # type: ignore[union-attr]


def test_an_embedded_training_set_is_measured_on_its_validation_set(quiet):
    train, held = open_parts(request(), "pictograms/train", None, 0, quiet)
    assert held is not None
    assert held.path == "pictograms/validation"
    assert not set(train.ids) & set(held.ids)


def test_little_data_is_not_held_back(pairs, tmp_path, quiet):
    for index in range(30):
        for ending in ("png", "txt"):
            (tmp_path / f"{index:03}.{ending}").write_bytes((pairs / f"{index:03}.{ending}").read_bytes())
    train, held = open_parts(request(), str(tmp_path), None, 0, quiet)
    assert (len(train), held) == (30, None)
    assert len(open_parts(request(), str(tmp_path), str(pairs), 0, quiet)[1]) == 240  # type: ignore[arg-type]


@pytest.fixture
def quiet():
    from rich.console import Console

    return Console(quiet=True)


def test_every_recipe_is_a_run():
    assert {"demo", "mini"} <= set(recipes())
    assert "teach" not in recipes()
    for name in recipes():
        assert isinstance(named_run(name), Run)


def test_a_run_file_repeats_the_columns_and_the_split(capsys, tmp_path):
    rows = ["file,title,note"]
    for index in range(24):
        Image.new("RGB", (32, 32), (10 * index, 0, 90)).save(tmp_path / f"{index}.png")
        rows.append(f"{index}.png,title {index},note {index}")
    (tmp_path / "train.csv").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "test.csv").write_text("\n".join(rows[:3]), encoding="utf-8")
    told = ("--column", "image=file", "--column", "caption=note", "--split", "train")
    small = ("--set", "data.batch=8", "--set", "budget.steps=1")
    answer(capsys, "train", recipe(tmp_path), "--data", tmp_path, "--out", tmp_path / "a", *told, *small)
    written = Run.from_yaml(tmp_path / "a" / "run.yaml")
    assert written.data.columns == {"image": "file", "caption": ("note",), "split": "train"}
    answer(capsys, "train", tmp_path / "a" / "run.yaml", "--out", tmp_path / "b")
    first, second = (diptych.load(str(tmp_path / name / "model")).fingerprint() for name in "ab")
    assert first == second
