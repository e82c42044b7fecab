"""Suites, resume, failures, the view: what lies between a protocol and the records."""

from __future__ import annotations

import json
from dataclasses import replace
from types import ModuleType

import pytest
import torch

import diptych
from diptych.core.card import Card
from diptych.core.errors import DiptychError, UsageError
from diptych.core.rng import generator
from diptych.data.seal import SealedError
from diptych.evaluate import measure, suite
from diptych.evaluate import record as record_file
from diptych.evaluate.features import Features
from diptych.evaluate.material import material
from diptych.evaluate.metrics import bootstrap, jackknife
from diptych.evaluate.outcome import About, Metric, Outcome
from diptych.evaluate.protocols import zero_shot
from diptych.evaluate.run import EvaluationFailed, evaluate
from diptych.evaluate.view import View


def protocol(name, run, applies=lambda question: True):
    made = ModuleType(name)
    made.__dict__.update(
        CARD=Card(id=name, name=name, family="protocol", paper="", where=""),
        ORDER=99,
        ASPECT="Test",
        SUITES={"quick": (), "full": ()},
        ABOUT={"spread": About("Spread", share=False), "red": About("Red", share=False), "top1": About("Top-1")},
        applies=applies,
        run=run,
    )
    return made


@pytest.fixture
def only(monkeypatch):
    """Replaces the known protocols."""

    def set_to(*modules):
        monkeypatch.setattr(suite, "modules", lambda: list(modules))

    return set_to


def test_every_protocol_says_what_the_seam_asks():
    for module in suite.modules():
        assert set(module.SUITES) <= set(suite.NAMES), module.CARD.id
        assert module.ASPECT, module.CARD.id
        assert isinstance(module.ORDER, int), module.CARD.id
        assert module.ABOUT, module.CARD.id
        for about in module.ABOUT.values():
            assert about.better in ("higher", "lower", "neither"), module.CARD.id
    titles: dict[str, str] = {}
    for module in suite.modules():
        for name, about in module.ABOUT.items():
            assert titles.setdefault(name, about.title) == about.title, f"{name} is read in two ways"


def test_a_suite_names_sets_that_exist_and_quick_is_part_of_full():
    quick, full = suite.sets("quick"), suite.sets("full")
    for name, protocols in quick.items():
        assert set(protocols) <= set(full[name])
    for name in full:
        assert material(name).name == name if name.startswith("pictograms") else True
    with pytest.raises(UsageError, match="Did you mean 'full'"):
        suite.check("ful")


def test_a_stopped_evaluation_goes_on(colour_model, colour_set, tmp_path):
    model, said = colour_model({"red": "green"}), []
    first = evaluate(model, colour_set, cache=False, out=tmp_path, protocols=["zero_shot"])
    both = evaluate(model, colour_set, cache=False, out=tmp_path, protocols=["zero_shot", "retrieval"], say=said.append)
    assert both[: len(first)] == first
    assert "done before" in said[0]
    assert "done before" not in said[1]
    assert record_file.read(tmp_path / "records.jsonl") == both
    evaluate(model, colour_set, cache=False, out=tmp_path, protocols=["zero_shot"], again=True, say=said.append)
    assert "done before" not in said[2]


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"draws": 50}, {"templates": ["{}!"]}, {"model": {"red": "blue"}}, {"limit": 9}, {"baseline": {"red": "pink"}}],
)
def test_what_decides_a_number_is_measured_anew(colour_model, colour_set, tmp_path, other):
    said: list[str] = []
    evaluate(colour_model({"red": "green"}), colour_set, cache=False, out=tmp_path, protocols=["zero_shot"])
    model = colour_model(other.pop("model", {"red": "green"}))
    if "baseline" in other:
        other["baseline"] = colour_model(other["baseline"], name="base")
    evaluate(model, colour_set, cache=False, out=tmp_path, protocols=["zero_shot"], say=said.append, **other)
    assert "done before" not in said[0]


def test_removed_records_come_back_and_a_torn_line_costs_only_itself(colour_model, colour_set, tmp_path):
    model = colour_model()
    found = evaluate(model, colour_set, cache=False, out=tmp_path)
    (tmp_path / "records.jsonl").unlink()
    assert evaluate(model, colour_set, cache=False, out=tmp_path) == found
    assert record_file.read(tmp_path / "records.jsonl") == found
    lines = (tmp_path / "progress.jsonl").read_text().splitlines()
    (tmp_path / "progress.jsonl").write_text(lines[0] + "\n" + lines[1][:50])
    said: list[str] = []
    evaluate(model, colour_set, cache=False, out=tmp_path, say=said.append)
    assert ["done before" in line for line in said] == [True, False]


