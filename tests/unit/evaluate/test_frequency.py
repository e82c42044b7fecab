"""Counting names in captions, accuracy against the counts, languages side by side."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from scipy import stats

from diptych.core.errors import DiptychError, UsageError
from diptych.core.rng import generator
from diptych.data.sets.base import EvalSet
from diptych.evaluate.features import Features
from diptych.evaluate.material import Material, table
from diptych.evaluate.metrics import frequency
from diptych.evaluate.outcome import Question
from diptych.evaluate.protocols import multilingual, tails
from diptych.evaluate.report import figures
from diptych.evaluate.run import evaluate
from diptych.evaluate.view import View


def counted(classes, captions, synonyms=None):
    found, by_name, total = frequency.count(frequency.Names(classes, synonyms), [(c,) if isinstance(c, str) else c for c in captions])
    return found.tolist(), [each.tolist() for each in by_name], total


def test_names_have_word_boundaries():
    captions = ["A cat.", "category theory", "CAT, cat and cat", "the cat's bed", "bobcat", "ein Café", "cafe\u0301", "hot-dog", "hot dogs"]
    found, _, total = counted(("cat", "café", "hot dog"), captions)
    assert found == [2, 2, 1]
    assert total == 9


def test_synonyms_count_once_a_picture_and_each_by_itself():
    captions = [("a sofa", "a couch"), ("a couch",), ("a settee",), ("nothing",)]
    found, by_name, _ = counted(("sofa",), captions, {"sofa": ["couch", "sofa"]})
    assert found == [2]
    assert by_name == [[1, 2]]
    with pytest.raises(UsageError, match="no class has this name"):
        frequency.Names(("sofa",), {"bed": ["cot"]})


def test_longer_names_and_names_inside_names():
    found, _, _ = counted(("polar bear", "bear", "!?"), ["a polar bear", "a brown bear", "bear polar"])
    assert found == [1, 3, 0]


def test_scripts_without_spaces():
    found, _, _ = counted(("猫", "犬", "cat"), ["一只猫坐着", "白い犬と猫", "cat 猫"])
    assert found == [3, 1, 1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "a cat\n\ntwo dogs\n"),
        ("a.csv", 'id,caption\n1,"a cat"\n2,two dogs\n3,\n'),
        ("a.tsv", "title\tid\na cat\t1\ntwo dogs\t2\n"),
        ("a.jsonl", '{"caption": "a cat"}\n\n{"captions": ["two dogs"]}\n'),
    ],
)
def test_caption_files(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert [tuple(each) for each in frequency.captions_of(path)] == [("a cat",), ("two dogs",)]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.csv", b"id,words\n1,2\n", "columns are"),
        ("a.jsonl", b'{"id": 1}\n', "keys are"),
        ("a.jsonl", b"{\n", "not JSON"),
        ("a.txt", b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_caption_files_that_cannot_be_read(tmp_path, name, content, why):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DiptychError, match=why):
        list(frequency.captions_of(tmp_path / name))


def test_spearman_equals_scipy():
    pair = torch.randint(0, 6, (40, 2), generator=generator(0)).double()
    pair[:, 1] += 0.5 * pair[:, 0]
    assert frequency.spearman(pair) == pytest.approx(stats.spearmanr(pair[:, 0], pair[:, 1]).statistic, abs=1e-12)
    assert frequency.spearman(torch.stack([torch.arange(5), -(torch.arange(5) ** 3)], 1)) == pytest.approx(-1)
    assert math.isnan(frequency.spearman(torch.ones(4, 2)))


def test_bins_by_powers_of_ten():
    found = tails.bins(torch.tensor([0, 1, 9, 10, 99, 100, 1000]))
    assert {name: mask.nonzero()[:, 0].tolist() for name, mask in found.items()} == {
        "never": [0],
        "1 to 9": [1, 2],
        "10 to 99": [3, 4],
        "100 to 999": [5],
        "1,000 to 9,999": [6],
    }
    assert list(tails.bins(torch.tensor([1, 5]))) == ["1 to 9"]


def by_metric(records):
    return {record.metric: record for record in records}


def test_ends_by_hand():
    count, accuracy = torch.arange(20).flip(0), torch.linspace(1, 0.05, 20, dtype=torch.float64)
    tail, head, over = tails.ends(count, accuracy, torch.arange(20), 0.05)
    assert tail.value_N.mean().item() == pytest.approx((0.05 + 0.1 + 0.15 + 0.2) / 4)
    assert head.value_N.mean().item() == pytest.approx((1 + 0.95 + 0.9 + 0.85) / 4)
    assert over.of(over.value_N) == pytest.approx(0.8)
    assert sorted(over.unit_N.tolist()) == [0, 1, 2, 3, 16, 17, 18, 19]
    assert len(tails.ends(count[:17], accuracy[:17], torch.arange(17), 0.05)) == 2


def test_captions_add_the_tail_to_an_evaluation(colour_model, colour_set, tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("a red thing\n" * 3 + "a pink thing\n")

    def asked(data, **more):
        return evaluate(colour_model(), data, captions=path, cache=False, draws=20, **more)

    found = asked(colour_set)
    by_protocol = {record.protocol: record.version for record in found}
    assert set(by_protocol) >= {"zero_shot", "retrieval", "tails"}
    assert "frequency_spearman" not in {record.metric for record in found}, "all colours are named rightly: nothing to correlate"
    assert by_protocol["tails"].partition("/")[0] == by_protocol["zero_shot"].partition("+")[0], "only the tail depends on the captions"
    assert "/" not in by_protocol["zero_shot"]
    alone = asked(colour_set, protocols=["tails"])
    assert by_metric(alone) == {r.metric: r for r in found if r.protocol == "tails"}
    assert {r.protocol for r in asked(colour_set, protocols=["zero_shot"])} == {"zero_shot", "tails"}
    nameless = replace(colour_set, classes=())
    assert {r.protocol for r in asked([colour_set, nameless], protocols=["retrieval"])} == {"retrieval", "tails"}
    with pytest.raises(UsageError, match="none of the sets has classes"):
        asked(nameless)
    path.unlink()
    with pytest.raises(DiptychError, match="no such file"):
        asked(colour_set)


def test_the_tail_by_construction(colour_model, colour_set, tmp_path):
    """The two colours that nobody names are the two that the model mixes up."""
    path = tmp_path / "captions.txt"
    often = {"red": 0, "green": 0, "blue": 1, "white": 5, "black": 20, "yellow": 50, "pink": 200}
    path.write_text("".join(f"a {name} thing\n" * times for name, times in often.items()))
    model = colour_model({"red": "green", "green": "red"})
    found = by_metric(tails.tails(model, colour_set, path, cache=False))
    assert found["tail_top1"].value == 0
    assert found["head_top1"].value == 1
    assert "head_over_tail" not in found
    assert found["top1_by_frequency[never]"].value == 0
    assert found["top1_by_frequency[1 to 9]"].value == 1
    accuracy = [0, 0, 1, 1, 1, 1, 1]
    assert found["frequency_spearman"].value == pytest.approx(stats.spearmanr(list(often.values()), accuracy).statistic)
    assert "frequent_name_change" not in found
    assert {r.set for r in found.values()} == {"colours"}
    versions = {found["tail_top1"].version, by_metric(tails.tails(model, colour_set, path, cache=False))["tail_top1"].version}
    path.write_text("a red thing\n")
    assert by_metric(tails.tails(model, colour_set, path, cache=False))["tail_top1"].version not in versions
    assert len(versions) == 1


def test_the_most_frequent_name_is_prompted(colour_model, colour_set, tmp_path):
    """The model reads "red" as green and "scarlet" as red; the captions say scarlet more often, then never."""

    class Reads(colour_model):
        def encode_text(self, texts, batch_size=64, progress=False):
            return super().encode_text(
                [text.replace("scarlet", "red") if "scarlet" in text else text.replace("red", "green") for text in texts]
            )

    path = tmp_path / "captions.jsonl"
    path.write_text("".join(json.dumps({"caption": f"something {name}"}) + "\n" for name in ("scarlet", "scarlet", "red", "blue")))
    found = by_metric(tails.tails(Reads(), colour_set, path, {"red": ["scarlet"]}, cache=False))
    assert found["frequent_name_change"].value > 0.1
    path.write_text(json.dumps({"caption": "something red"}) + "\n")
    assert by_metric(tails.tails(Reads(), colour_set, path, {"red": ["scarlet"]}, cache=False))["frequent_name_change"].value == 0


def question_of(model, data: Material) -> Question:
    words, features = table(data.source), Features(model, None)
    view = View(features, data, torch.arange(len(words)), 0)
    return Question(features.images(data.source, ""), words, features.texts, data.classes, data.templates, view)


def test_the_figures_of_tails(colour_model, colour_set):
    from dataclasses import replace

    plain = question_of(colour_model(), colour_set)
    assert not tails.applies(plain)
    question = question_of(colour_model(), replace(colour_set, companions={"train": replace(colour_set, name="train")}))
    assert tails.applies(question)
    lines, bars = tails.section(tails.run(question), None)["figures"]
    figures.parse(lines)
    figures.parse(bars)
    assert bars["rows"][0]["name"] == "red (3)"
    assert lines["series"][0]["points"] == [[4.0, 1.0]]


FRENCH = {"rouge": "red", "vert": "green", "bleu": "blue", "blanc": "white", "noir": "black", "jaune": "yellow", "rose": "pink"}


@pytest.fixture
def two_languages(colour_set, monkeypatch):
    from dataclasses import replace

    samples = list(colour_set.source)
    french = [
        replace(s, captions=tuple(c.replace(en, fr) for c in s.captions)) for s in samples for fr, en in FRENCH.items() if en == s.concept
    ]
    sets = {
        "colours": EvalSet("colours", "1", "", lambda: samples, lambda: colour_set.classes, ("{}",)),
        "colours-fr": EvalSet("colours-fr", "1", "", lambda: french, lambda: tuple(FRENCH), ("un {}",), language="fr"),
        "colours-large": EvalSet("colours-large", "1", "", lambda: samples, tuple),
    }
    monkeypatch.setattr(multilingual, "names", lambda: tuple(sets))
    monkeypatch.setattr(multilingual, "find", sets.__getitem__)
    multilingual.sisters.cache_clear()
    yield colour_set
    multilingual.sisters.cache_clear()


def bilingual(colour_model, lost: str = ""):
    class Bilingual(colour_model):
        def encode_text(self, texts, batch_size=64, progress=False):
            made = [
                next((text.replace(fr, "pink" if fr == lost else en) for fr, en in FRENCH.items() if fr in text), text) for text in texts
            ]
            return super().encode_text(made)

    return Bilingual()


def test_languages_side_by_side(colour_model, two_languages):
    found = by_metric(evaluate(bilingual(colour_model), two_languages, protocols=["multilingual"], cache=False))
    assert found["languages_top1"].value == found["worst_language_top1"].value == found["language_agreement"].value == 1
    found = by_metric(evaluate(bilingual(colour_model, lost="bleu"), two_languages, protocols=["multilingual"], cache=False))
    assert found["top1_in[en]"].value == 1
    assert found["top1_in[fr]"].value < 1
    assert found["worst_language_top1"].value == found["top1_in[fr]"].value
    assert found["languages_top1"].value == pytest.approx((1 + found["top1_in[fr]"].value) / 2)
    assert found["top1_in[fr]"].value <= found["language_agreement"].value < 1
    assert "top1_in[large]" not in found


def test_retrieval_in_each_language(colour_model, two_languages, monkeypatch):
    from dataclasses import replace

    monkeypatch.setattr(multilingual, "AT", 1)
    monkeypatch.setitem(multilingual.ABOUT, "languages_r@1", multilingual.ABOUT["languages_r@10"])
    question = question_of(bilingual(colour_model, lost="bleu"), replace(two_languages, classes=()))
    assert multilingual.applies(question)
    outcome = multilingual.run(question)
    value = {metric.name: metric.value_N for metric in outcome.metrics}
    assert value["r@1_in[en]"].mean() == 1
    assert value["r@1_in[fr]"].mean() < 1
    assert outcome.metrics[0].chance == pytest.approx(3 / 21)
    (bars,) = multilingual.section(outcome, None)["figures"]
    figures.parse(bars)
    assert [row["name"] for row in bars["rows"]] == ["en", "fr"]
    assert bars["rows"][1]["low"] <= bars["rows"][1]["value"] <= bars["rows"][1]["high"]
    assert not multilingual.applies(question_of(colour_model(), replace(two_languages, name="other")))
