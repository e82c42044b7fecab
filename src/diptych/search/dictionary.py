"""Words in the 28 languages of the embedded corpus, put into English before a model reads them: few models read them all.

A text that is the name of one concept is asked by its English name; one that is a keyword of at most :data:`FEW` concepts by theirs
(``"mela"``: ``"green apple, red apple"``). Everything else, and whatever is English already, stays as it was typed.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Mapping

from diptych.data import pictograms

FEW = 3
ENGLISH = ("en", "en-gb")


def in_english(text: str) -> str:
    """The text as a model is asked: English where the dictionary knows it, else as it is."""
    return entries().get(_folded(text), text)


@functools.cache
def entries() -> Mapping[str, str]:
    """Folded words to English. Where languages disagree about a name (``"gift"``), English goes first, then nobody."""
    named: dict[str, set[str]] = defaultdict(set)
    keyed: dict[str, set[str]] = defaultdict(set)
    english: set[str] = set()
    for concept in pictograms.concepts():
        for language, name in concept.names.items():
            named[_folded(name)].add(concept.name)
            if language in ENGLISH:
                english.add(_folded(name))
        for language, words in concept.keywords.items():
            for word in words:
                keyed[_folded(word)].add(concept.name)
                if language in ENGLISH:
                    english.add(_folded(word))
    found = {word: ", ".join(sorted(names)) for word, names in keyed.items() if len(names) <= FEW and word not in named}
    found |= {word: next(iter(names)) for word, names in named.items() if len(names) == 1}
    return {word: names for word, names in found.items() if word not in english}


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