def test_one_that_fails_does_not_lose_the_others(colour_model, colour_set, tmp_path, only):
    def broken(question):
        raise RuntimeError("no such thing")

    def refused(question):
        raise DiptychError("colours", "too pale", "Paint them")

    def valueless(question):
        nothing = Metric("spread", torch.arange(21.0), None, None, of=lambda _: float("nan"))
        return Outcome("valueless", (nothing,), torch.arange(21))

    only(protocol("broken", broken), protocol("refused", refused), protocol("valueless", valueless), zero_shot)
    with pytest.raises(
        EvaluationFailed, match="3 of 4 protocols failed; the first, broken on 'colours': unexpected RuntimeError"
    ) as caught:
        evaluate(colour_model(), colour_set, cache=False, out=tmp_path, suite="full")
    kept = record_file.read(tmp_path / "records.jsonl")
    assert [r.metric for r in kept][:2] == ["top1", "top5"]
    assert caught.value.records == kept
    assert [protocol for _, protocol, _ in caught.value.failures] == ["broken", "refused", "valueless"]
    assert (tmp_path / "report.html").exists()
    only(protocol("broken", broken))
    with pytest.raises(DiptychError, match="unexpected RuntimeError: no such thing"):
        evaluate(colour_model(), colour_set, cache=False, suite="full")


def test_in_a_suite_what_does_not_apply_is_left_out(colour_model, colour_set, only):
    only(protocol("never", lambda question: 1 / 0, applies=lambda question: False), zero_shot)
    assert {r.protocol for r in evaluate(colour_model(), colour_set, cache=False, suite="full")} == {"zero_shot"}


def spread(wanted):
    """The range of the labels that were named, which is no mean."""

    def run(question):
        return Outcome("spread", (Metric("spread", wanted(question), None, None, of=lambda v: float(v.max() - v.min())),), torch.arange(21))

    return run


def test_a_metric_that_is_no_mean_is_resampled_and_paired(colour_model, colour_set, only):
    only(protocol("spread", spread(lambda question: question.table.label_N.double())))
    [one] = evaluate(colour_model(), colour_set, cache=False, suite="full")
    assert (one.value, one.chance, one.n) == (6, None, 21)
    assert one.interval[0] < 6
    assert one.interval[1] == 6
    records = evaluate(colour_model(), colour_set, baseline=colour_model(name="base"), cache=False, suite="full")
    assert [(r.metric, r.value) for r in records] == [("spread", 6), ("spread.gain", 0)]
    assert records[1].interval == (0, 0)


def jackknifed(question):
    """Mean red of the rows, resampled by the protocol itself."""
    red_N = question.image_ND[:, 0].double()
    found = jackknife.grouped(lambda i: float(red_N[i].mean()), 21, question.view.generator("red"))
    return Outcome("red", (Metric("red", torch.zeros(0), None, None, hits=False, given=found),), torch.arange(21))


def test_a_number_that_a_protocol_resamples_by_itself_is_paired(colour_model, colour_set, only):
    only(protocol("red", jackknifed))

    def records(model):
        return evaluate(model, colour_set, baseline=colour_model(name="base"), cache=False, suite="full")

    same = records(colour_model())
    assert [(r.metric, r.value != 0) for r in same] == [("red", True), ("red.gain", False)]
    assert same[1].interval == (0, 0), "what both share cancels"
    shifted = colour_model()
    shifted.encode_image = lambda images, **more: colour_model().encode_image(images) + torch.tensor([0.5, 0, 0])
    gain = records(shifted)[1]
    assert gain.value == pytest.approx(0.5)
    assert gain.interval == pytest.approx((0.5, 0.5), abs=1e-6)


def test_statistic_agrees_with_the_mean_and_keeps_units_together():
    value_N = torch.tensor([0.0, 1, 1, 0, 1, 1, 0, 1], dtype=torch.float64)
    unit_N = torch.tensor([3, 3, 1, 1, 2, 2, 7, 7])
    as_mean = bootstrap.mean(value_N, generator(0, "x"), unit_N=unit_N, draws=4000)
    as_statistic = bootstrap.statistic(value_N, lambda v: float(v.mean()), generator(0, "y"), unit_N=unit_N, draws=4000)
    assert as_statistic.value == as_mean.value
    assert as_statistic.n == as_mean.n == 4
    assert as_statistic.interval == pytest.approx(as_mean.interval, abs=0.04)
    seen = []
    bootstrap.statistic(unit_N.double(), lambda v: seen.append(v.tolist()) or 0.0, generator(0, "z"), unit_N=unit_N, draws=20)
    for rows in seen:
        assert all(rows.count(unit) % 2 == 0 for unit in (1, 2, 3, 7))
    with pytest.raises(UsageError, match="20 of 20 resamples have no value"):
        bootstrap.statistic(value_N, lambda v: float("nan"), generator(0, "y"), draws=20)


