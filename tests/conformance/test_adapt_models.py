"""What every adaptation method must show on a whole model: ``mini``, and random CLIP and SigLIP that came in as others' files."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import diptych
from diptych.adapt.parts.shots import Shots
from diptych.adapt.parts.work import Pictures, Tuned, Work
from diptych.core import registry
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.data.tokenizers import Tokenizer
from diptych.engine.fewshot import logits_of, make
from diptych.evaluate.protocols.zero_shot import class_rows
from diptych.recipes.adapt import named
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import clip, siglip
from diptych.towers.text import TransformerConfig
from diptych.towers.vision import ViTConfig

NAMES = ("red apple", "green apple", "blue book", "elephant")
COLOUR = torch.tensor([[220, 40, 40], [40, 200, 60], [50, 60, 220], [128, 128, 128]])
EACH, FREE = 4, 12
QUICK = {"epochs": 1, "rounds": 1, "views": 4, "steps": 1, "iterations": 2, "warmup": 0, "samples": 2, "batch": 8}
GIVEN: dict[str, dict[str, Any]] = {"rlcf": {"reward": "mini"}, "amu-tuning": {"aux": "mini"}}
ELSEWHERE: dict[str, str] = {}  # methods that this world says nothing to, with the file that tests them on models
IDS = [entry.id for entry in registry.entries() if entry.family == "adapt" and entry.id not in ELSEWHERE]
MODELS = ("mini", "clip", "siglip")


@functools.cache
def model_of(kind: str) -> DualEncoder:
    """The embedded model, or a random one that went through another project's format."""
    if kind == "mini":
        return diptych.load("mini")
    image = ViTConfig(image_size=(24, 24), patch=8, width=32, depth=2, heads=4, mlp=64)
    text = TransformerConfig(vocab=260, context=48, width=32, depth=2, heads=4, mlp=64)
    if kind == "clip":
        made = DualEncoder(clip("random-clip", image, text, 24).model_copy(update={"tokenizer": None}), seed=3)
    else:
        image = image.model_copy(update={"pool": "attention", "class_token": False, "norm_pre": False, "patch_bias": True})
        text = text.model_copy(update={"causal": False, "pool": "last", "pad_id": 258})
        made = DualEncoder(siglip("random-siglip", image, text), seed=3)
    with tempfile.TemporaryDirectory() as folder:
        diptych.save(made.eval(), Path(folder) / "theirs", format="huggingface")
        came = diptych.load(Path(folder) / "theirs")
    config = came.config.model_copy(update={"text": came.config.text.model_copy(update={"pad_id": 258})})
    ours = DualEncoder(config.model_validate(dict(config)), Tokenizer.byte_level(48)).eval()
    ours.load_state_dict(came.state_dict())
    return ours


def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """uint8 pictures at 64 px of a class's colour with noise, and their labels, ``count`` a class."""
    draw = generator(seed, "adapt pictures")
    label_N = torch.arange(len(NAMES)).repeat_interleave(count)
    noise = torch.randint(-40, 40, (len(label_N), 3, 64, 64), generator=draw)
    return (COLOUR[label_N][:, :, None, None] + noise).clamp(0, 255).to(torch.uint8), label_N


