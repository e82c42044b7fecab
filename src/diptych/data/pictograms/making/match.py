"""Which drawing shows which concept."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from diptych.data.pictograms.making.concepts import Draft, bare
from diptych.data.pictograms.making.firefox import NAMES, WRONG
from diptych.data.pictograms.making.packages import Package

# names of older editions that no package's table of aliases holds
OLD = {
    "blond-haired-person": "1f471",
    "bride-with-veil": "1f470",
    "cat-face-with-tears-of-joy": "1f639",
    "cat-face-with-wry-smile": "1f63c",
    "crying-cat-face": "1f63f",
    "direct-hit": "1f3af",
    "dizzy-face": "1f635",
    "exclamation-mark": "2757",
    "female-sign": "2640",
    "grinning-cat-face": "1f63a",
    "grinning-cat-face-with-smiling-eyes": "1f638",
    "heavy-heart-exclamation": "2763",
    "keycap-asterisk": "002a-20e3",
    "kissing-cat-face": "1f63d",
    "male-sign": "2642",
    "pouting-cat-face": "1f63e",
    "question-mark": "2753",
    "robot-face": "1f916",
    "smiling-cat-face-with-heart-eyes": "1f63b",
    "up-exclamation-button": "1f199",
    "up-text-button": "1f199",
    "weary-cat-face": "1f640",
    "women-with-bunny-ears": "1f46f",
}

# words that meant another thing in old editions: the game, not the insect; the triangle, not the word; a revolver, not a toy
OLD_MEANING = {"cricket": "1f3cf", "up-button": "1f53c", "pistol": "", "water-pistol": "", "gun": ""}


def slug(label: str) -> str:
    """A Unicode label as icon sets spell it: ``"person: bald"`` → ``"person-bald"``."""
    plain = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain.replace("'", "").replace("’", "")).strip("-")


def squeezed(label: str) -> str:
    """Letters and digits only: how fxemoji names its files."""
    return slug(label).replace("-", "")


def by_file(package: Package) -> dict[str, str]:
    """Bare code points → file, for packages whose files are called by code points."""
    names = sorted(name for name in package.files if name.endswith(".webp"))
    return {bare(name.rsplit("/", 1)[1].removesuffix(".webp")): name for name in names}


def known_names(packages: Sequence[Package]) -> dict[str, str]:
    """Icon name → bare code points, from the packages that publish this table; the first to name wins."""
    table: dict[str, str] = {}
    for package in packages:
        if "chars.json" in package.files:
            for code, name in package.json("chars.json").items():
                table.setdefault(name, bare(code))
    for package in packages:
        for alias, icon in package.json("icons.json").get("aliases", {}).items():
            if icon["parent"] in table and set(icon) == {"parent"}:
                table.setdefault(alias, table[icon["parent"]])
    return {**table, **OLD}


def by_label(package: Package, concepts: Iterable[Draft], names: Mapping[str, str], *, old: bool = False) -> dict[str, str]:
    """Bare code points → icon name, for icon sets whose glyphs carry Unicode labels of some year.

    A glyph's own table of code points decides where there is one; then today's label; then what other sets call a name.
    Icons that a set has hidden (withdrawn) are used only where nothing else shows the concept. ``old``: see :data:`OLD_MEANING`.
    """
    icons: dict[str, Any] = package.json("icons.json")
    own = {name: bare(code) for code, name in package.json("chars.json").items()} if "chars.json" in package.files else {}
    labels = {slug(concept.names["en"]): bare(concept.id) for concept in concepts if slug(concept.names["en"]) != "keycap"}
    meant = OLD_MEANING if old else {}
    everything = {**icons["icons"], **icons.get("aliases", {})}
    found: dict[str, tuple[int, str]] = {}
    for name, icon in everything.items():
        for trust, table in enumerate((own, meant, labels, names)):
            if name in table:
                cost = trust + 10 * bool(icon.get("hidden"))
                code = table[name]
                if code not in found or cost < found[code][0]:
                    found[code] = (cost, name)
                break
    return {code: name for code, (_, name) in found.items()}


def by_firefox(package: Package, concepts: Iterable[Draft], shortcodes: Mapping[str, Any]) -> dict[str, str]:
    """Bare code points → icon name for fxemoji: its names are squeezed Unicode names, labels or short codes, or its own.

    ``firefox.NAMES`` holds what was matched by eye and ``firefox.WRONG`` the names that mean another thing there.
    """
    tables: list[dict[str, str]] = [{}, {}, {}]
    for concept in concepts:
        tables[0].setdefault(squeezed(concept.old_name), bare(concept.id))
        tables[1].setdefault(squeezed(concept.names["en"]), bare(concept.id))
        codes = shortcodes.get(concept.id.upper(), ())
        for code in [codes] if isinstance(codes, str) else codes:
            tables[2].setdefault(squeezed(code), bare(concept.id))
    icons = sorted(package.json("icons.json")["icons"])
    found = {NAMES[name]: name for name in icons if name in NAMES}
    for table in tables:
        for name in icons:
            if name not in NAMES and name not in WRONG and name in table:
                found.setdefault(table[name], name)
    return found
