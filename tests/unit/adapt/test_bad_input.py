"""What people hand to ``diptych adapt`` by mistake: each a clear line or a documented behaviour, never a traceback."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import diptych
from diptych.adapt.parts.shots import Shots
from diptych.cli.app import run as main
from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.engine.fewshot import make
from diptych.recipes import adapt as recipe


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """Rows and runs stay in the test's folder; retention is tested elsewhere."""
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(recipe, "KEPT", ())
    monkeypatch.chdir(tmp_path)


def folders(root, counts):
    """Class folders of plain squares, each of its own shade."""
    for k, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (48, 48), (40 * k + i, 255 - 30 * k, 90 + i)).save(root / name / f"{name}{i}.png")
    return root


def said(capsys, *arguments):
    """Exit status and what was printed to the error stream."""
    status = main(["adapt", *map(str, arguments)])
    return status, capsys.readouterr().err


@pytest.mark.parametrize(
    ("counts", "why"),
    [({"cat": 6}, "it has no classes"), ({"cat": 1, "dog": 1}, "no class has two labelled pictures")],
)
def test_too_little_is_one_line(counts, why, tmp_path, capsys):
    status, told = said(capsys, "mini", folders(tmp_path / "photos", counts), "--method", "nearest-mean")
    assert status == 2
    assert why in told
    assert "Traceback" not in told
    assert len(told.strip().splitlines()) == 1


def test_one_labelled_picture_a_class_is_enough_where_a_test_is_given(tmp_path):
    train, test = (folders(tmp_path / name, {"cat": count, "dog": count}) for name, count in (("train", 1), ("test", 3)))
    for path in test.rglob("*.png"):  # other pictures than the labelled ones
        Image.new("RGB", (48, 48), (9, int(path.stem[-1]) * 20, 77 if "cat" in path.stem else 7)).save(path)
    found = recipe.adapt("mini", str(train), test=str(test), method="gda-clip")
    assert found.shots == 2
    assert found.choice.accuracy is None


def test_splits_of_other_classes_are_one_line(tmp_path, capsys):
    train, test = folders(tmp_path / "train", {"cat": 2, "dog": 2}), folders(tmp_path / "test", {"cat": 2, "emu": 2})
    status, told = said(capsys, "mini", train, "--test", test)
    assert status == 2
    assert "do not have the same classes" in told


def test_an_unknown_method_names_the_nearest_and_an_unknown_option_too(tmp_path, capsys):
    data = folders(tmp_path / "photos", {"cat": 4, "dog": 4})
    assert "gda-clip" in said(capsys, "mini", data, "--method", "gda-clp")[1]
    assert "alpha" in said(capsys, "mini", data, "--method", "gda-clip", "--set", "alpa=1")[1]


def test_a_method_that_needs_pictures_without_labels_says_how_to_give_them(tmp_path, capsys):
    data = folders(tmp_path / "photos", {"cat": 4, "dog": 4})
    assert "--unlabelled" in said(capsys, "mini", data, "--method", "fixmatch")[1]


def test_a_tower_without_tokens_is_named(tmp_path, capsys):
    data = folders(tmp_path / "photos", {"cat": 4, "dog": 4})
    status, told = said(capsys, "pocket", data, "--method", "maple")
    assert status == 2
    assert "efficientnet" in told


def test_a_negative_limit_of_loss_is_one_line(tmp_path, capsys):
    data = folders(tmp_path / "photos", {"cat": 4, "dog": 4})
    status, told = said(capsys, "mini", data, "--method", "nearest-mean", "--lose-at-most", "-1")
    assert status == 2
    assert "points of accuracy" in told


def test_labels_beyond_the_classes_are_refused():
    rows = F.normalize(torch.randn(4, 8, generator=generator(0, "rows")), dim=1)
    with pytest.raises(UsageError, match="do not fit 2 classes"):
        Shots(rows, torch.tensor([0, 1, 2, 1]), rows[:2], ("a", "b"), 10.0, generator(0, "draw"))


@pytest.mark.parametrize("identity", ["nearest-mean", "gda-clip", "tip-adapter"])
def test_ten_thousand_classes(identity):
    """Most of them without a picture: their words stand in for them."""
    draw, count, width = generator(0, "many"), 10_000, 32
    text_KD = F.normalize(torch.randn(count, width, generator=draw), dim=1)
    label_S = torch.arange(0, count, 20)
    image_SD = F.normalize(text_KD[label_S] + 0.05 * torch.randn(len(label_S), width, generator=draw), dim=1)
    shots = Shots(image_SD, label_S, text_KD, tuple(f"class {k}" for k in range(count)), 100.0, draw)
    head = make(registry.find(identity, "adapt"), shots, {})
    assert head.classes == shots.classes
    told = head(text_KD[7:8])  # a class without a picture is still found by its words
    assert int(told.argmax()) == 7
    assert float((head(image_SD).argmax(1) == label_S).double().mean()) > 0.9


def test_the_parent_answers_as_before(tmp_path):
    model = diptych.load("mini")
    before = model.fingerprint()
    recipe.adapt(model, str(folders(tmp_path / "photos", {"cat": 4, "dog": 4})), method="nearest-mean")
    assert model.fingerprint() == before
    assert model.head is None