@functools.cache
def world(kind: str) -> tuple[Work, Tensor, Tensor]:
    """A model's work, and prepared test pictures with their labels."""
    model = model_of(kind)
    side = model.config.preprocess.size[0]

    def sized(image_BCHW: Tensor) -> Tensor:
        return image_BCHW[:, :, :side, :side].contiguous()

    given, label_S = pictures(EACH, 0)
    free, _ = pictures(FREE // len(NAMES), 1)
    asked, label_A = pictures(2, 2)
    given, free, asked = sized(given), sized(free), sized(asked)
    templates = tuple(model.templates)
    encode = functools.cache(lambda texts: model.encode_text(list(texts)))

    def texts(lines: Any) -> Tensor:
        return encode(tuple(lines))

    shots = Shots(
        model.encode_image(given), label_S, class_rows(NAMES, templates, texts), NAMES, float(model.scale.detach()),
        generator(0, "adapt"), model.encode_image(free), tuple((f"a {NAMES[k]} here",) for k in label_S.tolist()), templates, texts,
    )  # fmt: skip
    parts = [Pictures(lambda index, data=data: data[index], torch.arange(len(data))) for data in (given, free)]
    return Work(model, shots, *parts), asked, label_A


def fresh(work: Work) -> Work:
    """The same work with its random numbers from the start."""
    return replace(work, shots=replace(work.shots, draw=generator(0, "adapt")))


def options(identity: str) -> dict[str, Any]:
    """The method's settings made small."""
    known = registry.find(identity, "adapt").load().Options.model_fields
    return {name: value for name, value in QUICK.items() if name in known} | GIVEN.get(identity, {})


def made_of(identity: str, work: Work) -> Any:
    return make(registry.find(identity, "adapt"), fresh(work), options(identity))


def made_or_refused(identity: str, work: Work) -> Any:
    """What the method makes, or why it does not."""
    try:
        return made_of(identity, work)
    except UsageError as error:
        return error


def answers(model: DualEncoder, asked: Tensor) -> Tensor:
    return model.classifier(NAMES).predict(asked)[1]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("identity", IDS)
def test_gives_the_same_kind_of_model_back(identity: str, kind: str, tmp_path: Path) -> None:
    """It names pictures, one by one too, is saved and loaded, and the parent is as it was."""
    work, asked, _ = world(kind)
    parent, before = work.model, work.model.fingerprint()
    made = made_or_refused(identity, work)
    if isinstance(made, UsageError):  # a tower that the method cannot work on is one clear line that names it
        assert any(word in str(made) for word in (parent.config.name, "tower", "token"))
        assert kind != "clip", f"a CLIP must do: {made}"
        return
    child = named(work, made, identity)
    chances = answers(child, asked)
    assert chances.shape == (len(asked), len(NAMES))
    assert bool(chances.isfinite().all())
    torch.testing.assert_close(chances.sum(1), torch.ones(len(asked)), atol=1e-4, rtol=0)
    assert child.config.parent == parent.config.name
    assert parent.fingerprint() == before
    assert not any(parameter.requires_grad != other for parameter, other in zip(parent.parameters(), trained(kind), strict=True))
    diptych.save(child, tmp_path / "child")
    again = diptych.load(tmp_path / "child")
    assert again.fingerprint() == child.fingerprint()
    torch.testing.assert_close(answers(again, asked[:1]), answers(named(work, made, identity), asked[:1]), atol=1e-4, rtol=0)


@functools.cache
def trained(kind: str) -> tuple[bool, ...]:
    """Which of the parent's parameters a caller had marked for training."""
    return tuple(parameter.requires_grad for parameter in model_of(kind).parameters())


@pytest.mark.parametrize("identity", IDS)
def test_same_draw_same_model(identity: str) -> None:
    work, asked, _ = world("clip")
    first, second = (answers(named(work, made_of(identity, work), identity), asked) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("identity", [i for i in IDS if "labels" in registry.find(i, "adapt").card.needs])
@pytest.mark.parametrize("case", ["one picture a class", "a class without pictures"])
def test_few_pictures_give_finite_answers(identity: str, case: str) -> None:
    work, _, _ = world("clip")
    index = torch.tensor([0, 4, 8, 12] if case == "one picture a class" else list(range(12)))
    part = work.take(index)
    logits = logits_of(made_of(identity, part), part, torch.arange(len(index)))
    assert logits.shape == (len(index), len(NAMES))
    assert bool(logits.isfinite().all())


@pytest.mark.parametrize("identity", IDS)
def test_what_it_needs_is_asked_for_in_one_line(identity: str) -> None:
    entry = registry.find(identity, "adapt")
    work, _, _ = world("clip")
    for need, told in (("labels", "needs labelled pictures"), ("unlabelled", "pictures without labels"), ("captions", "needs captions")):
        shots = {
            "labels": replace(work.shots.take(torch.zeros(0, dtype=torch.int64)), free_UD=None),
            "unlabelled": replace(work.shots, free_UD=None),
            "captions": replace(work.shots, captions=()),
        }[need]
        if need in entry.card.needs:
            with pytest.raises(UsageError, match=told):
                make(entry, shots, options(identity))
    if "towers" in entry.card.needs:
        with pytest.raises(UsageError, match="only rows were given"):
            make(entry, work.shots, options(identity))


@pytest.mark.parametrize("identity", [i for i in IDS if "towers" in registry.find(i, "adapt").card.needs])
def test_what_trains_says_how_much(identity: str) -> None:
    work, _, _ = world("clip")
    made = made_of(identity, work)
    if isinstance(made, Tuned):
        assert made.numbers > 0
        assert all(loss == loss for loss in made.losses)
