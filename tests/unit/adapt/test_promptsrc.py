"""PromptSRC: training and ensemble held against loops in float64; agreement keeps rows near the parent's."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from prompt_world import again, small
from towers_world import tiny_work

import diptych
from diptych.adapt.attach import copy_of
from diptych.adapt.prompts.promptsrc import TEMPLATES, disagreement, plain_rows, promptsrc, shares
from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.towers.prompts import Inserted

FOLDER = Path(__file__).resolve().parents[2] / "reference"
REFERENCE, SGD = (runpy.run_path(str(FOLDER / f"{name}.py")) for name in ("promptsrc", "coop"))
SAID = ("a {}", "the {}!")


@pytest.fixture(scope="module")
def work():
    return tiny_work(small("causal"))


@pytest.mark.parametrize(("agree", "ensemble"), [(1.0, True), (0.3, False)])
def test_training_is_the_papers(work, agree, ensemble) -> None:
    """Every step in float64: the prompts after each epoch, and the mean of them that the model gets."""
    shots, epochs = work.shots, 3
    given = {"context": 2, "words": "", "templates": SAID, "deviation": 0.2, "lr": 0.05}
    made = promptsrc(again(work), epochs=epochs, batch=6, agree=agree, ensemble=ensemble, **given)
    draw, model = generator(0, "prompt draw"), copy_of(work.model).double()
    first = [0.02 * torch.randn(2, width, generator=draw) for width in (16, 16, 32, 32)]
    learned, speeds, losses, after = [one.double() for one in first], [None] * 4, [], []
    plain_KD = plain_rows(shots, SAID).double()
    for epoch in range(epochs):
        seen = 0.0
        for step, part in enumerate(torch.randperm(16, generator=draw).split(6)):
            learned = [one.detach().requires_grad_() for one in learned]
            pixels = model.normalise(work.pictures(part, draw)).double()
            image = model.image_features(pixels, normalise=False, prompts=Inserted(tuple(learned[2:])))
            text = torch.cat(
                [model.text_features(model.tokenizer([f"{k}."]), prompts=Inserted(tuple(learned[:2]), 1)) for k in shots.classes]
            )
            before = model.image_features(pixels, normalise=False)
            told, plain = shots.scale * image @ text.T, shots.scale * before @ plain_KD.T
            loss = torch.nn.functional.cross_entropy(told, shots.label_S[part])
            loss = loss + agree * disagreement(told, plain, (text, plain_KD), (image, before), 25.0, 10.0)
            rows = (one.tolist() for one in (image, text, before, plain_KD))
            slow = REFERENCE["loss"](*rows, shots.scale, shots.label_S[part].tolist(), agree=agree)
            assert float(loss.detach()) == pytest.approx(slow, rel=1e-9)
            seen += slow * len(part) / 16
            lr = SGD["rate"](epoch, step, 3, epochs, 0.05)
            for i, (one, gradient) in enumerate(zip(learned, torch.autograd.grad(loss, learned), strict=True)):
                flat, speeds[i] = SGD["sgd"](one.flatten().tolist(), gradient.flatten().tolist(), speeds[i], lr)
                learned[i] = torch.tensor(flat, dtype=torch.float64).reshape(one.shape)
        losses.append(seen)
        after.append(learned)
    share = REFERENCE["shares"](epochs, 0.75, 0.2) if ensemble else [0.0, 0.0, 1.0]
    wanted = [sum(s * prompts[i] for s, prompts in zip(share, after, strict=True)) for i in range(4)]
    assert made.losses == pytest.approx(losses, rel=1e-4)
    assert made.numbers == 2 * 2 * 16 + 2 * 2 * 32
    torch.testing.assert_close(made.model.prompts.text.double(), torch.stack(wanted[:2]), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(made.model.prompts.image.double(), torch.stack(wanted[2:]), atol=1e-4, rtol=1e-3)


def test_weights_of_the_epochs_are_a_bell() -> None:
    for epochs, mean, deviation in ((20, 0.75, 0.05), (7, 0.5, 0.3), (1, 0.75, 0.05)):
        assert shares(epochs, mean, deviation) == pytest.approx(REFERENCE["shares"](epochs, mean, deviation))
    paper = shares(20, 0.75, 0.05)
    assert max(range(20), key=lambda e: paper[e]) == 14
    assert sum(shares(3, 0.0, 0.001)) == pytest.approx(1.0)


def test_training_lowers_the_loss_and_agreement_keeps_rows_near_the_parents(work, tmp_path) -> None:
    before = work.model.fingerprint()
    held, loose = (promptsrc(again(work), epochs=8, lr=0.01, agree=agree) for agree in (1.0, 0.0))
    assert held.losses[-1] < held.losses[0]
    assert loose.losses[-1] < loose.losses[0]
    assert work.model.fingerprint() == before
    index, names = torch.arange(16), ["a thing never seen", "snow"]
    apart = [float((made.model.encode_image(work.pictures(index)) - work.shots.image_SD).abs().mean()) for made in (held, loose)]
    assert apart[0] < apart[1]
    words = work.model.classifier(names).rows_KD
    told = [float((made.model.classifier(names).rows_KD - words).abs().mean()) for made in (held, loose)]
    assert told[0] < told[1]
    diptych.save(held.model, tmp_path / "held")
    again_ = diptych.load(str(tmp_path / "held"))
    torch.testing.assert_close(again_.classifier(names).rows_KD, held.model.classifier(names).rows_KD, atol=1e-6, rtol=0)


def test_the_parent_is_told_each_class_in_many_ways(work) -> None:
    shots = work.shots
    rows = plain_rows(shots, ())
    ways = [shots.templates[0], *TEMPLATES[1:]]
    assert (shots.templates, len(TEMPLATES)) == (TEMPLATES[:1], 16)
    for k, name in enumerate(shots.classes):
        mean = torch.stack([work.model.encode_text([way.format(name)])[0].double() for way in ways]).mean(0)
        torch.testing.assert_close(rows[k].double(), mean / mean.norm(), atol=1e-6, rtol=0)
    with pytest.raises(UsageError, match="template 'photo'"):
        promptsrc(work, templates=("photo",))
    with pytest.raises(UsageError, match="3 layers"):
        promptsrc(work, depth=3)
    with pytest.raises(UsageError, match="no text tower is at hand"):
        plain_rows(replace(shots, encode=None), SAID)
