"""MoCoOp: router, mixture and losses against loops, any names, kept with the model; styles that want contexts of their own."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from prompt_world import NAMES, TEXTS, again, small, world
from torch.nn import functional as F

import diptych
from diptych.adapt.attach import copy_of
from diptych.adapt.parts.context import start
from diptych.adapt.prompts.mocoop import mocoop
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.towers.prompts import Inserted, text_start

FOLDER = Path(__file__).resolve().parents[2] / "reference"
REFERENCE = runpy.run_path(str(FOLDER / "mocoop.py"))
GROUPS = (("an {}.", "the {}."), ("{}", "{}!"), ("my {} here", "{}"))


@pytest.fixture(params=TEXTS)
def work(request):
    return world(small(request.param))


def soft(model, contexts, names, after=(".", "", " here")):
    """Class rows behind each context, one name at a time."""
    found = []
    for context, end in zip(contexts, after, strict=True):
        here = Inserted((context.to(model.scale.dtype),), text_start(model))
        with torch.no_grad():
            found.append([model.text_features(model.tokenizer([name + end]), prompts=here)[0].double().tolist() for name in names])
    return found


def hard(model):
    """The templates' class rows."""
    found = []
    for group in GROUPS:
        rows = [torch.stack([model.encode_text([one.replace("{}", name)])[0] for one in group]).double().mean(0) for name in NAMES]
        found.append([(row / row.norm()).tolist() for row in rows])
    return found


@pytest.mark.parametrize("top", [1, 2])
def test_the_first_loss_is_the_papers(work, top):
    made = mocoop(again(work), groups=GROUPS, top=top, guide=0.7, text=3.0, epochs=1, batch=16)
    draw, model = generator(0, "prompt draw"), copy_of(work.model).double()
    contexts = [start(model, "an ", 3, draw), start(model, "", 1, draw), start(model, "my ", 3, draw)]
    router = (2 * torch.rand(3, 32, generator=draw) - 1) / 32**0.5
    bias = (2 * torch.rand(3, generator=draw) - 1) / 32**0.5
    shots = work.shots
    given = [shots.image_SD.double().tolist(), shots.label_S.tolist(), soft(model, contexts, NAMES), hard(work.model)]
    wanted = REFERENCE["loss"](*given, router.double().tolist(), bias.double().tolist(), shots.scale, top, 0.7, 3.0)
    assert made.losses[0] == pytest.approx(wanted, rel=1e-4)
    assert made.numbers == (3 + 1 + 3) * 16 + 3 * 32 + 3


def test_answers_as_the_paper_says_for_any_names(work, tmp_path):
    made = mocoop(work, groups=GROUPS, epochs=3, lr=0.3, batch=8).model
    numbers = dict(made.rule.named_buffers())
    contexts = [numbers[f"context_{g}"] for g in range(3)]
    diptych.save(made, tmp_path / "model")
    back, rows = diptych.load(str(tmp_path / "model")), work.shots.image_SD
    for names in (NAMES, ("a lamp", "wind")):
        class_rows, found = soft(copy_of(work.model).double(), contexts, names), []
        for row in rows.double().tolist():
            gates = REFERENCE["gate"](row, numbers["router"].double().tolist(), numbers["router_bias"].double().tolist())
            found.append(REFERENCE["logits"](row, class_rows, gates, work.shots.scale, 2))
        got = made.rule.answer(made, names).logits(rows)
        torch.testing.assert_close(got.double(), torch.tensor(found).double(), atol=2e-4, rtol=1e-4)
        assert torch.equal(back.classifier(names).probabilities(rows), got.softmax(1))


def test_learns_and_leaves_the_parent_as_it_is(work):
    before = {name: value.clone() for name, value in work.model.state_dict().items()}
    made = mocoop(work, groups=GROUPS, guide=0.0, text=0.0, epochs=15, lr=0.3, batch=8)
    assert made.losses[-1] < 0.85 * made.losses[0]
    told = made.model.classifier(NAMES).probabilities(work.shots.image_SD)
    assert float(F.nll_loss(told.log(), work.shots.label_S)) < 0.85 * made.losses[0]
    assert all(torch.equal(before[name], value) for name, value in work.model.state_dict().items())
    assert all(parameter.grad is None for parameter in work.model.parameters())


def test_the_router_learns_which_template_a_picture_is_like():
    """Half of the pictures lie at the texts of the first template, half at those of the second; the guide tells the router which."""
    model = small("causal")
    base = world(model)
    groups = (("an {}.",), ("my {} here",))
    rows = model.encode_text([one[0].replace("{}", name) for one in groups for name in NAMES]).repeat(4, 1)
    image = F.normalize(rows + 0.02 * torch.randn(rows.shape, generator=generator(0, "styles")), dim=1)
    shots = replace(base.shots, image_SD=image, label_S=torch.arange(4).repeat(8))
    base = base.take(torch.arange(1).repeat(32))
    rule = mocoop(replace(base, shots=shots), groups=groups, top=1, epochs=40, lr=1.0).model.rule
    gate = F.linear(image, rule.router, rule.router_bias)
    assert (gate.argmax(1) == torch.tensor([0, 0, 0, 0, 1, 1, 1, 1] * 4)).double().mean() > 0.8


def test_groups_that_cannot_be_used_are_told(work):
    for groups, match in (((), "has no template"), (((),), "has no template"), ((("a photo",),), "it has no {} for the class")):
        with pytest.raises(UsageError, match=match):
            mocoop(work, groups=groups)


def test_templates_in_use_are_groups_where_there_are_several(work):
    several = replace(work, shots=replace(work.shots, templates=("a {}", "the {}.")))
    assert mocoop(several, epochs=1).model.rule.config.options["after"] == ["", "."]
