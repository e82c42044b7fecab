"""``evaluate`` on a model whose answers are known: numbers, pairing with a baseline, caches, broken pictures, refusals."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from diptych.core.errors import DiptychError, UsageError
from diptych.core.types import Sample
from diptych.evaluate import record as record_file
from diptych.evaluate.features import Features
from diptych.evaluate.material import table
from diptych.evaluate.metrics import retrieval
from diptych.evaluate.protocols.retrieval import flatten
from diptych.evaluate.protocols.zero_shot import class_rows
from diptych.evaluate.run import evaluate
from diptych.evaluate.validate import validator


def by_metric(records):
    return {record.metric: record for record in records}


def test_a_model_that_knows_all_gets_all(colour_model, colour_set):
    found = by_metric(evaluate(colour_model(), colour_set, cache=False))
    assert found["top1"].value == 1
    assert found["top1"].interval == pytest.approx((0.025 ** (1 / 7), 1))
    assert found["top1"].n == 7
    assert found["top1"].chance == pytest.approx(1 / 7)
    assert found["top5"].chance == pytest.approx(5 / 7)
    assert found["mean_per_class"].value == 1
    assert {"top1[bright]", "top1[dark]"} <= set(found)
    assert found["text_to_image_r@1"].value == found["image_to_text_r@1"].value == 1
    assert found["text_to_image_r@1"].chance == pytest.approx(3 / 21)
    assert found["image_to_text_r@1"].chance == pytest.approx(6 / 42)
    assert next(iter(found)) == "top1"


def test_a_swap_costs_what_it_must(colour_model, colour_set):
    """Red and green exchanged: those 6 of 21 pictures are wrong, every other one is right."""
    found = by_metric(evaluate(colour_model({"red": "green", "green": "red"}), colour_set, cache=False))
    assert found["top1"].value == pytest.approx(15 / 21)
    assert found["mean_per_class"].value == pytest.approx(5 / 7)
    low, high = found["top1"].interval
    assert low < 15 / 21 < high


def test_gain_and_retention_against_a_baseline(colour_model, colour_set):
    """The model loses red and green and gains blue and white back: +2 −2 of 7 classes, 3 of the baseline's 5 stay."""
    model, base = colour_model({"red": "green", "green": "red"}), colour_model({"blue": "white", "white": "blue"}, name="base")
    found = by_metric(evaluate(model, colour_set, baseline=base, cache=False))
    assert found["top1.gain"].value == pytest.approx(0)
    assert found["top1.gain"].chance == 0
    assert found["top1.gain"].interval[0] < 0 < found["top1.gain"].interval[1]
    assert found["top1.retention"].value == pytest.approx(3 / 5)
    assert "mean_per_class.gain" in found
    assert "mean_per_class.retention" not in found
    better = by_metric(evaluate(colour_model(), colour_set, baseline=base, cache=False))
    assert better["top1.gain"].value == pytest.approx(6 / 21)
    assert better["top1.gain"].interval[0] >= 0
    same = by_metric(evaluate(base, colour_set, baseline=base, cache=False))
    assert same["top1.gain"].interval == (0, 0)
    assert same["top1.retention"].interval == pytest.approx((0.025 ** (1 / 5), 1))


def test_same_seed_same_records(colour_model, colour_set):
    model = colour_model({"red": "green"})
    assert evaluate(model, colour_set, cache=False, seed=3) == evaluate(model, colour_set, cache=False, seed=3)
    one, other = (by_metric(evaluate(model, colour_set, cache=False, seed=seed, draws=50))["text_to_image_r@1"] for seed in (3, 4))
    assert one.value == other.value
    assert one.interval != other.interval


