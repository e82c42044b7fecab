"""The verdict's rules on records made by hand."""

from __future__ import annotations

from diptych.core.types import Record
from diptych.evaluate.report import verdict, words

J = "\N{WORD JOINER}–\N{WORD JOINER}"


def record(metric: str = "top1", value: float = 0.5, chance: float | None = 0.1, half: float = 0.05, **other) -> Record:
    fields = {
        "protocol": "zero_shot",
        "set": "s",
        "interval": (value - half, value + half),
        "n": 100,
        "seed": 0,
        "model": "m",
        "command": "c",
    }
    return Record(metric=metric, value=value, chance=chance, **{**fields, **other})  # type: ignore[arg-type]


def say(*records: Record, **other) -> list[str]:
    return verdict.sentences(records, {"s": 10}, **other)


def test_three_sentences_on_a_model_that_is_good_everywhere():
    rows = [record(), record("text_to_image_r@1", 0.6, 0.01, protocol="retrieval", set="r")]
    assert say(*rows) == [
        f"Shown a picture and 10 names, it picks the right name 50.0% of the time (95% interval 45.0{J}55.0%, guessing 10.0%); "
        f"asked with a caption, it puts the right picture first 60.0% of the time (95% interval 55.0{J}65.0%, guessing 1.00%).",
        "Nothing that was measured breaks it: all 2 numbers beside chance are clearly better.",
        "How far its confidence can be believed was not measured (--suite full); what it lost against a parent was not measured "
        "(--baseline MODEL).",
    ]


def test_what_cannot_be_told_from_guessing_is_named():
    sentences = say(record(value=0.12), record(value=0.02, set="t"), record(value=0.9, set="u"))
    assert sentences[0].endswith(", which may be chance.")
    assert "no better than guessing at Top-1 on s (12.0%, guessing 10.0%) and Top-1 on t (2.00%, guessing 10.0%)" in sentences[1]
    assert say(record(value=0.01, half=0.001))[0].endswith("which is worse than guessing.")
    many = say(*(record(value=0.1, set=name) for name in "abcde"))[1]
    assert many.count("guessing 10.0%") == 3
    assert "and 2 more" in many


def test_the_largest_fall_is_measured_between_chance_and_perfect():
    # from 0.5: t falls to 0.3 of chance 0.1 (half the way), u to 0.4 of chance 0.35 (nine tenths of the way)
    sentence = say(record(), record(value=0.3, set="t"), record(value=0.4, chance=0.35, set="u", half=0.01))[1]
    assert sentence == f"It is weakest here: Top-1 falls from 50.0% on s to 40.0% (95% interval 39.0{J}41.0%, guessing 35.0%) on u."
    assert "the group “b”" in say(record(), record("top1[a]", 0.6), record("top1[b]", 0.2))[1]


def test_a_fall_that_may_be_chance_or_rests_on_few_is_not_named():
    assert say(record(), record(value=0.42, set="t"))[1].startswith("Nothing that was measured breaks it")
    assert say(record(), record("top1[b]", 0.2, n=9))[1].startswith("Nothing")
    assert say(record(), record("top5", 0.2))[1].startswith("Nothing")
    assert say(record(chance=None))[1].startswith("Where it breaks cannot be said")


def test_gains_and_losses_are_counted_in_the_right_sense(monkeypatch):
    rows = [record(), record("top1.gain", 0.1, 0.0), record("top1.retention", 0.93)]
    rows += [record("top5", 0.7), record("top5.gain", -0.2, 0.0), record("mean_per_class"), record("mean_per_class.gain", 0.01, 0.0)]
    sentence = say(*rows, baseline="old")[2]
    assert "against its baseline old, Top-1 on s differs by +10.0 points (95% interval +5.0 to +15.0) and 93.0% of what" in sentence
    assert "of 3 paired differences 1 are clearly better and 1 clearly worse, the worst Top-5 on s (−20.0 points)" in sentence
    assert "which may be chance" in say(record(), record("top1.gain", 0.01, 0.0))[2]
    assert "against its baseline," in say(record(), record("top1.gain", 0.01, 0.0))[2]


def test_another_model_of_the_folder_is_no_paired_comparison():
    sentence = say(record(), others={"old": [record("top5"), record(value=0.4, model="old")]})[2]
    assert f"beside it old has 40.0% (95% interval 35.0{J}45.0%, guessing 10.0%) on s (Top-1), not compared item by item" in sentence


def test_confidence_is_told_where_it_was_measured():
    sentence = say(record(), record("ece", 0.123, None, protocol="unheard-of"))[2]
    assert sentence.startswith(f"Its confidence is off by 12.3 points on average (ece on s, 95% interval 7.30{J}17.3%); what it lost")


def test_lists_are_cut():
    assert words.listed([]) == ""
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c"]) == "a, b and c"
    assert words.listed(list("abcde")) == "a, b, c and 2 more"


def test_numbers_have_the_digits_that_tell_something():
    assert [words.plain(v) for v in (1.6, 0.78699, 152.0, 151.6, 12500, -0.0034583)] == ["1.60", "0.787", "152", "152", "12.5k", "−0.00346"]
    assert words.span("42.0%", "46.1%") == f"42.0{J}46.1%"
    assert words.span("−6.00%", "8.02%") == "−6.00% to 8.02%"
    assert words.span("1.60", "1.62") == f"1.60{J}1.62"


def test_the_worst_of_two_protocols_is_named_worst_first():
    rows = [record(), record("top1[a_b]", 0.2), record("acc", 0.6, protocol="x"), record("acc[c]", 0.15, protocol="x")]
    sentence = say(*rows)[1]
    assert sentence == (
        "It is weakest here: acc falls from 60.0% on s to 15.0% on the group “c”; Top-1 falls from 50.0% on s to 20.0% on the group “a b”."
    )
