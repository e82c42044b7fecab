"""What is evaluated on, whatever it came from: an embedded set, a dataset of ``diptych.open``, or the name of either."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.core.errors import DiptychError, UsageError
from diptych.core.types import Sample
from diptych.data.sets.base import EvalSet
from diptych.data.sets.public.card import PublicCard
from diptych.data.sets.public.recognise import Photos, recognise, under
from diptych.data.sources.base import Dataset, class_caption


@dataclass(frozen=True, slots=True)
class Material:
    """Samples in random access, with what an evaluation must know about them.

    Args:
        name: the set's name or the path, as records will say it.
        version: of the set's classes, templates and samples.
        source: the samples; pictures may still be on the disk.
        fingerprint: changes when the samples do; for caches.
        classes: class names by label, or () where the set has none.
        templates: prompt templates with ``{}`` for the class name, or () where the set brings none.
        protocols: which protocols the set is meant for; () means each that its samples allow.
        metric: the set's main number, where its makers chose another than the protocol's first; its protocol puts it first.
        about: one line on what it measures, for the report.
        sealed: a test set, which nothing may be fitted on.
        companions: other sets of the same classes by role, as names or datasets; see :class:`~diptych.data.sets.base.EvalSet`.
    """

    name: str
    version: str
    source: Sequence[Sample]
    fingerprint: str
    classes: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    about: str = ""
    sealed: bool = False
    companions: Mapping[str, Any] = field(default_factory=dict)
    metric: str = ""

    def take(self, index: Tensor) -> Material:
        """Only the samples at ``index``, with all the classes."""
        chosen = index.tolist()
        source = [self.source[i] for i in chosen]
        return replace(self, source=source, fingerprint=hash_of([self.fingerprint, *map(str, chosen)]))


@dataclass(frozen=True, slots=True)
class Table:
    """The samples without their pictures. N samples.

    Args:
        ids: N sample ids.
        captions: N tuples of captions.
        label_N: int64; −1 where a sample has no label.
        group_N: int64; samples of one concept share a number, a sample without concept, or with its class as concept, has its own.
        part: N names of the part of the set each sample is reported under (``meta["group"]``), "" where it has none.
    """

    ids: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...]
    label_N: Tensor
    group_N: Tensor
    part: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: Tensor) -> Table:
        """Only the rows at ``index``."""
        chosen = index.tolist()
        ids, captions, part = (tuple(column[i] for i in chosen) for column in (self.ids, self.captions, self.part))
        return Table(ids, captions, self.label_N[index], self.group_N[index], part)  # type: ignore[arg-type]


def table(source: Sequence[Sample]) -> Table:
    """Read every sample's words. Raises :class:`DiptychError` when there are none."""
    ids, captions, labels, groups, parts = [], [], [], [], []
    known: dict[object, int] = {}
    for i, sample in enumerate(source):
        ids.append(sample.id)
        captions.append(sample.captions)
        labels.append(-1 if sample.label is None else sample.label)
        groups.append(known.setdefault(sample.concept if _says_more(sample) else i, len(known)))
        parts.append(str(sample.meta.get("group", "") or ""))
    if not ids:
        raise DiptychError(
            "evaluation data", "it has no samples", "Give a path or a set with pictures; `diptych inspect PATH` shows what is read"
        )
    return Table(tuple(ids), tuple(captions), torch.tensor(labels), torch.tensor(groups), tuple(parts))


def _says_more(sample: Sample) -> bool:
    """The sample's concept is known apart from its class; the name of a folder is its class and nothing more."""
    if sample.concept is None:
        return False
    return sample.label is None or sample.captions != (class_caption(sample.concept),)


def material(data: Any) -> Material:
    """A :class:`Material` of an ``EvalSet``, a ``Dataset``, or the name or path of one.

    A string is a path when something lies there, otherwise the name of a set. Of a path with splits the test split is taken, else the
    validation split, else what ``open`` takes.
    """
    if isinstance(data, Material):
        return data
    if isinstance(data, (str, Path)):
        return _named(str(data))
    if isinstance(data, EvalSet):
        return _of_set(data)
    if isinstance(data, Dataset):
        return _of_dataset(data)
    raise UsageError(
        f"evaluation data of type {type(data).__name__}",
        "it is no set, dataset, name or path",
        "Give a set's name, a path, or diptych.open(PATH)",
    )


def materials(data: Any) -> list[Material]:
    """:func:`material` of ``data``, or of each public set that lies under it, where it is a folder of such sets."""
    found = under(Path(data)) if isinstance(data, (str, Path)) else []
    return [material(path) for path in found] or [material(data)]


def hash_of(parts: Iterable[str]) -> str:
    """16 hexadecimal digits of strings, order included."""
    hasher = sha256()
    for part in parts:
        hasher.update(part.encode("utf-8", "surrogateescape") + b"\0")
    return hasher.hexdigest()[:16]


def _named(name: str) -> Material:
    if not Path(name).exists():
        from diptych.data.sets.find import find

        return _of_set(find(name))
    from diptych.data.open import open as open_data

    found = open_data(name)
    best = next((split for split in ("test", "validation") if split in found.splits), found.split)
    chosen = found if best == found.split else open_data(name, split=best)
    others = {role: open_data(name, split=role) for role in ("train", "validation") if role in found.splits and role != best}
    card = recognise(Path(name), chosen)
    if card is None:
        return replace(_of_dataset(chosen), companions=others)
    made = _of_card(card, chosen)
    return replace(made, sealed=best == "test", companions={role: _of_card(card, other) for role, other in others.items()})


def _of_card(card: PublicCard, found: Dataset) -> Material:
    """A public set on the disk: its folder's own class names and templates win over the card's."""
    part = (
        f" ({len(found):,} of its {card.size:,} test pictures)" if card.size and found.split == "test" and len(found) != card.size else ""
    )
    return replace(
        _of_dataset(found),
        name=card.name,
        version=f"{card.version}/{len(found)}",
        source=Photos(found, card),
        classes=tuple(found.classes or card.class_names),
        templates=tuple(found.templates or card.templates),
        protocols=(card.task,),
        about=f"{card.title}: {card.asks}{part}",
        metric=card.metric,
    )


def _line(sample: Sample) -> str:
    """A sample's id and the hash of its picture (for a file its size and time of change)."""
    if isinstance(sample.image, bytes):
        return f"{sample.id}|{sha256(sample.image).hexdigest()}"
    stat = sample.image.stat()
    return f"{sample.id}|{stat.st_size}|{stat.st_mtime_ns}"


def _of_set(found: EvalSet) -> Material:
    source = found.samples()
    fingerprint = hash_of(map(_line, source))
    return Material(
        found.name, found.version, source, fingerprint, found.classes, found.templates, found.tasks, found.about,
        found.sealed, found.companions,
    )  # fmt: skip


def _of_dataset(found: Dataset) -> Material:
    return Material(
        str(found.path), found.fingerprint(), found, found.fingerprint(), tuple(found.classes or ()), tuple(found.templates or ()),
        sealed=found.sealed,
    )  # fmt: skip
