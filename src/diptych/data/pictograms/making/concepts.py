"""Which concepts there are, what they are called in every language, and which are never trained on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from diptych.data.pictograms.making.packages import Package

UNSEEN = 145
DROPPED_GROUPS = (2, 9)  # components (skin tones, hair) and flags
GENDERED = re.compile(r"(^|-)(1f468|1f469|2640|2642)-|-(1f468|1f469|2640|2642)(-|$)")  # joined with a man, a woman or a gender sign
SIGNS = frozenset({"2640-fe0f", "2642-fe0f"})  # the signs themselves are symbols; so are man, woman, boy, girl words of their own
# pregnant woman and man, women, men, and woman and man holding hands: each has a neutral twin with the same words
TWINS = frozenset({"1f930", "1fac3", "1f46b", "1f46c", "1f46d"})


@dataclass(frozen=True, slots=True)
class Draft:
    """A concept while the corpus is being built: ``id`` is its code points in lower-case hexadecimal, joined by ``-``."""

    id: str
    group: str
    subgroup: str
    names: Mapping[str, str]
    keywords: Mapping[str, tuple[str, ...]]
    old_name: str


def bare(hexcode: str) -> str:
    """Code points without the variation selector, the form in which packages agree: ``"2764-FE0F"`` → ``"2764"``."""
    return hexcode.lower().replace("-fe0f", "")


def locales(base: Package) -> list[str]:
    """The languages of ``emojibase-data``, sorted."""
    return sorted(name.split("/")[0] for name in base.files if re.fullmatch(r"[a-z-]+/data\.json", name))


def wanted(row: Mapping[str, Any]) -> bool:
    """Keep a row of ``emojibase-data``? Drops flags, components and gender variants (skin tones are nested, never rows)."""
    code = row["hexcode"].lower()
    if row.get("group") is None or row["group"] in DROPPED_GROUPS:
        return False
    return code in SIGNS or not (GENDERED.search(code) or code in TWINS)


def _tidy(words: Iterable[str], name: str) -> tuple[str, ...]:
    """Distinct keywords in order, without the name itself and without emoticons."""
    kept: dict[str, str] = {}
    for word in words:
        word = word.replace("_", " ").strip()
        if any(letter.isalnum() for letter in word) and not re.fullmatch(r"[:;=8xX].{1,2}", word):
            kept.setdefault(word.casefold(), word)
    kept.pop(name.casefold(), None)
    return tuple(kept.values())


def drafts(base: Package, lib: Package) -> list[Draft]:
    """Every wanted concept in Unicode's order, with names and keywords in every language; English also has emojilib's keywords."""
    groups = base.json("meta/groups.json")
    old = base.json("meta/unicode-names.json")
    rows = {locale: {row["hexcode"]: row for row in base.json(f"{locale}/data.json")} for locale in locales(base)}
    more = {bare("-".join(f"{ord(c):x}" for c in emoji)): words for emoji, words in lib.json("dist/emoji-en-US.json").items()}
    found = []
    for code, row in sorted(rows["en"].items(), key=lambda item: item[1].get("order", 0)):
        if not wanted(row):
            continue
        keywords = {}
        for locale, table in rows.items():
            words = list(table[code].get("tags", ()))
            if locale == "en":
                words += more.get(bare(code), ())
            keywords[locale] = _tidy(words, table[code]["label"])
        found.append(
            Draft(
                id=code.lower(),
                group=groups["groups"][str(row["group"])],
                subgroup=groups["subgroups"][str(row["subgroup"])],
                names={locale: table[code]["label"] for locale, table in rows.items()},
                keywords=keywords,
                old_name=old.get(code, old.get(code.replace("-FE0F", ""), "")).lower(),
            )
        )
    return found


def rank(*names: str) -> str:
    """A fixed order that no source's order decides: the digest of the names."""
    return hashlib.sha256("/".join(("pictograms-1", *names)).encode()).hexdigest()


def unseen(concepts: Iterable[Draft], count: int = UNSEEN) -> frozenset[str]:
    """``count`` concept ids, every group in proportion (largest remainders), chosen by :func:`rank`."""
    members: dict[str, list[str]] = {}
    for concept in concepts:
        members.setdefault(concept.group, []).append(concept.id)
    total = sum(map(len, members.values()))
    exact = {group: count * len(ids) / total for group, ids in members.items()}
    quota = {group: int(value) for group, value in exact.items()}
    for group in sorted(exact, key=lambda g: (quota[g] - exact[g], g))[: count - sum(quota.values())]:
        quota[group] += 1
    return frozenset(i for group, ids in members.items() for i in sorted(ids, key=lambda x: rank("unseen", x))[: quota[group]])
