"""LaCLIP: how often each text is drawn, what the rules keep, and what a bad file of rewrites is told."""

from __future__ import annotations

import random
import runpy
from collections import Counter
from pathlib import Path

import pytest

from diptych.captions.laclip import Options, laclip
from diptych.captions.parts import rules
from diptych.core.errors import DiptychError, UsageError
from diptych.core.types import Words
from diptych.data import pictograms

REFERENCE = runpy.run_path(str(Path(__file__).parents[2] / "reference" / "laclip.py"))["reference"]
GOAT = Words("g1", "a goat", ("goat", "a goat", "goat, animal, farm, milk"))
DRAWS = 8000


def counts(rewriter, words: Words) -> Counter:
    draw = random.Random(5)
    return Counter(rewriter(words, draw) for _ in range(DRAWS))


def matches(found: Counter, expected: dict[str, float]) -> None:
    """Every share within five standard deviations, and nothing else was drawn."""
    assert set(found) == {text for text, share in expected.items() if share > 0}
    for text, share in expected.items():
        assert abs(found[text] / DRAWS - share) <= 5 * (share * (1 - share) / DRAWS) ** 0.5, text


def written(tmp_path: Path, name: str, text: str) -> str:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return str(tmp_path / name)


@pytest.mark.parametrize("original", [None, 0.0, 0.7, 1.0])
@pytest.mark.parametrize("key", ['"id": "g1"', '"caption": "a goat"'])
def test_a_file_is_drawn_from_as_the_paper_says(tmp_path, original, key):
    rewrites = ["the goat stands", "one goat", "a horned animal", "goat on a farm"]
    file = written(tmp_path, "r.jsonl", f'{{{key}, "rewrites": ["the goat stands", "one goat", "a horned animal"]}}\n\n')
    with open(file, "a", encoding="utf-8") as more:
        more.write(f'{{{key}, "rewrites": ["goat on a farm"]}}\n')
    matches(counts(laclip(file=file, original=original), GOAT), REFERENCE("a goat", rewrites, original))


def test_tab_separated_equals_json_lines(tmp_path):
    tabs = laclip(file=written(tmp_path, "r.tsv", "id\trewrite\r\ng1\tone goat\tthe goat\r\ng1\ta horned animal\r\n"))
    lines = laclip(file=written(tmp_path, "r.jsonl", '{"id": "g1", "rewrites": ["one goat", "the goat", "a horned animal"]}'))
    assert counts(tabs, GOAT) == counts(lines, GOAT)


