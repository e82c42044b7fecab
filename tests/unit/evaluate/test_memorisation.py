"""Memorisation on models that hold one picture by construction; the risk's parts on rows whose risks are known."""

from __future__ import annotations

import io
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import Ridge

from diptych.core.errors import UsageError
from diptych.core.rng import generator
from diptych.core.types import Preprocess, Sample
from diptych.evaluate.material import Material
from diptych.evaluate.metrics import memorisation, risk
from diptych.evaluate.protocols import ssl_risk_decomposition, sslmem
from diptych.evaluate.report import figures
from diptych.evaluate.run import evaluate
from diptych.towers.encode import pixels

SIDE = 8
KINDS = ("dark", "light")


class Holder:
    """Gives a row by a picture's blue level, which no augmentation changes, where it was trained on that level, else by its noisy rest."""

    def __init__(self, levels: tuple[int, ...], name: str = "holder") -> None:
        self.levels = levels
        self.config = SimpleNamespace(name=name, preprocess=Preprocess((SIDE, SIDE), (0.5,) * 3, (0.5,) * 3))

    def fingerprint(self) -> str:
        return repr(self.levels)

    def encode_image(self, images, batch_size: int = 64, progress: bool = False) -> torch.Tensor:
        given = images if isinstance(images, torch.Tensor) else torch.stack([pixels(image, self.config.preprocess) for image in images])
        rows = []
        for image in given.float():
            level = round(float(image[2].median()) / 10) * 10
            held = torch.tensor([1.0, level / 255, 0, 0, 0, 0])
            rows.append(held if level in self.levels else torch.cat([torch.zeros(2), image[:2, :2, 0].flatten() - image[:2].mean() + 1e-3]))
        return torch.nn.functional.normalize(torch.stack(rows), dim=1)

    def encode_text(self, texts, batch_size: int = 64, progress: bool = False) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.ones(len(texts), 6), dim=1)


def picture(level: int, seed: int) -> bytes:
    values = torch.randint(0, 256, (SIDE, SIDE, 3), generator=generator(seed, "picture"), dtype=torch.uint8).numpy()
    values[..., 2] = level
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def sample(level: int, seed: int, kind: int = 0) -> Sample:
    return Sample(f"{level:03d}-{seed}", picture(level, seed), (KINDS[kind],), kind)


@pytest.fixture(autouse=True)
def geometry_alone(monkeypatch):
    """Crops alone, so that the blue level stays."""
    monkeypatch.setattr(sslmem, "AUGMENT", memorisation.Augment(crop_area=(0.4, 0.6), flip=0.5))
    monkeypatch.setattr(sslmem, "view_of", lambda image, seed, name: memorisation.view_of(image, seed, name, sslmem.AUGMENT))


def test_alignment_loss_equals_its_loop():
    rows = torch.randn(4, 5, 3, generator=generator(0))
    by_hand = []
    for i in range(5):
        pairs = [(rows[v, i], rows[w, i]) for v in range(4) for w in range(4) if v < w]
        by_hand.append(math.fsum(math.dist(a.tolist(), b.tolist()) for a, b in pairs) / len(pairs))
    assert memorisation.alignment_loss(rows).tolist() == pytest.approx(by_hand, abs=1e-6)
    with pytest.raises(UsageError, match="at least two views"):
        memorisation.alignment_loss(rows[:1])


def test_the_memorised_picture_stands_out():
    samples = [sample(level, level) for level in (10, 60, 110, 160, 210)]
    crops = memorisation.Augment(crop_area=(0.4, 0.6), flip=0.5)
    found = memorisation.memorised(Holder((110,)), Holder(()), samples, augment=crops, views=4)
    assert found.argmax() == 2
    assert found[2] > 0.1
    assert found[[0, 1, 3, 4]].tolist() == [0] * 4
    losses = [memorisation.alignment_loss(views_of(Holder(()), samples, crops))[2], torch.zeros(())]
    assert found[2].item() == pytest.approx(float(losses[0] - losses[1]) / 2)
    back = memorisation.memorised(Holder(()), Holder((110,)), samples, augment=crops, views=4)
    assert back.tolist() == (-found).tolist()


def views_of(model, samples, augment) -> torch.Tensor:
    image = torch.stack([pixels(each, model.config.preprocess) for each in samples])
    return torch.stack([model.encode_image(memorisation.view_of(image, 0, str(v), augment)) for v in range(4)])


def world(companions: bool = True) -> Material:
    test = [sample(60, seed, seed % 2) for seed in range(12)]
    train = Material("train", "1", [sample(110, 100 + seed, seed % 2) for seed in range(12)], "train", KINDS)
    return Material("world", "1", test, "test", KINDS, ("{}",), companions={"train": train} if companions else {})


def by_metric(records):
    return {record.metric: record for record in records}


def test_the_gap_of_one_model_and_the_score_of_two():
    holds = by_metric(evaluate(Holder((110,)), world(), protocols=["sslmem"], cache=False))
    assert holds["seen_alignment_loss"].value == 0
    assert holds["memorisation_gap"].value == pytest.approx(holds["alignment_loss"].value)
    assert holds["memorisation_gap"].interval[0] > 0
    even = by_metric(evaluate(Holder(()), world(), protocols=["sslmem"], cache=False))
    assert even["memorisation_gap"].interval[0] < 0 < even["memorisation_gap"].interval[1]
    alone = by_metric(evaluate(Holder(()), world(companions=False), protocols=["sslmem"], cache=False))
    assert set(alone) == {"alignment_loss"}
    pair = by_metric(evaluate(Holder((60,)), world(), protocols=["sslmem"], baseline=Holder((), "other"), cache=False))
    assert pair["alignment_loss.gain"].value == pytest.approx(-even["alignment_loss"].value)


