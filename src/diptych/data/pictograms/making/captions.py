"""English captions of a concept: its name, its name with keywords, its keywords, and what Unicode first called it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from diptych.data.pictograms.making.concepts import Draft

MOST_KEYWORDS = 5
# groups whose names are mostly things that can be counted
COUNTED = frozenset({"smileys-emotion", "people-body", "animals-nature", "food-drink", "travel-places", "activities", "objects"})


def article(concept: Draft) -> str:
    """``"red apple"`` → ``"a red apple"``; plurals, names, times, prohibitions and symbols stay as they are."""
    name = concept.names["en"]
    last = name.split()[-1]
    plural = last.endswith("s") and not last.endswith(("ss", "us"))
    other = ":" in name or name.startswith(("no ", "people ")) or last.endswith(("thirty", "o’clock"))
    if plural or other or concept.group not in COUNTED or not name[0].islower():
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def captions(concept: Draft) -> list[str]:
    """Distinct captions of one concept, the plainest first."""
    name, keywords = concept.names["en"], concept.keywords["en"][:MOST_KEYWORDS]
    old = "" if "," in concept.old_name else concept.old_name
    return distinct([name, article(concept), ", ".join((name, *keywords)), ", ".join(keywords), old])


def distinct(lines: Sequence[str]) -> list[str]:
    """Without empty lines and without those equal to an earlier one but for case."""
    kept: dict[str, str] = {}
    for line in lines:
        if line:
            kept.setdefault(line.casefold(), line)
    return list(kept.values())


def all_captions(concepts: Iterable[Draft]) -> dict[str, list[str]]:
    """Captions by concept id; what two concepts would share (but for a name) is left out, so that a caption means one concept."""
    mine = {concept.id: captions(concept) for concept in concepts}
    count = Counter(line.casefold() for lines in mine.values() for line in lines)
    return {identity: [line for i, line in enumerate(lines) if i == 0 or count[line.casefold()] == 1] for identity, lines in mine.items()}
