"""BiomedCoOp: its loss against loops, which descriptions are usual, and how near the mean description the classes stay."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch
from prompt_world import NAMES, TEXTS, again, small, world
from torch.nn import functional as F

import diptych
from diptych.adapt.attach import copy_of
from diptych.adapt.parts.context import start
from diptych.adapt.prompts.biomedcoop import biomedcoop, described, usual
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.towers.prompts import Inserted, text_start

REFERENCE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "reference" / "biomedcoop.py"))
TOLD = {
    "owl": ["an owl", "it hoots", "night bird"],
    "a tree": ["it grows"],
    "snow": ["cold", "white"],
    "red pear": ["fruit", "sweet", "red"],
}


@pytest.fixture(params=TEXTS)
def work(request):
    return world(small(request.param))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "told.json"
    path.write_text(json.dumps(TOLD))
    return str(path)


def rows_of(file, work):
    """The descriptions' rows as the method reads them: a shorter list begins again."""
    return [[work.model.encode_text([TOLD[n][p % len(TOLD[n])]])[0].double().tolist() for n in NAMES] for p in range(3)]


def test_the_first_loss_is_the_papers(work, file):
    made = biomedcoop(again(work), descriptions=file, context=2, match=30.0, distil=4.0, tau=1.0, epochs=1, batch=16)
    draw, model, shots = generator(0, "prompt draw"), copy_of(work.model).double(), work.shots
    here = Inserted((start(model, "a ", 2, draw).double(),), text_start(model))
    with torch.no_grad():
        text = [model.text_features(model.tokenizer([f"{name}."]), prompts=here)[0].tolist() for name in NAMES]
    given = [shots.image_SD.double().tolist(), shots.label_S.tolist(), text, rows_of(file, work)]
    assert made.losses[0] == pytest.approx(REFERENCE["loss"](*given, shots.scale, 30.0, 4.0, 1.0), rel=1e-4)
    assert len(REFERENCE["usual"](given[0], given[3], shots.scale, 1.0)) < 3


def test_usual_descriptions_are_those_of_the_code_and_all_where_they_are_equal():
    draw = generator(0, "usual")
    image = F.normalize(torch.randn(6, 8, generator=draw), dim=1)
    told = F.normalize(torch.randn(20, 5, 8, generator=draw), dim=2)
    for tau in (0.8, 1.0, 1.25):
        kept = REFERENCE["usual"](image.double().tolist(), told.double().tolist(), 30.0, tau)
        assert usual(image, told, 30.0, tau).nonzero()[:, 0].tolist() == kept
        assert 0 < len(kept) < 20
    for count in range(1, 40):
        assert bool(usual(image, told[count % 20][None].expand(count, -1, -1), 30.0, 1.0).all())


def test_descriptions_of_a_file_and_templates(work, file):
    torch.testing.assert_close(described(work.shots, file), torch.tensor(rows_of(file, work)).float(), atol=1e-5, rtol=1e-5)
    general = described(work.shots, None)
    assert general.shape == (13, 4, 32)
    torch.testing.assert_close(general[0], work.model.encode_text([f"a {name}" for name in NAMES]), atol=1e-5, rtol=1e-5)


def test_learns_stays_nearer_to_the_descriptions_and_leaves_the_parent_as_it_is(work, file, tmp_path):
    before = {name: value.clone() for name, value in work.model.state_dict().items()}
    ends = F.normalize(described(work.shots, file).mean(0), dim=1)
    far, right = [], []
    for match in (0.0, 3000.0):
        made = biomedcoop(again(work), descriptions=file, match=match, distil=0.0, epochs=12, lr=0.03, batch=8)
        far.append(float((made.model.classifier(NAMES).rows_KD - ends).square().sum()))
        right.append(made)
    assert right[0].losses[-1] < 0.9 * right[0].losses[0]
    assert far[1] < far[0]
    assert all(torch.equal(before[name], value) for name, value in work.model.state_dict().items())
    assert all(parameter.grad is None for parameter in work.model.parameters())
    diptych.save(right[0].model, tmp_path / "model")
    back = diptych.load(str(tmp_path / "model"))
    assert torch.equal(back.classifier(("a lamp", "wind")).rows_KD, right[0].model.classifier(("a lamp", "wind")).rows_KD)


def test_a_class_without_a_description_is_told(work, tmp_path):
    (tmp_path / "told.json").write_text(json.dumps(TOLD | {"snow": []}))
    with pytest.raises(UsageError, match="class 'snow' has no description"):
        biomedcoop(work, descriptions=str(tmp_path / "told.json"))
