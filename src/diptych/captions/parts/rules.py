"""Rules that say an English caption in other words. Each maps (words, draw) to a text, or to None where it does not apply.

A rule keeps what the caption states; it never adds a thing that the sample's own captions and metadata do not name.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping

from diptych.core.types import Words

ARTICLE = re.compile(r"^(?:an?|the|one|some)\s+", re.IGNORECASE)
COUNT = re.compile(r"^(?:two|three|four|five|six|seven|eight|nine|ten|many|several|\d+)\b", re.IGNORECASE)
SHORT = 8  # words up to which a caption is taken for a phrase rather than a sentence

FRAMES = (  # {a}: the phrase with its article, {}: without
    "a picture of {a}",
    "an image of {a}",
    "a photo of {a}",
    "a sketch of {a}",
    "an illustration of {a}",
    "an icon of {a}",
    "a cartoon of {a}",
    "a close-up of {a}",
    "{}, as a picture",
    "this is {a}",
    "here is {a}",
    "this shows {a}",
    "we see {a}",
    "a depiction of {a}",
    "{a} in a picture",
    "it looks like {a}",
    "what you see is {a}",
    "the thing shown is {a}",
)
SENTENCES = ("In this picture: {}", "The image shows this: {}", "As can be seen, {}", "A scene: {}", "{} That is the picture.")
TABLE = (  # words that may stand for one another
    ("big", "large"),
    ("small", "little"),
    ("picture", "image"),
    ("photo", "photograph"),
    ("drawing", "sketch"),
    ("beside", "next to"),
    ("near", "close to"),
    ("above", "over"),
    ("below", "under", "beneath"),
    ("person", "human"),
    ("child", "kid"),
    ("car", "automobile"),
    ("bicycle", "bike"),
    ("happy", "cheerful"),
    ("sad", "unhappy"),
    ("stone", "rock"),
    ("shop", "store"),
    ("gift", "present"),
    ("rabbit", "bunny"),
    ("couch", "sofa"),
    ("to the left of", "left of"),
    ("to the right of", "right of"),
)
OPPOSITE = {
    "to the left of": "to the right of",
    "to the right of": "to the left of",
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "over": "under",
    "under": "over",
    "in front of": "behind",
    "behind": "in front of",
    "beside": "beside",
    "next to": "next to",
}
RELATION = re.compile(r"^([^.,;]+?) (" + "|".join(OPPOSITE) + r") ([^,;.]+)(\.?)$")


def with_article(phrase: str) -> str:
    """The phrase with ``a`` or ``an``, where it has no article and is no list or plural; else as it is."""
    last = phrase.rsplit(" ", 1)[-1]
    if ARTICLE.match(phrase) or COUNT.match(phrase) or "," in phrase or ":" in phrase or (last.endswith("s") and not last.endswith("ss")):
        return phrase
    return f"{'an' if phrase[:1].lower() in 'aeiou' else 'a'} {phrase}"


def frame(words: Words, draw: random.Random) -> str:
    """The caption inside another frame of words."""
    caption = words.caption.strip()
    if len(caption.split()) > SHORT or caption.endswith("."):
        return draw.choice(SENTENCES).format(caption)
    bare = ARTICLE.sub("", caption)
    return draw.choice(FRAMES).format(bare, a=caption if bare != caption else with_article(bare))


def keyword(words: Words, draw: random.Random) -> str | None:
    """Another word for one that is there, or one of the sample's keywords added."""
    caption = words.caption
    swaps = [(old, new) for old, others in synonyms(words.meta) for new in others if re.search(rf"\b{re.escape(old)}\b", caption)]
    extra = [key for key in keywords(words) if key.lower() not in caption.lower()]
    if swaps and (not extra or draw.random() < 0.5):
        old, new = draw.choice(swaps)
        return re.sub(rf"\b{re.escape(old)}\b", lambda _: new, caption, count=1)
    if not extra:
        return None
    return draw.choice(("{}, {}", "{} ({})", "{1}: {0}")).format(caption.rstrip("."), draw.choice(extra))


def synonyms(meta: Mapping[str, object]) -> list[tuple[str, tuple[str, ...]]]:
    """``meta["synonyms"]`` (``{"lorry": ["truck"]}``), then the table of this file."""
    own = meta.get("synonyms")
    given = [(str(old), tuple(map(str, new))) for old, new in own.items() if isinstance(new, list | tuple)] if isinstance(own, dict) else []
    return given + [(word, tuple(other for other in row if other != word)) for row in TABLE for word in row]


def keywords(words: Words) -> list[str]:
    """``meta["keywords"]``, else what stands between the commas of the sample's other captions, in order and once each."""
    own = words.meta.get("keywords")
    if isinstance(own, list | tuple) and own:
        return list(dict.fromkeys(map(str, own)))
    lists = [caption for caption in words.captions if caption.count(",") > 1]
    return list(dict.fromkeys(part.strip() for caption in lists for part in caption.split(",") if part.strip()))


def reorder(words: Words, draw: random.Random) -> str | None:
    """A list in another order, "X and Y" as "Y and X", "X left of Y" as "Y right of X"."""
    caption = words.caption.strip()
    if match := RELATION.match(caption):
        first, relation, second, end = match.groups()
        return f"{second} {OPPOSITE[relation]} {first}{end}"
    parts = [part.strip() for part in caption.rstrip(".").split(",")]
    if len(parts) > 1 and "." not in caption.rstrip("."):
        draw.shuffle(parts)
        return ", ".join(parts)
    sides = caption.split(" and ")
    return f"{sides[1]} and {sides[0]}" if len(sides) == 2 and not caption.endswith(".") else None


def article(words: Words, draw: random.Random) -> str | None:
    """Another article (or none) before the first noun phrase."""
    caption = words.caption.strip()
    if "," in caption or ":" in caption or COUNT.match(caption):
        return None
    bare = ARTICLE.sub("", caption)
    forms = {with_article(bare), bare, f"the {bare}", f"one {bare}" if with_article(bare) != bare else bare} - {caption}
    return draw.choice(sorted(forms))


RULES: dict[str, Callable[[Words, random.Random], str | None]] = {
    "frame": frame,
    "keyword": keyword,
    "reorder": reorder,
    "article": article,
}
