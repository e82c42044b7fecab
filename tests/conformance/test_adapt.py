"""What every method that adapts from rows must show; runs for each one that the registry finds."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from diptych.adapt.parts.shots import Shots
from diptych.adapt.parts.work import Pictures, Work
from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.engine.fewshot import choose, folds, make
from diptych.towers.rule import Rule

APART = {"description-semantics": "it needs classes that something is known of; see test_description_semantics.py"}
IDS = [e.id for e in registry.entries() if e.family == "adapt" and e.card.needs - {"pool-instead"} == {"labels"} and e.id not in APART]
CLOSED = ("nearest-mean", "gda-clip", "tip-adapter", "knn")
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "nearest-mean": [{"share": 0.3}, {"share": 1.0}],
    "gda-clip": [{"alpha": 0.1}, {"alpha": 2.0, "prior": "labels"}],
    "tip-adapter": [{"alpha": 1.5, "beta": 5.5}],
    "knn": [{"k": 3, "temperature": 0.1, "alpha": 2.0}, {"k": None, "temperature": 0.3, "alpha": 1.0, "words": 0.0}],
    "linear-probe": [{"ridge": 0.03}, {"ridge": 0.03, "from_words": False}],
}
REFERENCE = Path(__file__).resolve().parents[1] / "reference"


def world(per_class: int = 6, classes: int = 4, width: int = 8, spread: float = 0.5, seed: int = 0, text: float = 0.6) -> tuple[Shots, Any]:
    """Classes around random directions, words that point roughly there, and further pictures with their labels."""
    draw = generator(seed, "adapt world")
    centre_KD = F.normalize(torch.randn(classes, width, generator=draw), dim=1)

    def pictures(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        label = torch.arange(classes).repeat_interleave(count)
        return F.normalize(centre_KD[label] + spread * torch.randn(len(label), width, generator=draw), dim=1), label

    text_KD = F.normalize(centre_KD + text * torch.randn(classes, width, generator=draw), dim=1)
    image, label = pictures(per_class)
    names = tuple(f"class {k}" for k in range(classes))
    return Shots(image, label, text_KD, names, 10.0, generator(seed, "adapt draw")), pictures(200)


def told(made: Any, rows: torch.Tensor) -> torch.Tensor:
    """Logits of a head, or of a rule that reads rows; these look at no model."""
    return made.answer(None, made.classes).logits(rows) if isinstance(made, Rule) else made(rows)


def chosen(identity: str, shots: Shots) -> Any:
    """Options by cross-validation, with no model behind the rows."""
    work = Work(
        None, shots, Pictures(lambda index: index, torch.arange(len(shots.label_S))), Pictures(lambda index: index, torch.arange(0))
    )  # type: ignore[arg-type]
    return choose(identity, work, {})


def right(head: Any, asked: Any) -> float:
    return float((told(head, asked[0]).argmax(1) == asked[1]).double().mean())


@pytest.mark.parametrize("identity", SETTINGS)
def test_equals_its_reference(identity):
    shots, (asked, _) = world()
    shots = shots.take(torch.arange(3, 24))  # the first class has three pictures, the others six
    reference = runpy.run_path(str(REFERENCE / f"{identity.replace('-', '_')}.py"))["logits"]
    rows = [
        shots.image_SD.double().tolist(),
        shots.label_S.tolist(),
        shots.text_KD.double().tolist(),
        shots.scale,
        asked[:5].double().tolist(),
    ]
    for settings in SETTINGS[identity]:
        head = registry.find(identity, "adapt").function(shots, **settings)
        assert torch.allclose(told(head, asked[:5]).double(), torch.tensor(reference(*rows, **settings)).double(), atol=2e-5, rtol=1e-5)


def test_the_adapter_equals_its_reference_and_training_lowers_the_loss():
    shots, (asked, _) = world()
    reference = runpy.run_path(str(REFERENCE / "clip_adapter.py"))
    method = registry.find("clip-adapter", "adapt").function
    losses = []
    for epochs in (1, 200):
        head = method(replace(shots, draw=generator(0, "same start")), ratio=0.4, epochs=epochs)
        layers = {name: head.get_buffer(name).double().tolist() for name in ("down", "up")}
        text = shots.text_KD.double().tolist()
        twin = reference["logits"](text, shots.scale, asked[:5].double().tolist(), ratio=0.4, **layers)
        assert torch.allclose(head(asked[:5]).double(), torch.tensor(twin).double(), atol=1e-5)
        answers = reference["logits"](text, shots.scale, shots.image_SD.double().tolist(), ratio=0.4, **layers)
        losses.append(reference["loss"](answers, shots.label_S.tolist()))
    assert losses[1] < losses[0]


@pytest.mark.parametrize("identity", IDS)
def test_learns_what_the_words_miss(identity):
    shots, asked = world(per_class=16, width=32, text=0.2, spread=0.2)
    head = registry.find(identity, "adapt").function(shots, **chosen(identity, shots).options)
    assert right(head, asked) > right(shots.zero_shot(), asked) + 0.03


@pytest.mark.parametrize("identity", CLOSED)
def test_the_order_of_the_pictures_does_not_matter(identity):
    shots, (asked, _) = world()
    mixed = shots.take(torch.randperm(24, generator=generator(3, "order")))
    method = registry.find(identity, "adapt").function
    assert torch.allclose(told(method(shots), asked), told(method(mixed), asked), atol=1e-4)


@pytest.mark.parametrize("identity", IDS)
def test_same_draw_same_head(identity):
    heads = [registry.find(identity, "adapt").function(world()[0]) for _ in range(2)]
    for one, other in zip(heads[0].buffers(), heads[1].buffers(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("identity", IDS)
@pytest.mark.parametrize("case", ["one picture a class", "a class without pictures", "one class has nearly all", "the same picture"])
def test_few_and_uneven_pictures_give_finite_answers(identity, case):
    shots, (asked, _) = world()
    index = {
        "one picture a class": [0, 6, 12, 18],
        "a class without pictures": list(range(18)),
        "one class has nearly all": [0, 1, 2, 3, 4, 5, 6, 12, 18],
        "the same picture": [0, 0, 0, 6],
    }[case]
    part = shots.take(torch.tensor(index))
    choice = chosen(identity, part)
    logits = told(registry.find(identity, "adapt").function(part, **choice.options), asked)
    assert logits.shape == (800, 4)
    assert bool(logits.isfinite().all())
    assert (choice.accuracy is None) == (case == "one picture a class")


@pytest.mark.parametrize("identity", IDS)
def test_the_given_pictures_are_left_as_they_were(identity):
    shots, _ = world()
    before = [shots.image_SD.clone(), shots.text_KD.clone(), shots.label_S.clone()]
    head = registry.find(identity, "adapt").function(shots)
    assert all(torch.equal(a, b) for a, b in zip(before, [shots.image_SD, shots.text_KD, shots.label_S], strict=True))
    assert not any(buffer.requires_grad for buffer in head.buffers())
    assert head.config.method == identity if isinstance(head, Rule) else head.config.made_by.startswith(identity)


@pytest.mark.parametrize("identity", IDS)
def test_its_grid_holds_options_that_it_has(identity):
    module = registry.find(identity, "adapt").load()
    for name, values in module.GRID.items():
        for value in values:
            assert getattr(module.Options(**{name: value}), name) == value


def test_shots_refuse_what_cannot_be_adapted_to():
    shots, _ = world()
    with pytest.raises(UsageError, match="1 class"):
        replace(shots, classes=("only",), text_KD=shots.text_KD[:1])
    with pytest.raises(UsageError, match="two classes have this name"):
        replace(shots, classes=("a", "a", "b", "c"))
    with pytest.raises(UsageError, match="do not fit 4 classes"):
        replace(shots, label_S=shots.label_S + 1)
    bare = shots.take(torch.zeros(0, dtype=torch.int64))
    with pytest.raises(UsageError, match="needs labelled pictures"):
        make(registry.find("gda-clip", "adapt"), bare, {})


def test_folds_hold_out_every_picture_once_and_never_a_class_of_one():
    label = torch.tensor([0] * 8 + [1] * 5 + [2])
    divided = folds(label, generator(0, "folds"))
    asked = torch.cat([ask for _, ask in divided])
    assert sorted(asked.tolist()) == list(range(13))
    for fit, ask in divided:
        assert not set(fit.tolist()) & set(ask.tolist())
        assert 13 in fit.tolist()
        assert set(label[fit].tolist()) == {0, 1, 2}
    assert folds(torch.tensor([0, 1, 2]), generator(0, "folds")) == []


def test_why_nothing_was_asked_is_told_as_it_is():
    """One picture a class cannot be held out; where every setting was given to a method that trains a tower, there is nothing to choose."""
    shots, _ = world()
    one = shots.take(torch.arange(0, 24, 6))
    assert choose("gda-clip", one, {}).unasked.startswith("nothing could be held out")
    assert choose("gda-clip", one, {"alpha": 0.1}).unasked == "nothing to choose"
    assert choose("lora", shots, {}).unasked == "nothing to choose"
    assert choose("gda-clip", shots, {}).unasked == ""
