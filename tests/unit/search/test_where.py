"""Filters: their grammar, against rows filtered by hand, and what they refuse."""

from __future__ import annotations

import json
import random

import pyarrow as pa
import pytest

from diptych.core.errors import UsageError
from diptych.search import where
from diptych.search.sources import as_json
from diptych.search.where import Filter, further

YEAR = 365.25 * 86400 * 1e9
ROWS = [
    {
        "path": "a/Cat.png",
        "caption": "a cat",
        "label": "cat",
        "size": 10,
        "time": int(51.5 * YEAR),
        "source": "a",
        "meta": {"price": 2.5, "on sale": True},
    },
    {
        "path": "a/dog.png",
        "caption": None,
        "label": "dog",
        "size": 20,
        "time": int(45.5 * YEAR),
        "source": "a",
        "meta": {"price": "7", "n": -3},
    },
    {"path": "b/it's.png", "caption": "don't", "label": None, "size": 30, "time": -1, "source": "b", "meta": {"price": "dear"}},
]


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return pa.Table.from_pylist([{**row, "meta": json.dumps(row["meta"])} for row in ROWS])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("size > 10", [1, 2]),
        ("size>=10 and size<30", [0, 1]),
        ("size = 10 or size == 30", [0, 2]),
        ("label = 'CAT'", [0]),
        ("label != 'cat'", [1]),
        ("not label = 'cat'", [1, 2]),
        ("price > 2", [0, 1]),
        ("price < 3", [0]),
        ("price = 'dear'", [2]),
        ("`on sale` = true", [0]),
        ("n = -3", [1]),
        ("n < -2.5e0", [1]),
        ("year > 2020", [0]),
        ("year <= 2020", [1]),
        ("caption contains 'CA'", [0]),
        ("path contains 'cat.p'", [0]),
        ('path contains "it\'s"', [2]),
        (r"caption = 'don\'t'", [2]),
        ("label in ('dog', 'cow')", [1]),
        ("size in (10, 30)", [0, 2]),
        ("size = 10 or size = 20 and label = 'dog'", [0, 1]),
        ("(size = 10 or size = 20) and label = 'dog'", [1]),
        ("NOT (size = 10 OR size = 20)", [2]),
    ],
)
def test_rows_that_pass(rows, text, wanted):
    assert [i for i, passed in enumerate(Filter(text).mask(rows)) if passed] == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "size",
        "size >",
        "size > 10 and",
        "> 10",
        "size > cat",
        "size > 10; DROP TABLE pictures",
        "size > 10 -- x",
        "size > 10 UNION SELECT",
        "label = 'cat",
        "label like 'cat%'",
        "lower(label) = 'cat'",
        "(size > 10",
        "size > 10)",
        "label in ()",
        "label in ('a',",
        "'cat' = label",
        "1 = 1",
        "__import__('os')",
        "size > 10" * 400,
        "(" * 80 + "size > 10" + ")" * 80,
        "not " * 200 + "size > 10",
    ],
)
def test_what_is_no_filter_is_one_clear_error(text):
    with pytest.raises(UsageError, match="filter"):
        Filter(text)


def test_an_unknown_column_names_the_nearest(rows):
    with pytest.raises(UsageError, match=r"no such column\. Did you mean 'price'\?$"):
        Filter("prise > 1").mask(rows)
    assert Filter("anything > 1").mask(rows.slice(0, 0)).tolist() == []


HARD = {
    "year": [2021, "2021", "in 2021", None, -1.5e-7, True, "", 'a "year": 3, ', '{"year": 3}'],
    'big "year': [1, 'x": 2', "\\", '\\"', "a, b}", None],
    "month\\": [12, "\u20ac \U0001f600", "\n"],
    "straße (km)": ["weit", 3, "year", ' "year'],
    "ye": [1, 2, None],
    "a.r": [5, "$", None],
    "y": [10**18, 1e300],
}


def test_columns_cut_out_of_json_are_those_that_are_parsed(monkeypatch):
    """Keys and values full of quotes, brackets and other keys, in blocks of three rows, against json.loads of every row."""
    monkeypatch.setattr(where, "BLOCK", 3)
    draw = random.Random(0)
    metas = [{name: value for name, values in HARD.items() if (value := draw.choice(values)) is not None} for _ in range(400)]
    table = pa.table({"meta": [as_json(meta) for meta in metas]})
    table = pa.concat_tables([table.slice(0, 1), table.slice(1, 7), table.slice(8)])
    for name in HARD:
        column = further(table, name)
        parts = [column.part(start) for start in range(0, len(metas), 3)]
        found = [part.values[at] for part in parts for at in part.at_N]
        assert list(map(repr, found)) == [repr(json.loads(as_json(meta)).get(name)) for meta in metas]


def test_rows_pass_the_same_in_blocks(rows, monkeypatch):
    monkeypatch.setattr(where, "BLOCK", 2)
    assert Filter("price > 2 or path contains 'it'").mask(rows).tolist() == [True, True, True]
    assert Filter("year > 2020").mask(rows).tolist() == [True, False, False]
