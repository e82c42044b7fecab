"""Words about classes: descriptors and synonyms, from a file of the user's or from the embedded corpus.

A file is JSON, ``{"class": ["words", …]}``, or lines ``class<TAB>words``, one line for each (``.tsv``, ``.txt``). Every class has to be
in it; what it says of other classes is left aside.

The embedded corpus knows keywords of everyday things (:func:`described`) and other names of some (:func:`renamed`). Names are compared
without regard to case, and ``_`` is a space.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from diptych.core.errors import DiptychError, UsageError
from diptych.data import pictograms

MOST_BYTES = 64 * 2**20
MOST_KEYWORDS = 6


def plain(name: str) -> str:
    """``name`` as names are compared: lower case, single spaces for any run of space or ``_``."""
    return re.sub(r"[\s_]+", " ", name).strip().casefold()


def read_words(path: str | Path, classes: Sequence[str]) -> list[tuple[str, ...]]:
    """What the file says of each class, in the order of ``classes``; an empty list in JSON says that there is nothing to say.

    Raises:
        UsageError: the file is of another form, or a class is not in it.
        DiptychError: it cannot be read, or is larger than 64 MiB.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DiptychError(f"file {path}", f"it is larger than {MOST_BYTES >> 20} MiB", "Leave out the classes that are not asked for")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DiptychError(f"file {path}", f"it cannot be read ({error})", "Give a UTF-8 file, JSON or class<TAB>words") from error
    told = _of_json(path, text) if path.suffix == ".json" else _of_lines(path, text)
    missing = [name for name in classes if plain(name) not in told]
    if missing:
        why = f"it says nothing of {len(missing)} of {len(classes)} classes, the first is {missing[0]!r}"
        raise UsageError(f"file {path}", why, "Write words for each class, in JSON an empty list where there are none")
    return [told[plain(name)] for name in classes]


def _of_json(path: Path, text: str) -> Mapping[str, tuple[str, ...]]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"file {path}", f"it is no JSON ({error})", 'Write {"class": ["words", …], …}') from error
    lists = table.values() if isinstance(table, dict) else [None]
    if not all(isinstance(words, list) and all(isinstance(one, str) and one.strip() for one in words) for words in lists):
        raise UsageError(f"file {path}", "it is no object of lists of words", 'Write {"class": ["words", …], …}')
    return {plain(name): tuple(one.strip() for one in words) for name, words in table.items()}


def _of_lines(path: Path, text: str) -> Mapping[str, tuple[str, ...]]:
    told: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, tab, words = line.partition("\t")
        if not (tab and name.strip() and words.strip()):
            raise UsageError(f"file {path}, line {number}", "it is not class<TAB>words", "Write the class, a tab, and one phrase about it")
        told[plain(name)] = (*told.get(plain(name), ()), words.strip())
    return told


@functools.cache
def _concepts() -> Mapping[str, pictograms.Concept]:
    """The corpus's concepts by name."""
    return {plain(concept.name): concept for concept in pictograms.concepts()}


@functools.cache
def _by_last_word() -> Mapping[str, pictograms.Concept]:
    """The concept of the shortest name that ends in a word, by that word."""
    found: dict[str, pictograms.Concept] = {}
    for name, concept in sorted(_concepts().items(), key=lambda item: (len(item[0]), item[0])):
        found.setdefault(name.split(" ")[-1], concept)
    return found


def described(classes: Sequence[str], most: int = MOST_KEYWORDS) -> list[tuple[str, ...]]:
    """Descriptors of each class by rule, at most ``most``: keywords of the corpus's concept of that name, else of the concept that its last
    word names ("snow goose" → "goose"), without those that share a word with the class; () where the corpus knows neither.
    """
    found = []
    for name in map(plain, classes):
        concept = _concepts().get(name) or _by_last_word().get(name.split(" ")[-1])
        own = set(name.split(" "))
        words = () if concept is None else tuple(word for word in concept.keywords["en"] if not own & set(plain(word).split(" ")))
        found.append(words[:most])
    return found


def renamed(classes: Sequence[str]) -> list[tuple[str, ...]]:
    """Other names of each class that the corpus knows (Unicode's first name of it, say); () where it knows none.

    They stand among a concept's captions, which are otherwise the name, the name with an article, and lists with commas.
    """
    found = []
    for name in map(plain, classes):
        concept = _concepts().get(name)
        given = () if concept is None else concept.captions
        found.append(tuple(one for one in given if "," not in one and plain(one).removeprefix("an ").removeprefix("a ") != name))
    return found
