"""Filters over the columns of one's own data: ``year > 2020 and (label = 'cat' or caption contains 'kitten')``.

    filter     = all_of {"or" all_of}
    all_of     = one {"and" one}
    one        = "not" one | "(" filter ")" | column comparison value
    comparison = "=" "==" "!=" "<>" "<" "<=" ">" ">=" "contains" "in" (a list of values in brackets)
    value      = number | 'text' | "text" | true | false

Columns are ``path``, ``caption``, ``label``, ``size`` (bytes), ``year`` (of the file's last change, where the data have no column of that
name), ``source``, and the further columns of the data (names with other characters than letters, digits and _ in backticks). The text is
parsed here and evaluated here on Arrow columns; nothing of it reaches another query language. A row without a value fails every comparison.
Texts compare without regard to case.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute

from diptych.core.errors import UsageError, nearest

OWN = ("path", "caption", "label", "size", "source")
TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.])|(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|`(?P<quoted>[^`]+)`"""
    r"""|(?P<name>[^\W\d]\w*)|(?P<sign><=|>=|!=|<>|==|=|<|>|\(|\)|,))"""
)
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "==": operator.eq, "!=": operator.ne, "<>": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
LONGEST, DEEPEST = 2000, 50
BLOCK = 1 << 16  # rows whose cells are Python objects at a time
LOOKED = 1000  # rows whose columns are named where an unknown one is asked for


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a column: its different values, None the last of them, and which of these each row has."""

    values: list[Any]
    at_N: np.ndarray

    def passing(self, test: Callable[[Any], bool]) -> np.ndarray:
        """Which rows (N,) pass, each value being tested once."""
        return np.array([test(value) for value in self.values], dtype=bool)[self.at_N]


Test = Callable[[Mapping[str, Part]], np.ndarray]


class Filter:
    """A parsed filter.

    Args:
        text: as in the module's grammar.

    Raises:
        UsageError: it does not follow the grammar; says where.
    """

    def __init__(self, text: str) -> None:
        self.text, self.names = text, set[str]()
        if len(text) > LONGEST:
            raise UsageError("filter", f"it is longer than {LONGEST} characters", "Ask for less")
        self._tokens, self._at = list(tokens(text)), 0
        self._test = self._any(0)
        if self._at < len(self._tokens):
            raise self._wrong("nothing more was expected")

    def mask(self, rows: pa.Table) -> np.ndarray:
        """Which rows (N,) pass.

        Raises:
            UsageError: a column that the data do not have.
        """
        columns = columns_of(rows, self.names)
        starts = range(0, max(len(rows), 1), BLOCK)
        return np.concatenate([self._test({name: column.part(start) for name, column in columns.items()}) for start in starts])

    def _any(self, depth: int) -> Test:
        tests = [self._all(depth)]
        while self._word("or"):
            tests.append(self._all(depth))
        return tests[0] if len(tests) == 1 else lambda columns: np.logical_or.reduce([test(columns) for test in tests])

    def _all(self, depth: int) -> Test:
        tests = [self._one(depth)]
        while self._word("and"):
            tests.append(self._one(depth))
        return tests[0] if len(tests) == 1 else lambda columns: np.logical_and.reduce([test(columns) for test in tests])

    def _one(self, depth: int) -> Test:
        if depth > DEEPEST:
            raise self._wrong("it is nested too deeply")
        if self._word("not"):
            inner = self._one(depth + 1)
            return lambda columns: ~inner(columns)
        if self._sign("("):
            inner = self._any(depth + 1)
            self._need(")")
            return inner
        kind, name = self._next("a column")
        if kind not in ("name", "quoted"):
            raise self._wrong("a column was expected", back=1)
        self.names.add(name)
        return self._comparison(name)

    def _comparison(self, name: str) -> Test:
        kind, sign = self._next("a comparison")
        if kind == "name" and sign.lower() == "in":
            self._need("(")
            values = [self._value()]
            while self._sign(","):
                values.append(self._value())
            self._need(")")
            return lambda columns: columns[name].passing(lambda cell: any(compared(operator.eq, cell, value) for value in values))
        if kind == "name" and sign.lower() == "contains":
            part = str(self._value()).casefold()
            return lambda columns: columns[name].passing(lambda cell: cell is not None and part in str(cell).casefold())
        if kind != "sign" or sign not in COMPARE:
            raise self._wrong("a comparison was expected (= != < <= > >= contains in)", back=1)
        compare, value = COMPARE[sign], self._value()
        return lambda columns: columns[name].passing(lambda cell: compared(compare, cell, value))

    def _value(self) -> Any:
        kind, value = self._next("a value")
        if kind == "number":
            return float(value)
        if kind == "text":
            return re.sub(r"\\(.)", r"\1", value[1:-1])
        if kind == "name" and value.lower() in ("true", "false"):
            return value.lower() == "true"
        raise self._wrong("a number or a text in quotes was expected", back=1)

    def _next(self, wanted: str) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise self._wrong(f"it ends where {wanted} was expected")
        self._at += 1
        return self._tokens[self._at - 1]

    def _word(self, word: str) -> bool:
        found = self._at < len(self._tokens) and self._tokens[self._at][0] == "name" and self._tokens[self._at][1].lower() == word
        self._at += found
        return found

    def _sign(self, sign: str) -> bool:
        found = self._at < len(self._tokens) and self._tokens[self._at] == ("sign", sign)
        self._at += found
        return found

    def _need(self, sign: str) -> None:
        if not self._sign(sign):
            raise self._wrong(f"{sign!r} was expected")

    def _wrong(self, why: str, back: int = 0) -> UsageError:
        at = self._at - back
        near = f" at {self._tokens[at][1]!r}" if at < len(self._tokens) else ""
        return UsageError(f"filter {self.text[:80]!r}", f"{why}{near}", "For example: year > 2020 and label = 'cat'")


def tokens(text: str) -> list[tuple[str, str]]:
    """``(kind, text)`` of every token. Raises :class:`UsageError` at a character that starts none."""
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = TOKEN.match(text, at)
        if match is None:
            rest = text[at:].strip()
            raise UsageError(f"filter {text[:80]!r}", f"{rest[:20]!r} is not understood", "Texts stand in quotes: label = 'cat'")
        kind = str(match.lastgroup)
        found.append((kind, match[kind]))
        at = match.end()
    return found


def compared(compare: Callable[[Any, Any], bool], cell: Any, value: Any) -> bool:
    """A cell against a value: numbers as numbers (a text cell that reads as one counts as one), all else as text; False without a value."""
    if cell is None:
        return False
    if isinstance(value, bool) or isinstance(cell, bool):
        return compare(str(cell).casefold(), str(value).casefold())
    if isinstance(value, float):
        try:
            return compare(float(cell), value)
        except ValueError:
            return False
    return compare(str(cell).casefold(), str(value).casefold())


@dataclass(frozen=True, slots=True)
class Column:
    """A column of all rows, still in Arrow.

    Args:
        cells: a cell a row.
        written: whether a cell is the JSON of its value.
    """

    cells: pa.ChunkedArray
    written: bool = False

    def part(self, start: int) -> Part:
        """At most :data:`BLOCK` rows from ``start`` on."""
        coded = self.cells.slice(start, BLOCK).combine_chunks().dictionary_encode()
        values = coded.dictionary.to_pylist()
        if self.written:
            values = json.loads(f"[{','.join(values)}]")
        return Part([*values, None], coded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False))


def columns_of(rows: pa.Table, names: set[str]) -> dict[str, Column]:
    """The named columns.

    Raises:
        UsageError: no row has such a column.
    """
    return {name: Column(rows.column(name)) if name in OWN else further(rows, name) for name in names}


def further(rows: pa.Table, name: str) -> Column:
    """A column of the data's own, cut out of ``meta``; else the year of change.

    ``meta`` is a flat JSON object as :func:`diptych.search.sources.as_json` writes it. There an unescaped quote that follows a bracket or a
    blank and ends in ``": `` is the start of a key, so that the text after it is the whole value; nothing else need be parsed.
    """
    key = re.escape(json.dumps(name))
    found = compute.extract_regex(rows.column("meta"), rf'[{{ ]{key}: (?P<value>"(?:[^"\\]|\\.)*"|[^,}}]+)')  # type: ignore[attr-defined]
    cells = compute.struct_field(found, "value")  # type: ignore[attr-defined]
    if cells.null_count < len(cells) or not len(cells):
        return Column(cells, written=True)
    if name == "year":
        time_N = rows.column("time").to_numpy()
        year_N = time_N.astype("datetime64[ns]").astype("datetime64[Y]").astype(np.int64) + 1970
        return Column(pa.chunked_array([pa.array(year_N, mask=time_N < 0)]))
    known = {*OWN, "year", *(key for text in rows.column("meta").slice(0, LOOKED).to_pylist() for key in json.loads(text))}
    raise UsageError(f"filter, column {name!r}", "the index has no such column", nearest(name, known))
