"""The embedded corpus: drawings of everyday concepts in several artists' styles, with names in many languages.

Reading needs nothing but the standard library; ``diptych.core.types`` (and with it torch) is imported by :func:`samples` only.
What it holds, whose work it is and what is wrong with it: ``DATASHEET.md`` and ``NOTICE`` beside this file.
"""

from __future__ import annotations

import functools
import gzip
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.core.errors import DiptychError, UsageError, nearest

if TYPE_CHECKING:
    from diptych.core.types import Sample

SPLITS = ("train", "validation", "style", "unseen", "concept")
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Concept:
    """One thing that is drawn.

    Args:
        id: its code points in lower-case hexadecimal, joined by ``-`` (``"1f34e"``).
        name: its English name (``"red apple"``).
        group, subgroup: Unicode's (10 groups less flags and components; ``"food-drink"``, ``"food-fruit"``).
        unseen: never trained on, in any style.
        captions: English captions, the plainest first.
        names: language code → name, in 28 languages.
        keywords: language code → keywords, without the name.
    """

    id: str
    name: str
    group: str
    subgroup: str
    unseen: bool
    captions: tuple[str, ...]
    names: Mapping[str, str]
    keywords: Mapping[str, tuple[str, ...]]


def path(split: str | None = None) -> Path:
    """The corpus folder, or the folder with the tar shards of one split (``path("train")``), which any reader of tars reads."""
    return HERE if split is None else HERE / "shards" / _known(split)


def _known(split: str) -> str:
    if split not in SPLITS:
        raise UsageError(f"split {split!r} of pictograms", "no such split", nearest(split, SPLITS))
    return split


@functools.cache
def summary() -> Mapping[str, Any]:
    """``corpus.json``: version, counts, and each style with its package, licence, family and images by split."""
    return json.loads((HERE / "corpus.json").read_text(encoding="utf-8"))


@functools.cache
def concepts() -> tuple[Concept, ...]:
    """Every concept in Unicode's order; a sample's ``label`` is the index into this tuple."""
    table = json.loads(gzip.decompress((HERE / "concepts.json.gz").read_bytes()))
    names, keywords = table["names"], table["keywords"]
    return tuple(
        Concept(
            id=identity,
            name=names["en"][i],
            group=table["group"][i],
            subgroup=table["subgroup"][i],
            unseen=table["unseen"][i],
            captions=tuple(table["captions"][i]),
            names={language: column[i] for language, column in names.items()},
            keywords={language: tuple(column[i]) for language, column in keywords.items()},
        )
        for i, identity in enumerate(table["id"])
    )


def samples(split: str = "train", styles: Iterable[str] | None = None) -> list[Sample]:
    """Every sample of a split, sorted by id.

    Args:
        split: ``train``; ``validation`` (cells of family and concept kept from training, to choose checkpoints by);
            ``style`` (trained concepts, unseen styles); ``unseen`` (unseen concepts, unseen styles); ``concept`` (unseen
            concepts, trained styles).
        styles: only these (``["noto"]``); None means all.

    Returns:
        Samples with RGBA WebP bytes (64×64), English captions, ``label`` (index into :func:`concepts`), ``concept`` (id) and
        ``meta`` with style, family, group, subgroup and split.

    Raises:
        UsageError: unknown split or style.
        DiptychError: a shard is damaged.
    """
    wanted = None if styles is None else _styles(styles)
    label = {concept.id: i for i, concept in enumerate(concepts())}
    found = [sample for shard in sorted(path(split).glob("*.tar")) for sample in _read(shard, split, label, wanted)]
    return sorted(found, key=lambda sample: sample.id)


def _styles(styles: Iterable[str]) -> frozenset[str]:
    known = {style["id"] for style in summary()["styles"]}
    for style in (chosen := frozenset(styles)):
        if style not in known:
            raise UsageError(f"style {style!r} of pictograms", "no such style", nearest(style, known))
    return chosen


def _read(shard: Path, split: str, label: Mapping[str, int], styles: frozenset[str] | None) -> list[Sample]:
    """The samples of one shard; each picture is followed by its JSON."""
    from diptych.core.types import Sample

    found, image, stem = [], b"", ""
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                data = tar.extractfile(member).read()  # type: ignore[union-attr]
                key, suffix = member.name.rsplit(".", 1)
                if suffix == "webp":
                    image, stem = data, key
                    continue
                if key != stem:
                    raise tarfile.ReadError(f"{member.name} has no picture before it")
                fields = json.loads(data)
                if styles is None or fields["style"] in styles:
                    words, concept = tuple(fields.pop("captions")), fields.pop("concept")
                    found.append(Sample(key, image, words, label[concept], concept, {**fields, "split": split}))
    except (tarfile.TarError, ValueError, KeyError, OSError) as error:
        raise DiptychError(f"shard {shard}", f"it is damaged ({error})", "Install the package again") from error
    return found
