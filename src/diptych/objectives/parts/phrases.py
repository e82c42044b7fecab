"""A small scene graph of an English caption: its noun phrases with their attributes, and what relates one to the next.

Determiners ("a", "the", "two" …) begin phrases ("the left" does not); prepositions, and words that look like verbs between a noun and
the next determiner, are the relation; leading words of the table :data:`CLASSES` are attributes. No model and no dictionary of nouns is
needed; a caption of another build simply has no phrases that can be exchanged.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

CLASSES: dict[str, tuple[str, ...]] = {
    "colour": ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey", "gray", "cyan", "golden"),
    "size": ("big", "small", "large", "little", "tiny", "huge", "tall", "short", "long"),
    "shape": ("round", "square", "flat", "curved", "straight", "triangular"),
    "matter": ("wooden", "metal", "plastic", "glass", "stone", "paper"),
    "state": ("open", "closed", "old", "young", "new", "happy", "sad", "full", "empty", "wet", "dry", "hot", "cold", "dark", "light"),
    "count": ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    "side": ("left", "right"),
    "height": ("above", "below"),
    "depth": ("front", "behind"),
    "edge": ("top", "bottom"),
    "place": ("upper", "lower"),
}
ATTRIBUTES = frozenset(word for name in ("colour", "size", "shape", "matter", "state") for word in CLASSES[name])
DETERMINERS = frozenset(("a", "an", "the", "one", "two", "three", "four", "five", "some", "another", "his", "her", "its", "their"))
PREPOSITIONS = frozenset(
    re.findall(
        r"\w+",
        "on in at with of to from by above below under over behind beside beneath near next inside outside between into onto through "
        "against along across than bigger smaller larger taller left right front top bottom is are and or while which that",
    )
)
PARTS = frozenset(("left", "right", "top", "bottom", "front", "back", "middle", "centre", "center", "side"))  # "the left of" is no thing
MUTUAL = frozenset(("beside", "next to", "near", "with", "is beside", "is next to", "is near", "close to"))
LINKS = frozenset(("and", "or", "while", ",", ";", "."))
VERB = re.compile(r"[^sui]s$")  # after "a cat": "sits"
WORD = re.compile(r"[\w'’-]+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase: ``determiner attributes noun``, then what stands before the next phrase (a relation, or punctuation)."""

    determiner: str
    attributes: tuple[str, ...]
    noun: tuple[str, ...]
    after: tuple[str, ...] = ()

    @property
    def thing(self) -> str:
        """What is spoken of, in lower case: attributes and noun."""
        return " ".join((*self.attributes, *self.noun)).lower()


def _relates(words: list[str], i: int, singular: bool) -> bool:
    """Whether the noun ends before word i: a preposition or mark, or what looks like a verb and is not followed by more of the noun."""
    word = words[i]
    if word.lower() in PREPOSITIONS or not word[0].isalnum():
        return True
    verb = word.endswith("ing") or (singular and VERB.search(word) is not None)
    return verb and (i + 1 == len(words) or _relates(words, i + 1, singular))


def parse(caption: str) -> tuple[tuple[str, ...], list[Phrase]]:
    """The words before the first phrase, and the phrases. A caption without a determiner has none."""
    words = WORD.findall(caption)
    starts: list[int] = []
    for i, (word, following) in enumerate(pairwise(words)):
        begins = word.lower() in DETERMINERS and following.lower() not in PARTS and following[0].isalnum()
        if begins and (not starts or i > starts[-1] + 1):
            starts.append(i)
    stops = [*starts[1:], len(words)]
    phrases = [_phrase(words[start:stop], stop == len(words)) for start, stop in zip(starts, stops[: len(starts)], strict=True)]
    return tuple(words[: starts[0]] if starts else words), phrases


def _phrase(words: list[str], last: bool) -> Phrase:
    """One phrase out of its words: attributes in front, then the noun up to the first word that relates."""
    first = 1
    while first < len(words) - 1 and words[first].lower() in ATTRIBUTES:
        first += 1
    end = first + 1
    singular = words[0].lower() in ("a", "an", "one")
    while end < len(words) and not _relates(words, end, singular):
        end += 1
    if not last and end == len(words) and end - first > 1:
        end -= 1  # the word before the next determiner is a verb: "an astronaut rides a horse"
    return Phrase(words[0], tuple(words[1:first]), tuple(words[first:end]), tuple(words[end:]))


def say(before: Sequence[str], phrases: Sequence[Phrase]) -> str:
    """The caption of a graph, with ``a`` or ``an`` as the next word asks for."""
    words = list(before)
    for phrase in phrases:
        words += [phrase.determiner, *phrase.attributes, *phrase.noun, *phrase.after]
    for i, (word, following) in enumerate(pairwise(tuple(words))):
        if word.lower() in ("a", "an"):
            words[i] = word[0] + ("n" if following[0].lower() in "aeiou" else "")
    return re.sub(r" (?=[.,;:!?])", "", " ".join(words))


def triples(phrases: Sequence[Phrase]) -> Iterator[tuple[str, str, str]]:
    """``(thing, relation, thing)`` of neighbouring phrases; what stands after a link ("and", a comma) begins anew."""
    for one, two in pairwise(phrases):
        words = [word.lower() for word in one.after]
        if words and not LINKS & set(words):
            yield one.thing, " ".join(words), two.thing


def stated(phrases: Sequence[Phrase]) -> tuple[frozenset[str], frozenset[tuple[str, ...]]]:
    """The things and the triples of a graph, whatever their order; a mutual relation has no direction."""
    facts = {(relation, *sorted((a, b))) if relation in MUTUAL else (a, relation, b) for a, relation, b in triples(phrases)}
    return frozenset(phrase.thing for phrase in phrases), frozenset(facts)


def exchanges(caption: str) -> list[str]:
    """Every caption that exchanges two things, or their attributes, and then states something else; ``[]`` where there is none.

    An exchange changes every mention of the two things, so that the caption stays sound in itself.
    """
    before, phrases = parse(caption)
    things = list({phrase.thing: phrase for phrase in phrases}.values())
    made = []
    for one, two in combinations(things, 2):
        attributes = {one.thing: (two.attributes, one.noun), two.thing: (one.attributes, two.noun)}
        places = {one.thing: (two.attributes, two.noun), two.thing: (one.attributes, one.noun)}
        for change in (attributes, places):
            swap = [replace(phrase, **_named(change, phrase)) for phrase in phrases]
            if stated(swap) != stated(phrases):
                made.append(say(before, swap))
    return list(dict.fromkeys(made))


def _named(change: dict[str, tuple[tuple[str, ...], tuple[str, ...]]], phrase: Phrase) -> dict[str, tuple[str, ...]]:
    attributes, noun = change.get(phrase.thing, (phrase.attributes, phrase.noun))
    return {"attributes": attributes, "noun": noun}


def replacements(caption: str, draw: random.Random) -> list[str]:
    """For each word of :data:`CLASSES` in the caption, the caption with another word of its class in that place."""
    words = WORD.findall(caption)
    made = []
    for i, word in enumerate(words):
        for row in CLASSES.values():
            if word.lower() in row:
                other = draw.choice([choice for choice in row if choice != word.lower()])
                made.append(say([*words[:i], other.capitalize() if word[0].isupper() else other, *words[i + 1 :]], ()))
    return made