def test_features_are_computed_once(colour_model, colour_set, tmp_path):
    model = colour_model()
    first = evaluate(model, colour_set, cache=tmp_path)
    calls = model.calls
    assert evaluate(model, colour_set, cache=tmp_path) == first
    assert model.calls == calls
    evaluate(colour_model({"red": "blue"}), colour_set, cache=tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 6
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-9], lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), lambda raw: b"", lambda raw: b"\xff" * 40]
)
def test_a_damaged_cache_is_computed_again_with_a_note(colour_model, colour_set, tmp_path, damage):
    fresh = Features(colour_model(), tmp_path).images(colour_set.source, colour_set.fingerprint).clone()
    [path] = tmp_path.glob("*.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    features = Features(colour_model(), tmp_path)
    assert torch.equal(features.images(colour_set.source, colour_set.fingerprint), fresh)
    assert "damaged" in features.notes[0]
    again = Features(colour_model(), tmp_path)
    assert torch.equal(again.images(colour_set.source, colour_set.fingerprint), fresh)
    assert again.notes == []


def test_other_pictures_are_other_features(colour_model, colour_set, tmp_path):
    evaluate(colour_model(), colour_set, cache=tmp_path, protocols=["zero_shot"])
    part = colour_set.take(torch.arange(6))
    assert by_metric(evaluate(colour_model(), part, cache=tmp_path, protocols=["zero_shot"]))["top1"].n == 2


def test_limit_takes_a_fixed_part(colour_model, colour_set):
    found = by_metric(evaluate(colour_model(), colour_set, cache=False, limit=5))
    assert found["top1"].n <= 5
    assert found["top1"].chance == pytest.approx(1 / 7)


def test_few_broken_pictures_are_left_out_and_many_stop(colour_model, colour_set, tmp_path, caplog):
    samples = list(colour_set.source)
    samples[3] = replace(samples[3], image=b"not a picture")
    broken, base = replace(colour_set, source=samples), colour_model(name="base")
    found = by_metric(evaluate(colour_model(), broken, baseline=base, cache=False, out=tmp_path))
    assert found["top1"].value == 1
    said = [record.message for record in caplog.records if "decoded" in record.message]
    assert said == ["colours: 1 of 21 pictures cannot be decoded and are left out: green-0"], "once, not once a model"
    notes = json.loads((tmp_path / "details.json").read_text())["sets"][0]["notes"]
    assert notes == ["1 of 21 pictures cannot be decoded and are left out: green-0"]
    samples[4] = replace(samples[4], image=b"nor this")
    with pytest.raises(DiptychError, match="2 of 21 pictures cannot be decoded, the first is 'green-0'"):
        evaluate(colour_model(), replace(colour_set, source=samples), cache=False)


def test_out_holds_records_details_and_page(colour_model, colour_set, tmp_path):
    model = colour_model({"red": "green", "green": "red"})
    records = evaluate(model, colour_set, cache=False, out=tmp_path, command="diptych evaluate …")
    assert record_file.read(tmp_path / "records.jsonl") == records
    sections = {s["protocol"]: s for s in json.loads((tmp_path / "details.json").read_text())["sets"]}
    confused, surest = sections["zero_shot"]["figures"]
    top = confused["items"][0]
    assert (top["text"], top["answer"], top["note"]) == ("red", "green", "3 of 3 pictures")
    assert {(item["text"], item["answer"]) for item in surest["items"]} == {("red", "green"), ("green", "red")}
    assert (tmp_path / "thumbs" / top["picture"]).read_bytes()[:4] == b"RIFF"
    worst = sections["retrieval"]["text_to_image"]["worst"][0]
    assert not worst["answers"][0]["right"]
    assert worst["rank"] > 1
    ranks = [each["rank"] for each in sections["retrieval"]["text_to_image"]["worst"]]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0] == 1 + max(retrieval.ranks(*_rows(model, colour_set)).tolist())
    assert sections["retrieval"]["text_to_image"]["best"][0]["answers"][0]["right"]
    assert (tmp_path / "report.html").exists()
    evaluate(model, colour_set, cache=False, out=tmp_path)
    assert len(json.loads((tmp_path / "details.json").read_text())["sets"]) == 2


def _rows(model, data):
    texts, owner = flatten(table(data.source))
    group = table(data.source).group_N
    return model.encode_text(texts), model.encode_image(data.source), group[owner], group


