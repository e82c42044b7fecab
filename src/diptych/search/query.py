"""What is asked of an index and what comes back: plain frozen types, nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diptych.core.errors import UsageError
from diptych.search.dictionary import in_english

NOT = -0.5  # the weight of a word that is asked away; -1 would look for its opposite rather than for its absence


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: words, pictures and pictures of the index, each with a weight.

    Args:
        words: ``(("a red apple", 1.0), ("a table", -0.5))``; a negative weight asks the thing away.
        images: pictures (path, encoded bytes, PIL image, uint8 array (H, W, 3)) with weights.
        like: ids of pictures that the index holds, with weights.

    Raises:
        UsageError: nothing is asked for, an empty text, or a weight that is 0 or not a finite number.
    """

    words: tuple[tuple[str, float], ...] = ()
    images: tuple[tuple[Any, float], ...] = ()
    like: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        parts = (*self.words, *self.images, *self.like)
        if not any(weight > 0 for _, weight in parts):
            raise UsageError("query", "nothing is asked for", 'Give words, a picture or an id, for example "a red apple"')
        if any(not text.strip() for text, _ in self.words):
            raise UsageError("query", "a text is empty", "Give words to look for")
        for _, weight in parts:
            if weight == 0 or not math.isfinite(weight):
                raise UsageError(f"weight {weight}", "it says nothing about what is looked for", "Give a positive or negative number")

    def texts(self) -> list[str]:
        """Its words as a model is asked: in English where the corpus knows them (see :mod:`diptych.search.dictionary`)."""
        return [in_english(text) for text, _ in self.words]

    @classmethod
    def of(cls, text: str) -> Query:
        """The query of one text with weight 1."""
        return cls(words=((text, 1.0),))


@dataclass(frozen=True, slots=True)
class Hit:
    """One found picture.

    Args:
        id: 16 hexadecimal digits, which stay with the picture when its file moves.
        path: where the picture lies, or ``SET/KEY`` for one that is no file of its own.
        score: 0 to 1: how likely the picture is what was asked for (see :mod:`diptych.search.score`).
        similarity: −1 to 1: cosine of the picture and the query, not normalised.
        caption, label: its words in the data, or None.
        meta: further columns of the user's data.
        duplicates: ids of near-duplicates that stand behind this hit, the most similar to the query first.
    """

    id: str
    path: str
    score: float
    similarity: float
    caption: str | None = None
    label: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    duplicates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found, best first.

    Args:
        answer: whether the best hit is a good match; False means that the index holds nothing of the kind.
        results: hits in descending similarity (with ``diverse`` in the order of that rule).
        searched: how many pictures were compared (those that the filter leaves).
        exact: False where an approximate index chose the candidates.
    """

    answer: bool
    results: tuple[Hit, ...]
    searched: int
    exact: bool = True
