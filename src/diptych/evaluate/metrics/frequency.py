"""How often concepts are named in captions, by their names and synonyms.

Paper: Parashar et al., The Neglected Tails of Vision-Language Models (arXiv:2401.12425): a concept's frequency is the number
of captions that hold its name or one of its synonyms; counting the name alone misses most of many concepts.

Texts and names are compared word by word (NFKC, no case, hyphens and underscores as spaces, punctuation left out), so "cat" is found in
"A cat." and not in "category". A name in a script without spaces between words (Chinese, Japanese, Thai …) is found anywhere.
Shapes: K classes.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.core.errors import DiptychError, UsageError
from diptych.data.sources.base import as_captions

COLUMNS = ("caption", "captions", "title", "text", "sentence", "raw")
TEXT_SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl")
UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
WORD = re.compile(r"\w+(?:['’]\w+)*")


def words(text: str) -> tuple[str, ...]:
    """A text as it is compared: ``"A two-hump Camel!"`` → ``("a", "two", "hump", "camel")``."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("_", " ").replace("’", "'")
    return tuple(WORD.findall(plain))


class Names:
    """The names of the classes, each with its synonyms, ready to be found.

    Args:
        classes: one name a class.
        synonyms: by class name, further names of it; classes that are not there have none.

    Raises:
        UsageError: a synonym belongs to a class that is not there.
    """

    def __init__(self, classes: Sequence[str], synonyms: Mapping[str, Sequence[str]] | None = None) -> None:
        if unknown := sorted(set(synonyms or {}) - set(classes)):
            raise UsageError(f"synonyms of {unknown[0]!r}", "no class has this name", "Write the class names as the set does")
        self.names = [tuple(dict.fromkeys([name, *(synonyms or {}).get(name, ())])) for name in classes]
        self.spaced: dict[tuple[str, ...], list[tuple[int, int]]] = {}
        self.unspaced: dict[str, list[tuple[int, int]]] = {}
        for k, each in enumerate(self.names):
            for n, name in enumerate(each):
                key = words(name)
                if UNSPACED.search(name):
                    self.unspaced.setdefault("".join(key), []).append((k, n))
                elif key:
                    self.spaced.setdefault(key, []).append((k, n))
        self.longest = max((len(key) for key in self.spaced), default=0)

    def found(self, captions: Sequence[str]) -> set[tuple[int, int]]:
        """``(class, which of its names)`` for every name that one of ``captions`` holds."""
        hits: set[tuple[int, int]] = set()
        for caption in captions:
            told = words(caption)
            for start in range(len(told)):
                for stop in range(start + 1, min(start + self.longest, len(told)) + 1):
                    hits.update(self.spaced.get(told[start:stop], ()))
            if self.unspaced and UNSPACED.search(caption):
                text = "".join(told)
                hits.update(hit for name, each in self.unspaced.items() if name in text for hit in each)
        return hits


def count(names: Names, items: Iterable[Sequence[str]]) -> tuple[Tensor, list[Tensor], int]:
    """In how many of ``items`` (each the captions of one picture) each class is named.

    Returns:
        ``(count_K, by_name, items)``: int64 counts of items that hold any name of the class; for each class the counts of its single
        names, in the order of ``names.names``; how many items there were.
    """
    count_K = torch.zeros(len(names.names), dtype=torch.int64)
    by_name = [torch.zeros(len(each), dtype=torch.int64) for each in names.names]
    total = 0
    for captions in items:
        total += 1
        hits = names.found(captions)
        for k, n in hits:
            by_name[k][n] += 1
        for k in {k for k, _ in hits}:
            count_K[k] += 1
    return count_K, by_name, total


def captions_of(source: Any) -> Iterator[Sequence[str]]:
    """The captions of a file of words or of any data that opens, picture by picture.

    A ``.txt`` has a caption a line; a ``.csv``, ``.tsv`` or ``.jsonl`` a column or key out of :data:`COLUMNS`.

    Raises:
        UsageError: a table has no column of captions.
        DiptychError: the file cannot be read.
    """
    path = Path(source) if isinstance(source, (str, Path)) else None
    if path is None or path.suffix.lower() not in TEXT_SUFFIXES or not path.is_file():
        from diptych.data.sources.base import Dataset
        from diptych.evaluate.material import material

        found = material(source).source
        yield from (found.captions(i) if isinstance(found, Dataset) else found[i].captions for i in range(len(found)))
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _lines(file, path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DiptychError(f"captions {path}", str(error), "Give a UTF-8 file that you may read") from error


def _lines(file: io.TextIOBase, path: Path) -> Iterator[Sequence[str]]:
    kind = path.suffix.lower()
    if kind == ".txt":
        yield from ((line.strip(),) for line in file if line.strip())
    elif kind == ".jsonl":
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _of_json(line, f"{path} line {number}")
    else:
        rows = csv.DictReader(file, delimiter="\t" if kind == ".tsv" else ",")
        column = next((name for name in rows.fieldnames or () if name.strip().casefold() in COLUMNS), None)
        if column is None:
            raise UsageError(f"captions {path}", f"its columns are {rows.fieldnames}", f"Name one of them {COLUMNS[0]!r}")
        yield from ((row[column],) for row in rows if row[column])


def _of_json(line: str, where: str) -> Sequence[str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DiptychError(where, f"not JSON ({error})", "Mend or remove this line") from error
    if isinstance(row, dict):
        key = next((name for name in COLUMNS if name in row), None)
        if key is None:
            raise UsageError(where, f"its keys are {sorted(row)}", f"Name one of them {COLUMNS[0]!r}")
        row = row[key]
    return as_captions(row)


def spearman(pair_K2: Tensor) -> float:
    """Rank correlation of two columns, ties by their mean rank, in [−1, 1]; NaN where a column is constant."""
    rank_K2 = torch.stack([_mean_ranks(column) for column in pair_K2.double().unbind(1)], 1)
    centred = rank_K2 - rank_K2.mean(0)
    norm = centred.square().sum(0).prod().sqrt()
    return float(centred.prod(1).sum() / norm) if norm > 0 else float("nan")


def _mean_ranks(value_K: Tensor) -> Tensor:
    _, index_K, count_U = value_K.unique(return_inverse=True, return_counts=True)
    below_U = count_U.cumsum(0) - count_U
    return (below_U.double() + (count_U.double() - 1) / 2)[index_K]