def test_a_caption_shared_within_a_concept_counts_once(colour_set):
    """Each colour has one caption that its three pictures share and three of their own."""
    texts, owner = flatten(table(colour_set.source))
    assert len(texts) == len(owner) == 7 * 4
    assert texts.count("a red thing") == 1
    alone = [replace(s, concept=None) for s in colour_set.source]
    assert len(flatten(table(alone))[0]) == 7 * 6
    assert flatten(table([replace(alone[0], captions=("twice", "twice"))]))[0] == ["twice", "twice"]


def test_class_names_as_captions_are_no_retrieval_set(colour_model, colour_set):
    samples = [replace(s, captions=(colour_set.classes[s.label],)) for s in colour_set.source]
    assert {r.protocol for r in evaluate(colour_model(), replace(colour_set, source=samples), cache=False)} == {"zero_shot"}


def test_captions_alone_are_retrieval_only(colour_model, colour_set):
    samples = [replace(s, label=None, concept=None) for s in colour_set.source]
    found = evaluate(colour_model(), replace(colour_set, source=samples, classes=()), cache=False)
    assert {r.protocol for r in found} == {"retrieval"}
    assert by_metric(found)["text_to_image_r@5"].chance == pytest.approx(5 / 21)


def test_refusals(colour_model, colour_set):
    with pytest.raises(UsageError, match="no data was given"):
        evaluate(colour_model())
    with pytest.raises(UsageError, match=r"protocol 'zeroshot'.*Did you mean 'zero_shot'"):
        evaluate(colour_model(), colour_set, protocols=["zeroshot"], cache=False)
    bare = replace(colour_set, source=[replace(s, captions=()) for s in colour_set.source])
    with pytest.raises(UsageError, match="needs captions, which 'colours' has not"):
        evaluate(colour_model(), bare, protocols=["retrieval"], cache=False)
    with pytest.raises(UsageError, match="no place for the class name"):
        evaluate(colour_model(), colour_set, templates=["a photo"], cache=False)
    with pytest.raises(DiptychError, match="no samples"):
        evaluate(colour_model(), replace(colour_set, source=[]), cache=False)
    with pytest.raises(DiptychError, match="neither captions nor two classes"):
        evaluate(colour_model(), replace(colour_set, source=[Sample("a", colour_set.source[0].image)], classes=()), cache=False)
    with pytest.raises(UsageError, match="type int"):
        evaluate(colour_model(), 3)


def test_class_rows_are_the_mean_of_unit_prompts():
    prompts = {"a x": [1.0, 0.0], "x": [0.6, 0.8], "a {b}": [0.0, 1.0], "{b}": [0.0, 1.0]}
    rows = class_rows(["x", "{b}"], ["a {}", "{c}"], lambda texts: torch.tensor([prompts[t] for t in texts]))
    mean = torch.tensor([0.8, 0.4])
    assert torch.allclose(rows, torch.stack([mean / mean.norm(), torch.tensor([0.0, 1.0])]))


def test_validator_gives_the_same_numbers(colour_model, colour_set):
    model = colour_model({"red": "green", "green": "red"})
    quick = validator(colour_set)(model)
    full = by_metric(evaluate(model, colour_set, cache=False))
    assert quick == {name: full[name].value for name in quick}
    assert {"top1", "text_to_image_r@10"} <= set(quick)
    assert "top1[dark]" not in quick
    part = validator(colour_set, limit=6)(model)
    assert part == {name: by_metric(evaluate(model, colour_set, cache=False, limit=6))[name].value for name in part}


def test_records_survive_a_torn_line(tmp_path, colour_model, colour_set, caplog):
    path = tmp_path / "records.jsonl"
    records = evaluate(colour_model(), colour_set, cache=False, command='diptych evaluate "ü" <b>')
    record_file.append(records, path)
    path.write_bytes(path.read_bytes()[:-30])
    assert record_file.read(path) == records[:-1]
    assert "cut short" in caplog.text
    record_file.append(records, path)
    assert record_file.latest(record_file.read(path)) == [*records]
    path.write_text('{"metric": "top1"}\n')
    with pytest.raises(DiptychError, match="line 1: not a record"):
        record_file.read(path)
    with pytest.raises(DiptychError, match="no such file"):
        record_file.read(tmp_path / "none")
    with pytest.raises(ValueError, match="not finite"):
        record_file.append([replace(records[0], value=float("nan"))], path)