def test_a_view_changes_pictures_once_and_the_same_for_every_model(tmp_path):
    model, data = diptych.load("mini"), material("pictograms/unseen")
    data = data.take(torch.arange(6))
    calls = []

    def darker(image_BCHW):
        calls.append(len(image_BCHW))
        return image_BCHW // 2

    view = View(Features(model, tmp_path), data, torch.tensor([0, 2, 4]), seed=0)
    first = view.changed("darker", darker, batch=2)
    assert calls == [2, 1]
    assert torch.equal(view.changed("darker", darker), first)
    assert calls == [2, 1]
    assert torch.allclose(first, model.encode_image(view.pixels() // 2), atol=1e-6)
    assert torch.allclose(view.changed("same", lambda image: image), model.encode_image(view.samples()), atol=1e-6)
    assert not torch.equal(view.changed("darker", darker, torch.tensor([1])), first[1:2] + 1)
    assert calls == [2, 1, 1]
    with pytest.raises(ValueError, match="a change made"):
        view.changed("floats", lambda image: image.float())
    [tokens] = view.tokens()
    assert tokens.shape[0] == 3
    assert torch.equal(torch.randn(3, generator=view.generator("a")), torch.randn(3, generator=view.generator("a")))


def test_companions_are_checked_against_the_test_pictures(colour_model, colour_set):
    train = replace(colour_set, name="train", source=colour_set.source[:9])
    part = colour_set.take(torch.arange(9, 21))
    good = replace(part, companions={"train": train})
    view = View(Features(colour_model(), None), good, torch.arange(12), 0)
    split = view.companion("train", limit=4)
    assert len(split.table) == len(split.image_ND) == 4
    assert set(split.table.ids) < {s.id for s in train.source}
    leaky = View(Features(colour_model(), None), replace(colour_set, companions={"train": train}), torch.arange(21), 0)
    with pytest.raises(SealedError, match="9 of its pictures are test pictures"):
        leaky.companion("train")
    sealed = View(Features(colour_model(), None), replace(part, companions={"train": replace(train, sealed=True)}), torch.arange(12), 0)
    with pytest.raises(SealedError, match="sealed test set"):
        sealed.companion("train")
    with pytest.raises(UsageError, match=r"no unknown companion \(it has: train\)"):
        view.companion("unknown")


def test_records_name_the_version_of_prompts_and_classes(colour_model, colour_set):
    def version(**options):
        return evaluate(colour_model(), replace(colour_set, **options.pop("data", {})), cache=False, protocols=["zero_shot"], **options)[
            0
        ].version

    base = version()
    assert base.startswith("1+")
    assert version() == base
    others = {
        version(templates=["{}."]),
        version(data={"version": "2"}),
        version(data={"classes": (*colour_set.classes[:-1], "black and pink")}),
    }
    assert len(others) == 3
    assert base not in others


def test_splits_of_a_path_are_companions(tmp_path, colour_set):
    for split, samples in (("train", colour_set.source[:14]), ("test", colour_set.source[14:])):
        for sample in samples:
            folder = tmp_path / "data" / split / colour_set.classes[sample.label]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{sample.id}.png").write_bytes(sample.image)
    found = material(str(tmp_path / "data"))
    assert len(found.source) == 7
    assert set(found.companions) == {"train"}
    assert len(material(found.companions["train"]).source) == 14


def test_progress_lines_are_json(colour_model, colour_set, tmp_path):
    evaluate(colour_model(), colour_set, cache=False, out=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [{r["protocol"] for r in row["records"]} for row in rows] == [{"zero_shot"}, {"retrieval"}]


def test_pictures_of_a_class_folder_are_units_of_their_own(tmp_path, colour_set, colour_model):
    """Ten photographs of one class are ten units; ten drawings of one concept, which the set names, are one."""
    for sample in colour_set.source:
        folder = tmp_path / colour_set.classes[sample.label]
        folder.mkdir(exist_ok=True)
        (folder / f"{sample.id}.png").write_bytes(sample.image)
    [record, *_] = evaluate(colour_model(), str(tmp_path), cache=False)
    assert (record.metric, record.n) == ("top1", 21)
    [record, *_] = evaluate(colour_model(), colour_set, cache=False)
    assert (record.metric, record.n) == ("top1", 7)


def test_another_training_split_or_other_code_is_measured_anew(colour_model, colour_set, tmp_path, monkeypatch):
    def said_of(data):
        said: list[str] = []
        evaluate(colour_model(), data, cache=False, out=tmp_path, protocols=["zero_shot"], say=said.append)
        return "done before" in said[0]

    part = colour_set.take(torch.arange(9, 21))
    trained = [replace(part, companions={"train": colour_set.take(torch.arange(count))}) for count in (8, 9)]
    assert [said_of(trained[0]), said_of(trained[0]), said_of(trained[1])] == [False, True, False]
    monkeypatch.setattr(measure, "sources", lambda: "other code")
    assert not said_of(trained[1])