def test_the_caption_is_looked_up_before_the_id(tmp_path):
    file = written(tmp_path, "r.jsonl", '{"id": "g1", "rewrites": ["by id"]}\n{"caption": "a goat", "rewrites": ["by caption"]}')
    rewriter = laclip(file=file, original=0.0)
    assert rewriter(GOAT, random.Random(0)) == "by caption"
    assert rewriter(Words("g1", "goat", ("goat",)), random.Random(0)) == "by id"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("r.csv", "id,rewrite", "files of type .csv"),
        ("r.jsonl", "", "no rewrite"),
        ("r.jsonl", '{"id": "a", "rewrites": ["x"]}\n{"id": "b"', "line 2: it is no JSON"),
        ("r.jsonl", '{"rewrites": ["x"]}', "needs one key"),
        ("r.jsonl", '{"id": 3, "rewrites": ["x"]}', "needs one key"),
        ("r.jsonl", '["x"]', "needs one key"),
        ("r.jsonl", '{"id": "a", "rewrites": "x"}', "no list of texts"),
        ("r.jsonl", '{"id": "a", "rewrites": [""]}', "no list of texts"),
        ("r.tsv", "g1\tone goat", "first column is 'g1'"),
        ("r.tsv", "id\trewrite\ng1", "line 2: no rewrite follows"),
        ("r.tsv", "id\trewrite\n", "no rewrite"),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path, name, text, told):
    with pytest.raises(UsageError, match=told) as caught:
        laclip(file=written(tmp_path, name, text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_not_text(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        laclip(file=str(tmp_path / "none.tsv"))
    (tmp_path / "r.tsv").write_bytes(b"id\trewrite\n\xff\tx")
    with pytest.raises(UsageError, match="not UTF-8 at byte 11"):
        laclip(file=str(tmp_path / "r.tsv"))


def test_a_sample_that_the_file_does_not_hold(tmp_path):
    file = written(tmp_path, "r.jsonl", '{"id": "other", "rewrites": ["x"]}')
    with pytest.raises(DiptychError, match="no rewrites of sample 'g1'"):
        laclip(file=file)(GOAT, random.Random(0))
    assert laclip(file=file, missing="keep")(GOAT, random.Random(0)) == "a goat"


def test_settings_that_exclude_one_another(tmp_path):
    with pytest.raises(UsageError, match="exclude"):
        laclip(file=written(tmp_path, "r.jsonl", '{"id": "g1", "rewrites": ["x"]}'), rules=("frame",))
    with pytest.raises(UsageError, match="missing"):
        laclip(missing="keep")
    assert set(Options.model_fields) == {"file", "rules", "original", "missing"}


def test_rules_repeat_with_their_draw_and_keep_the_original_often_enough():
    one, two = (counts(laclip(), GOAT) for _ in range(2))
    assert one == two
    # frame, keyword and article apply to "a goat", a list rule does not: the original has 1 / (3 + 1)
    assert abs(one["a goat"] / DRAWS - 0.25) <= 5 * (0.25 * 0.75 / DRAWS) ** 0.5


@pytest.mark.parametrize(
    ("rule", "caption", "expected"),
    [
        ("reorder", "a red apple to the left of a blue car.", {"a blue car to the right of a red apple."}),
        ("reorder", "a cat above a box", {"a box below a cat"}),
        ("reorder", "a cat and a dog", {"a dog and a cat"}),
        ("reorder", "a cat", {None}),
        ("reorder", "a, b", {"a, b", "b, a"}),
        ("article", "a goat", {"goat", "one goat", "the goat"}),
        ("article", "grapes", {"the grapes"}),
        ("article", "two goats", {None}),
        ("keyword", "a small goat", {"a little goat"}),
        ("keyword", "a goat", {None}),
    ],
)
def test_rules_by_hand(rule, caption, expected):
    words = Words("x", caption, (caption,))
    assert {rules.RULES[rule](words, random.Random(seed)) for seed in range(60)} == expected


def test_keywords_come_from_the_sample_alone():
    made = {rules.keyword(GOAT, random.Random(seed)) for seed in range(60)}
    assert made == {text for key in ("animal", "farm", "milk") for text in (f"a goat, {key}", f"a goat ({key})", f"{key}: a goat")}
    given = Words("x", "a lorry", ("a lorry",), meta={"synonyms": {"lorry": ["truck"]}, "keywords": ["red"]})
    made = {rules.keyword(given, random.Random(seed)) for seed in range(60)}
    assert made == {"a truck", "a lorry, red", "a lorry (red)", "red: a lorry"}


def test_frames_hold_the_caption_and_its_article():
    for seed in range(60):
        assert "a goat" in rules.frame(GOAT, random.Random(seed)) or "goat, as" in rules.frame(GOAT, random.Random(seed))
        assert "an apple" in rules.frame(Words("x", "apple", ()), random.Random(seed)) or seed
    long = "A red apple lies to the left of a blue car on a green field."
    assert all(long in rules.frame(Words("x", long, ()), random.Random(seed)) for seed in range(20))


def test_every_caption_of_the_corpus_can_be_rewritten():
    rewriter, draw = laclip(original=0.0), random.Random(0)
    for sample in pictograms.samples("train")[::40]:
        for caption in sample.captions:
            text = rewriter(Words(sample.id, caption, sample.captions, meta=sample.meta), draw)
            assert text != caption
            assert text == text.strip()
            assert "{" not in text
