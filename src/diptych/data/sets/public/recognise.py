"""Which public set a folder holds, by its name and by what lies in it; and which sets lie under a folder."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from diptych.core.errors import UsageError
from diptych.core.types import Sample
from diptych.data.sets.public.card import PublicCard
from diptych.data.sets.public.cards import by_folder
from diptych.data.sources.base import SPLIT_NAMES, Dataset

logger = logging.getLogger("diptych")
COLLECTIONS = ("wds", "vtab", "wilds", "fairness", "retrieval", "misc")


def card_of(path: Path) -> tuple[PublicCard, bool] | None:
    """The card that a folder's name means, and whether the name says ``wds``, so that nothing else can be meant; None where none does."""
    place = path.resolve()
    if place.name.lower() in SPLIT_NAMES and place.parent != place:
        place = place.parent
    name = place.name.lower()
    marked = name.startswith(("wds_", "wds-")) or any(part.name.lower() == "wds" for part in list(place.parents)[:2])
    bare = re.sub(r"_test$", "", re.sub(r"^wds[_-]", "", name))
    bare = re.sub(rf"^({'|'.join(COLLECTIONS)})[-_]", "", bare).replace("-", "_")
    card = by_folder().get(bare)
    return None if card is None else (card, marked)


def recognise(path: Path, data: Dataset) -> PublicCard | None:
    """The card of an opened folder. Under a name without ``wds`` it must also be tars with as many classes as the set has.

    Raises:
        UsageError: the folder is one of a set that nothing here can ask, or its class names are nowhere.
    """
    found = card_of(path)
    if found is None or "tars" not in data.kind:
        return None
    card, marked = found
    count = len(data.classes or ())
    if count not in (0, card.classes) or (not marked and count != card.classes):
        if marked:
            logger.warning(
                "%s is named as the set %s, but has %d classes, not %d: read as any other data", path, card.name, count, card.classes
            )
        return None
    if not card.task:
        raise UsageError(f"set {card.title}", "its question has no protocol here", "Leave it out")
    if card.task == "zero_shot" and not (data.classes or card.class_names):
        why = f"the names of its {card.classes:,} classes are neither in the folder nor shipped"
        raise UsageError(f"{card.title} in {path}", why, "Put classnames.txt, one name a line, into the folder")
    return card


def under(root: Path) -> list[Path]:
    """The folders of known sets below ``root``, sorted; () where ``root`` is such a folder itself or holds none.

    They lie in ``root`` or in its ``vtab``, ``wilds`` and the like, and hold tars.
    """
    if not root.is_dir() or _tars(root):
        return []
    known = [folder for folder in _candidates(root) if card_of(folder) is not None]
    if known and (others := [folder.name for folder in _candidates(root) if folder not in known]):
        logger.warning("%s: no card for %s; give their paths to evaluate them too", root, ", ".join(others))
    return known


def _candidates(root: Path) -> Iterator[Path]:
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        if folder.name.lower() in COLLECTIONS:
            yield from _candidates(folder)
        elif _tars(folder):
            yield folder


def _tars(folder: Path) -> bool:
    """Tars lie in the folder or in its splits."""
    places = [folder, *(entry for entry in folder.iterdir() if entry.is_dir() and entry.name.lower() in SPLIT_NAMES)]
    return any(next(place.glob("*.tar"), None) is not None for place in places)


class Photos(Sequence[Sample]):
    """The samples of a public set: each its own unit, not one of its class; ``meta["group"]`` is the group that ``KEY.npy`` numbers."""

    def __init__(self, source: Sequence[Sample], card: PublicCard) -> None:
        self.source, self.card = source, card

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        sample = self.source[index]
        group = {} if self.card.group is None else {"group": self._group(sample, self.card.group)}
        return replace(sample, concept=None, meta={**sample.meta, **group})

    def _group(self, sample: Sample, at: int) -> str:
        numbers, names = sample.meta.get("npy", ()), self.card.groups
        if at >= len(numbers):
            why = "it has no .npy with the number of its group"
            raise UsageError(f"{self.card.title}, {sample.id}", why, "Export the set with its metadata")
        number = int(numbers[at])
        if not names:
            return f"group {number}"
        return names[number] if 0 <= number < len(names) else ""
