"""CKA against float64 loops and its invariances; layers by hooks; the protocol on a model that forgets what it is perturbed by."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.evaluate import measure
from diptych.evaluate.features import Features
from diptych.evaluate.material import table
from diptych.evaluate.metrics import cka
from diptych.evaluate.outcome import Question
from diptych.evaluate.protocols import robust_rep_similarity as protocol
from diptych.evaluate.report import figures
from diptych.evaluate.similarity import ROWS, image_layers, similarity, text_layers
from diptych.evaluate.view import View
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset


def normal(*shape: int, name: object = "") -> torch.Tensor:
    return torch.randn(*shape, generator=generator(0, name), dtype=torch.float64)


def hsic(x, y, debiased: bool) -> float:
    """Both estimators as their papers write them, element by element."""
    n = len(x)
    kernel = [[[math.fsum((a * b).tolist()) for b in rows] for a in rows] for rows in (x, y)]
    if not debiased:
        centre = [[float(i == j) - 1 / n for j in range(n)] for i in range(n)]
        made = [torch.tensor(centre, dtype=torch.float64) @ torch.tensor(k, dtype=torch.float64) for k in kernel]
        return float((made[0] @ made[1]).trace()) / (n - 1) ** 2
    k, el = ([[0.0 if i == j else one[i][j] for j in range(n)] for i in range(n)] for one in kernel)
    trace = math.fsum(k[i][j] * el[j][i] for i in range(n) for j in range(n))
    sums = math.fsum(map(math.fsum, k)) * math.fsum(map(math.fsum, el))
    cross = math.fsum(k[i][j] * el[j][m] for i in range(n) for j in range(n) for m in range(n))
    return (trace + sums / ((n - 1) * (n - 2)) - 2 * cross / (n - 2)) / (n * (n - 3))


@pytest.mark.parametrize("debiased", [True, False])
def test_cka_equals_its_loop(debiased):
    x, y = normal(11, 5, name="x") + 2, normal(11, 7, name="y") - 1
    y[:, :5] += x
    by_hand = hsic(x, y, debiased) / math.sqrt(hsic(x, x, debiased) * hsic(y, y, debiased))
    assert cka.cka(x, y, debiased=debiased) == pytest.approx(by_hand, abs=1e-12)
    both = cka.matrix([x, y], [y, x, x[:, :2]], debiased=debiased)
    assert both.shape == (2, 3)
    assert both[0, 0].item() == pytest.approx(by_hand, abs=1e-12)
    assert [both[1, 0].item(), both[0, 1].item()] == pytest.approx([1, 1])


@pytest.mark.parametrize("debiased", [True, False])
def test_cka_does_not_see_rotation_scale_or_place(debiased):
    x, y = normal(30, 6, name="x"), normal(30, 6, name="y")
    y += 0.5 * x
    turn, _ = torch.linalg.qr(normal(6, 6, name="turn"))
    plain = cka.cka(x, y, debiased=debiased)
    assert 0.05 < plain < 0.95
    assert cka.cka(7 * x @ turn + 3, -0.1 * y, debiased=debiased) == pytest.approx(plain, abs=1e-10)
    stretched = x * torch.tensor([9.0, 1, 1, 1, 1, 1])
    assert abs(cka.cka(stretched, y, debiased=debiased) - plain) > 0.02


def test_debiasing_takes_the_bias_away():
    """Unrelated rows in a wide space: plain CKA says they are alike, the debiased one is 0 on average."""
    pairs = [(normal(40, 200, name=("x", i)), normal(40, 200, name=("y", i))) for i in range(30)]
    plain = [cka.cka(x, y, debiased=False) for x, y in pairs]
    unbiased = torch.tensor([cka.cka(x, y) for x, y in pairs])
    assert min(plain) > 0.7
    assert abs(unbiased.mean()) < 3 * unbiased.std() / math.sqrt(30)


def test_cka_of_a_kernel_of_some_and_refusals():
    x, y = normal(12, 3, name="x"), normal(12, 4, name="y")
    index = torch.tensor([0, 2, 3, 7, 8, 11])
    some = cka.of_grams([cka.gram(x)[index][:, index]], [cka.gram(y)[index][:, index]])
    assert some.item() == pytest.approx(cka.cka(x[index], y[index]), abs=1e-12)
    assert math.isnan(cka.cka(torch.ones(5, 2), y[:5]))
    with pytest.raises(UsageError, match="at least 4"):
        cka.cka(x[:3], y[:3])
    with pytest.raises(UsageError, match="same examples"):
        cka.cka(x, y[:5])


def model_of(name: str, seed: int = 0) -> DualEncoder:
    return DualEncoder(preset(name), seed=seed)


def hooks(model: DualEncoder) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("name", ["tiny", "study-conv", "study-mamba", "study-vitamin", "ms-clip-tiny", "mini-32"])
def test_layers_are_what_the_tower_computes(name):
    model = model_of(name)
    picture = torch.randint(256, (5, 3, *model.config.preprocess.size), generator=generator(1), dtype=torch.uint8)
    layers = image_layers(model, picture, batch=2)
    blocks = len(getattr(model.image, "blocks", ()))
    assert list(layers) == [*(["embed", *(f"block {i + 1}" for i in range(blocks))] if blocks else []), ROWS]
    assert hooks(model) == 0
    assert torch.allclose(layers[ROWS], model.encode_image(picture), atol=1e-5)
    assert all(len(rows) == 5 for rows in layers.values())
    if name == "tiny":
        with torch.no_grad():
            tokens = model.eval().image.embed(model.normalise(picture))
            assert torch.allclose(layers["embed"], tokens.x_BTD.mean(1), atol=1e-5)
            out = model.image.blocks[0](tokens.x_BTD)
        assert torch.allclose(layers["block 1"], out.mean(1), atol=1e-5)
        assert not torch.allclose(layers["embed"], layers["block 1"], atol=1e-2)


def test_text_layers_leave_padding_out():
    model = model_of("tiny")
    short, long = text_layers(model, ["ab"]), text_layers(model, ["ab", "abcdefgh"])
    for name, rows in short.items():
        assert torch.allclose(rows[0], long[name][0], atol=1e-5), name
    ids = model.tokenizer(["ab"])
    real = int((ids != model.text.pad_id).sum())
    with torch.no_grad():
        inside = model.text.token(ids) + model.text.position[: ids.shape[1]]
    assert torch.allclose(short["embed"], inside[:, :real].mean(1), atol=1e-5)


def test_hooks_go_also_after_an_error():
    model = model_of("tiny")
    with pytest.raises(RuntimeError):
        image_layers(model, torch.zeros(2, 4, 32, 32))
    assert hooks(model) == 0
    model.train()
    image_layers(model, torch.zeros(2, 3, *model.config.preprocess.size))
    assert model.training


def test_two_models(colour_set, colour_model):
    one, other = model_of("tiny"), model_of("tiny", seed=1)
    same, found = similarity(one, one, colour_set), similarity(one, other, colour_set)
    assert same.left == same.right == ("embed", "block 1", "block 2", ROWS)
    assert same.rows.value == pytest.approx(1)
    assert torch.allclose(same.debiased_AB.diag(), torch.ones(4, dtype=torch.float64))
    assert found.rows.value < 0.999
    assert found.rows.interval[0] < found.rows.value < found.rows.interval[1]
    assert found.rows.n == 21
    assert similarity(one, other, colour_set, limit=10).rows.n == 10
    with pytest.raises(UsageError, match="it only encodes"):
        similarity(one, replace_config(colour_model(), one), colour_set)


def replace_config(encoder, model):
    encoder.config = model.config
    return encoder


def ask(model, data) -> Question:
    words = table(data.source)
    features = Features(model, None)
    return Question(features.images(data.source, ""), words, features.texts, (), (), View(features, data, torch.arange(len(words)), 0))


def test_the_protocol(colour_set, colour_model):
    question = ask(model_of("tiny"), colour_set)
    assert protocol.applies(question)
    assert not protocol.applies(replace(question, more=None))
    assert not protocol.applies(ask(colour_model(), colour_set))
    outcome = protocol.run(question)
    value = {metric.name: metric.given for metric in outcome.metrics}
    assert set(value) == set(protocol.ABOUT) - {"baseline_cka"}
    assert all(-1 <= each.interval[0] <= each.value <= each.interval[1] <= 1 and each.n == 7 for each in value.values())
    assert [metric.given for metric in protocol.run(question).metrics] == list(value.values())
    shown = protocol.section(outcome, None)["figures"]
    for figure in shown:
        figures.parse(figure)
    assert [figure["kind"] for figure in shown] == ["heat", "lines", "heat"]
    names = ["embed", "block 1", "block 2", ROWS]
    assert shown[0]["rows"] == shown[0]["columns"] == shown[2]["rows"] == names
    clean = torch.tensor(shown[0]["values"])
    mean = (clean[:3, :3].sum() - 3) / 6
    assert value["cross_layer_cka"].value == pytest.approx(mean.item(), abs=1e-4)


def test_the_protocol_beside_a_baseline(colour_set):
    """Rows and layers of both models on the same pictures: their own likeness is 1, another's is what the two-model function says."""
    one, other = model_of("tiny"), model_of("tiny", seed=1)
    same, found = (measure.attempt(protocol, [ask(one, colour_set), ask(theirs, colour_set)]) for theirs in (one, other))
    gain = {metric.name: metric.given for metric in found[0].metrics}["baseline_cka"]
    assert same[0].metrics[-1].given.value == pytest.approx(1)
    assert "baseline_cka" not in {metric.name for metric in found[1].metrics}
    by_hand = similarity(one, other, colour_set)
    assert gain.value == pytest.approx(by_hand.rows.value, abs=1e-5)
    assert -1 <= gain.interval[0] < gain.value < gain.interval[1] <= 1
    shown = protocol.section(found[0], None)["figures"][-1]
    figures.parse(shown)
    assert "the baseline" in shown["title"]
    torch.testing.assert_close(torch.tensor(shown["values"]).double(), by_hand.debiased_AB, atol=1e-4, rtol=0)


def test_the_attack_stays_in_its_ball_and_moves_the_rows_further_than_noise(monkeypatch):
    model = model_of("tiny")
    clean = torch.rand(6, 3, *model.config.preprocess.size, generator=generator(2))
    found = protocol.attack(model, clean, generator(3), batch=4)
    assert (found - clean).abs().max() <= protocol.RADIUS + 1e-6
    assert 0 <= found.min() <= found.max() <= 1
    sign = torch.randint(0, 2, clean.shape, generator=generator(4)) * 2 - 1
    rows = [model.encode_image(image) for image in (clean, found, (clean + protocol.RADIUS * sign).clamp(0, 1))]
    assert ((rows[0] * rows[1]).sum(1) < (rows[0] * rows[2]).sum(1)).all()
    slope = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *given: tuple(-one for one in slope(*given)))
    wrong_way = model.encode_image(protocol.attack(model, clean, generator(3), batch=4))
    assert float((rows[0] * rows[1]).sum()) < float((rows[0] * wrong_way).sum()) - 0.01
    assert all(weight.grad is None for weight in model.parameters())
