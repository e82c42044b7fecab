"""MaPLe: training held against its loop in float64, prompts of both towers kept with the model, depth and tower that do not fit."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from prompt_world import TEXTS, again, small
from torch import Tensor
from torch.nn import functional as F
from towers_world import tiny_work

import diptych
from diptych.adapt.attach import copy_of
from diptych.adapt.parts.context import token_rows
from diptych.adapt.parts.deep import Deep, begun, depth_of
from diptych.adapt.prompts.maple import coupled, maple
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.data.tokenizers import Tokenizer
from diptych.towers.conv import ConvConfig
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset
from diptych.towers.prompts import Inserted, Prompts, text_start

FOLDER = Path(__file__).resolve().parents[2] / "reference"
REFERENCE, SGD = (runpy.run_path(str(FOLDER / f"{name}.py")) for name in ("maple", "coop"))


@pytest.fixture(params=TEXTS)
def work(request):
    return tiny_work(small(request.param))


def text_rows(model: DualEncoder, names, layers) -> Tensor:
    """Rows of the names, each alone and as long as the tower reads."""
    here = Inserted(tuple(layers), text_start(model))
    return torch.cat([model.text_features(model.tokenizer([f"{name}."]), prompts=here) for name in names])


@pytest.mark.parametrize("vision", [True, False])
def test_training_is_the_papers(work, vision) -> None:
    shots, epochs, bound = work.shots, 2, 16**-0.5
    made = maple(again(work), context=2, vision=vision, words="", epochs=epochs, lr=0.05, batch=5)
    draw, model = generator(0, "prompt draw"), copy_of(work.model).double()
    first = [0.02 * torch.randn(2, 16, generator=draw) for _ in range(2)]
    if vision:
        first += [(torch.rand(32, 16, generator=draw) * 2 - 1) * bound for _ in range(2)]
        first += [(torch.rand(32, generator=draw) * 2 - 1) * bound for _ in range(2)]
    learned, speeds, losses = [one.double() for one in first], [None] * len(first), []
    for epoch in range(epochs):
        seen = 0.0
        for step, part in enumerate(torch.randperm(16, generator=draw).split(5)):
            learned = [one.detach().requires_grad_() for one in learned]
            layers = [F.linear(t, w, b) for t, w, b in zip(learned[:2], learned[2:4], learned[4:], strict=True)] if vision else []
            if vision:
                slow = REFERENCE["coupled"](*(torch.stack(learned[i : i + 2]).tolist() for i in (0, 2, 4)))
                torch.testing.assert_close(torch.stack(layers), torch.tensor(slow, dtype=torch.float64))
            pixels = model.normalise(work.pictures(part, draw)).double()
            image = model.image_features(pixels, normalise=False, prompts=Inserted(tuple(layers)) if vision else None)
            text = text_rows(model, shots.classes, learned[:2])
            gradients = torch.autograd.grad(F.cross_entropy(shots.scale * image @ text.T, shots.label_S[part]), learned)
            seen += REFERENCE["loss"](image.tolist(), text.tolist(), shots.scale, shots.label_S[part].tolist()) * len(part) / 16
            lr = SGD["rate"](epoch, step, 4, epochs, 0.05)
            for i, (one, gradient) in enumerate(zip(learned, gradients, strict=True)):
                flat, speeds[i] = SGD["sgd"](one.flatten().tolist(), gradient.flatten().tolist(), speeds[i], lr)
                learned[i] = torch.tensor(flat, dtype=torch.float64).reshape(one.shape)
        losses.append(seen)
    assert made.losses == pytest.approx(losses, rel=1e-4)
    assert made.numbers == sum(one.numel() for one in learned)
    torch.testing.assert_close(made.model.prompts.text.double(), torch.stack(learned[:2]), atol=1e-4, rtol=1e-3)
    if vision:
        wanted = torch.tensor(REFERENCE["coupled"](*(torch.stack(learned[i : i + 2]).tolist() for i in (0, 2, 4))), dtype=torch.float64)
        torch.testing.assert_close(made.model.prompts.image.double(), wanted, atol=1e-4, rtol=1e-3)
    else:
        assert made.model.prompts.config.image == 0


def test_training_lowers_the_loss_and_leaves_the_parent(work, tmp_path) -> None:
    before = work.model.fingerprint()
    made = maple(again(work), epochs=12, lr=0.05, batch=4)
    assert min(made.losses[-3:]) < 0.9 * made.losses[0]
    assert work.model.fingerprint() == before
    assert work.model.prompts is None
    rows = made.model.encode_image(work.pictures(torch.arange(16)))
    assert made.model.templates == ("{}.",)
    diptych.save(made.model, tmp_path / "made")
    loaded = diptych.load(str(tmp_path / "made"))
    torch.testing.assert_close(loaded.encode_image(work.pictures(torch.arange(16))), rows, atol=1e-6, rtol=0)
    other = made.model.classifier(["a thing never seen", "snow"]).probabilities(rows)
    assert other.shape == (16, 2)
    torch.testing.assert_close(loaded.classifier(["a thing never seen", "snow"]).probabilities(rows), other, atol=1e-6, rtol=0)


def test_the_text_alone_leaves_the_rows_of_pictures() -> None:
    work = tiny_work(small("causal"))
    made = maple(work, vision=False, epochs=1)
    assert torch.equal(made.model.encode_image(work.pictures(torch.arange(16))), work.shots.image_SD)
    assert made.numbers == 2 * 2 * 16


def test_first_prompts_are_the_first_tokens_of_the_words() -> None:
    model = small("causal")
    words, draw = token_rows(model, "a photo"), generator(0, "begin")
    assert torch.equal(begun(model, "a photo", 3, draw), words[:3])
    longer = begun(model, "a photo", 9, draw)
    assert torch.equal(longer[2:], words)
    assert 0 < float(longer[:2].abs().max()) < 0.1
    assert torch.equal(begun(model, None, 3, draw, ("{}", "a photo of {}")), words[:3])
    assert not torch.equal(begun(model, None, 3, draw, ("{}",)), words[:3])
    assert float(begun(model, "", 400, draw).std()) == pytest.approx(0.02, rel=0.05)


def test_layers_are_three_quarters_of_the_shallower_towers_blocks() -> None:
    model = small("causal")
    assert depth_of(model, None) == 2
    deeper = model.config.model_copy(update={"image": model.config.image.model_copy(update={"depth": 12})})
    assert depth_of(DualEncoder(deeper, Tokenizer.byte_level(20)), None) == 2
    both = deeper.model_copy(update={"text": deeper.text.model_copy(update={"depth": 12})})
    assert depth_of(DualEncoder(both, Tokenizer.byte_level(20)), None) == 9
    assert maple(tiny_work(model), depth=1, epochs=1).model.prompts.config.text_layers == 1
    with pytest.raises(UsageError, match=r"prompts in 3 layers of 'tiny': one of its towers has 2 blocks\. Use at most 2"):
        maple(tiny_work(model), depth=3)


def test_towers_without_places_for_prompts_are_named() -> None:
    conv = ConvConfig(image_size=(16, 16), stem=8, widths=(8, 16), depths=(1, 1), strides=(2, 2))
    model = DualEncoder(preset("tiny").model_copy(update={"image": conv}), Tokenizer.byte_level(16)).eval()
    model.config = model.config.model_copy(update={"preprocess": small("causal").config.preprocess})
    work = tiny_work(model)
    with pytest.raises(UsageError, match=r"prompts in image tower 'conv'.*such as 'coop'"):
        maple(work)
    assert maple(work, vision=False, epochs=1).model.prompts.config.image == 0
    with pytest.raises(UsageError, match="16 tokens in all"):
        maple(work, vision=False, context=14)
    prompts = Prompts.of(text=[torch.zeros(2, 32)])
    with pytest.raises(UsageError, match="reads prompts already"):
        maple(tiny_work(model.with_prompts(prompts)), vision=False)


def test_names_keep_their_order_behind_deep_prompts(work) -> None:
    names = ("a long name", "owl", "red pear", "")
    deep = Deep.of(replace(work, shots=replace(work.shots, classes=names)), 2)
    layers = list(torch.randn(2, 2, 16, generator=generator(0, "layers")))
    torch.testing.assert_close(deep.text(layers), text_rows(deep.model, names, layers), atol=1e-5, rtol=1e-5)


def test_couplings_are_one_for_each_layer() -> None:
    draw = generator(0, "coupled")
    text, weight, bias = (torch.randn(3, *shape, generator=draw) for shape in ((2, 4), (5, 4), (5,)))
    made = torch.stack(coupled(list(text), list(weight), list(bias)))
    torch.testing.assert_close(made, torch.tensor(REFERENCE["coupled"](text.tolist(), weight.tolist(), bias.tolist())))
    assert coupled(list(text), [], []) == []