def test_views_are_kept_with_the_rows(tmp_path):
    first = evaluate(Holder((110,)), world(), protocols=["sslmem"], cache=tmp_path)
    model = Holder((110,))
    model.encode_image = None
    assert evaluate(model, world(), protocols=["sslmem"], cache=tmp_path) == first


@pytest.mark.parametrize("penalty", [1e-4, 1e-1])
def test_the_probe_is_ridge_regression(penalty):
    x, label = torch.randn(60, 5, generator=generator(1)) + 2, torch.randint(4, (60,), generator=generator(2))
    theirs = Ridge(alpha=penalty * 60, solver="cholesky").fit(x.double().numpy(), np.eye(4)[label.numpy()])
    (mine,) = risk.fit(x, label, 4, (penalty,))
    assert np.allclose(mine.weight_DK.T.numpy(), theirs.coef_, atol=1e-10)
    assert np.allclose(mine.offset_K.numpy(), theirs.intercept_, atol=1e-10)
    assert mine.predict(x, block=7).tolist() == theirs.predict(x.double().numpy()).argmax(1).tolist()
    with pytest.raises(UsageError, match="above 0"):
        risk.fit(x, label, 4, (0.0,))


def test_what_no_function_can_get_right():
    wrong = risk.irreducible(["a", "a", "a", "b", "c", "c", None, None], torch.tensor([1, 1, 0, 0, 2, 1, 0, 1]))
    assert wrong.tolist() == [0, 0, 1, 0, 1, 0, 0, 0]


def risks(train, label, test, test_label):
    wrong, held = ssl_risk_decomposition.decompose(train, label, test, test_label, torch.arange(len(label)))
    return {which: float(value.mean()) for which, value in wrong.items()}, held


def test_each_part_of_the_risk_where_it_is_known():
    """Features without the answer are not usable; too many features for too few examples cost the probe; a turned test set, the encoder."""
    label = torch.arange(200) % 2
    clear = torch.stack([2.0 * label - 1, torch.zeros(200)], 1) + 0.1 * torch.randn(200, 2, generator=generator(0))
    found, held = risks(clear, label, clear, label)
    assert found == {ssl_risk_decomposition.TRAIN: 0, ssl_risk_decomposition.HELD: 0, ssl_risk_decomposition.TEST: 0}
    assert held.tolist() == list(range(40))
    useless, _ = risks(torch.randn(200, 1, generator=generator(1)), label, clear[:, :1] * 0, label)
    assert useless[ssl_risk_decomposition.TRAIN] > 0.3
    wide = torch.randn(200, 300, generator=generator(2))
    rote, _ = risks(wide, label, torch.randn(200, 300, generator=generator(3)), label)
    assert rote[ssl_risk_decomposition.TRAIN] == 0
    assert 0.3 < rote[ssl_risk_decomposition.HELD] < 0.7
    turned, _ = risks(clear, label, -clear, label)
    assert turned[ssl_risk_decomposition.HELD] == 0
    assert turned[ssl_risk_decomposition.TEST] == 1


def test_the_parts_sum_to_the_risk():
    data = world()
    twin = [*data.companions["train"].source]
    twin[1] = Sample("twin", twin[0].image, twin[1].captions, 1)
    train = Material("train", "1", twin, "twins", KINDS[::-1])
    flipped = [Sample(s.id, s.image, s.captions, 1 - s.label) for s in twin]
    for classes, source in ((KINDS, twin), (KINDS[::-1], flipped)):
        split = Material(train.name, "1", source, "twins", classes)
        made = Material("world", "1", data.source, "test", KINDS, ("{}",), companions={"train": split})
        found = by_metric(evaluate(Holder(()), made, protocols=["ssl-risk-decomposition"], cache=False))
        parts = [found[name].value for name in ssl_risk_decomposition.TERMS]
        assert sum(parts) == pytest.approx(found["probe_risk"].value, abs=1e-12)
        assert found["approximation_risk"].value == pytest.approx(1 / 12)
        assert found["probe_risk"].chance == 0.5
        assert found["probe_risk"].n == 12
        told = tuple(parts)
    assert told == pytest.approx(tuple(parts))


def test_the_figures():
    from diptych.evaluate.features import Features
    from diptych.evaluate.material import table
    from diptych.evaluate.outcome import Question
    from diptych.evaluate.view import View

    data, model = world(), Holder(())
    features, words = Features(model, None), table(data.source)
    rows = features.images(data.source, "")
    question = Question(rows, words, features.texts, KINDS, ("{}",), View(features, data, torch.arange(12), 0))
    for module in (sslmem, ssl_risk_decomposition):
        assert module.applies(question)
        outcome = module.run(question)
        for figure in module.section(outcome, None)["figures"]:
            figures.parse(figure)
        assert {metric.name for metric in outcome.metrics} <= set(module.ABOUT)
