"""``adapt`` end to end on class folders: splits, seal, gain and retention, the model that comes back."""

from __future__ import annotations

import json

import pytest
import torch

import diptych
from diptych.cli.app import run as main
from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.data import pictograms
from diptych.data.seal import SealedError
from diptych.evaluate.material import material
from diptych.recipes import adapt as recipe

GROUPS = ("animals-nature", "food-drink", "travel-places")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Class folders of drawings in a style never trained on, 12 of each of three kinds."""
    root = tmp_path_factory.mktemp("photos")
    for group in GROUPS:
        (root / group).mkdir()
        drawn = [s for s in pictograms.samples("style") if s.meta["group"] == group and s.meta["style"] == "twemoji"][:12]
        for sample in drawn:
            (root / group / f"{sample.id}.webp").write_bytes(sample.image)
    return root


@pytest.fixture(scope="module", autouse=True)
def small():
    """Retention on a small set: what is tested is that it is measured, not how large the set is."""
    kept, recipe.KEPT = recipe.KEPT, ("pictograms/unseen",)
    yield
    recipe.KEPT = kept


def test_class_folders_make_a_better_model_that_saves_and_loads(photos, tmp_path):
    said: list[str] = []
    found = recipe.adapt("mini", str(photos), method="gda-clip", out=tmp_path / "out", cache=tmp_path / "cache", say=said.append)
    assert found.shots == 24  # 12 of each class, 0.3 of them held out
    assert found.gain.n == 12
    assert found.gain.metric == "top1.gain"
    assert found.retention() == 1.0
    assert found.model.config.parent == "mini"
    assert found.choice.accuracy is not None
    assert len(found.choice.tried) == len(registry.find("gda-clip", "adapt").load().GRID["alpha"])
    assert "gda-clip" in said[0]
    diptych.save(found.model, tmp_path / "model")
    again = diptych.load(str(tmp_path / "model"))
    picture = next(iter(sorted((photos / GROUPS[0]).iterdir())))
    assert again.classifier().predict([picture])[0] == found.model.classifier().predict([picture])[0]
    assert set(again.head.classes) == set(GROUPS)
    assert {r.protocol for r in found.records} >= {"classify", "zero_shot"}
    assert (tmp_path / "out" / "report.html").exists()


def test_the_same_seed_gives_the_same_model_and_another_split_by_another_seed(photos, tmp_path):
    def made(seed):
        return recipe.adapt("mini", str(photos), method="nearest-mean", shots=2, seed=seed, cache=tmp_path)

    one, again, other = made(0), made(0), made(1)
    assert one.shots == 6
    assert torch.equal(one.model.head.weight, again.model.head.weight)
    assert one.records == again.records
    assert not torch.equal(one.model.head.weight, other.model.head.weight)


def test_test_pictures_may_not_be_fitted_on(photos, tmp_path):
    with pytest.raises(SealedError, match="36 of its pictures are test pictures"):
        recipe.adapt("mini", str(photos), test=str(photos), cache=tmp_path)
    with pytest.raises(SealedError, match="sealed test set"):
        recipe.adapt("mini", "pictograms/groups/symbols", cache=tmp_path)


def test_what_cannot_be_adapted_to_is_told(photos, tmp_path):
    with pytest.raises(UsageError, match="it has no classes"):
        recipe.adapt("mini", "pictograms/retrieval-de", cache=tmp_path)
    with pytest.raises(UsageError, match="Did you mean 'gda-clip'"):
        recipe.adapt("mini", str(photos), method="gda-clp", cache=tmp_path)
    with pytest.raises(UsageError, match="no such setting"):
        recipe.adapt("mini", str(photos), method="gda-clip", options={"alhpa": 1}, cache=tmp_path)
    with pytest.raises(UsageError, match="chooses method and options by itself"):
        recipe.adapt("mini", str(photos), options={"alpha": 1}, cache=tmp_path)
    for name in ("a", "b"):
        (tmp_path / "single" / name).mkdir(parents=True)
        picture = next(iter((photos / GROUPS[name == "b"]).iterdir()))
        (tmp_path / "single" / name / picture.name).write_bytes(picture.read_bytes())
    with pytest.raises(UsageError, match="no class has two labelled pictures"):
        recipe.adapt("mini", str(tmp_path / "single"), cache=tmp_path)


def test_the_command_line_prints_the_stable_form(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    assert main(["adapt", "mini", str(photos), "--method", "gda-clip", "--set", "alpha=0.3", "--out", str(tmp_path / "run"), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert list(row)[:7] == ["method", "gain", "gain_interval", "retention", "trainable", "seconds", "model"]
    assert row["options"]["alpha"] == 0.3
    assert row["trainable"] == 3 * (diptych.load("mini").embed_dim + 1)
    assert diptych.load(row["model"]).head is not None
    assert main(["adapt", "--list", "--json"]) == 0
    listed = {row["method"] for row in json.loads(capsys.readouterr().out)}
    assert {"gda-clip", "tip-adapter", "linear-probe", "nearest-mean", "clip-adapter"} <= listed
    assert main(["adapt", "mini"]) == 2
    assert "needs a model and labelled pictures" in capsys.readouterr().err


def test_the_verb_is_a_function_that_gives_the_model_back(photos, tmp_path):
    model = diptych.adapt("mini", str(photos), method="nearest-mean", cache=tmp_path)
    assert model.config.name == "mini+nearest-mean"
    assert model.classifier().labels == model.head.classes


def test_a_method_without_labels_looks_at_none_and_is_measured_on_all(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "run"
    assert main(["adapt", "mini", str(photos), "--method", "prompt-ensemble", "--keep", "pictograms/unseen", "--out", str(run)]) == 0
    assert "no labelled picture" in capsys.readouterr().out
    found = recipe.adapt("mini", str(photos), method="tda", limit=10, cache=tmp_path / "cache")
    assert (found.shots, found.gain.n) == (0, 10)
    whole = recipe.adapt("mini", "pictograms/groups/activities", method="tda", cache=tmp_path / "cache")  # a sealed set, not fitted on
    assert whole.gain.n == len({sample.concept for sample in material("pictograms/groups/activities").source})
