"""Builds the pictogram corpus from the artists' npm packages. The same packages give the same bytes.

``python -m diptych.data.pictograms.build --packages FOLDER [--out FOLDER] [--share-alike]``
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.core.errors import DiptychError
from diptych.data.pictograms.making import match, raster, shards
from diptych.data.pictograms.making.captions import all_captions
from diptych.data.pictograms.making.concepts import Draft, bare, drafts, rank, unseen
from diptych.data.pictograms.making.packages import Package, tarball
from diptych.data.pictograms.making.styles import STYLES, TEXT, Style

ALLOWED = frozenset({"Apache-2.0", "MIT", "CC-BY-4.0"})
SHORTCODES = ("github", "emojibase", "iamcal", "joypixels", "emojibase-legacy")
PER_SHARD = 1200
VALIDATION = 0.05  # share of the training (family, concept) cells that are held for choosing checkpoints
SPLITS = ("train", "validation", "style", "unseen", "concept")


@dataclass(frozen=True, slots=True)
class Drawing:
    """One picture still to be made: where it comes from and where it goes."""

    style: Style
    concept: Draft
    source: str

    @property
    def key(self) -> str:
        return f"{self.style.id}_{self.concept.id}"


def sources(folder: Path, styles: Sequence[Style]) -> dict[str, Package]:
    """Every package by style id (and text packages by their name), each checked to declare the licence it is listed with."""
    found = {style.id: Package(tarball(folder, style.package, style.version)) for style in styles}
    for style in styles:
        if (declared := found[style.id].licence()) != style.licence or not (declared in ALLOWED or style.share_alike):
            raise DiptychError(f"style {style.id}", f"its package declares {declared!r}, not {style.licence!r}", "Do not ship it")
    return found | {name: Package(tarball(folder, name, version)) for name, version in TEXT}


def drawings(packages: Mapping[str, Package], styles: Sequence[Style], concepts: Sequence[Draft]) -> list[Drawing]:
    """Every (style, concept) of which a drawing exists, in the order of styles and concepts."""
    known = match.known_names([packages[s.id] for s in styles if s.names == "label"])
    shortcodes: dict[str, list[str]] = {}
    for table in SHORTCODES:
        for code, words in packages["emojibase-data"].json(f"en/shortcodes/{table}.json").items():
            shortcodes.setdefault(code, []).extend([words] if isinstance(words, str) else words)
    found = []
    for style in styles:
        package = packages[style.id]
        if style.names == "file":
            table = match.by_file(package)
        elif style.names == "firefox":
            table = match.by_firefox(package, concepts, shortcodes)
        else:
            table = match.by_label(package, concepts, known, old=style.old)
        found += [Drawing(style, concept, table[bare(concept.id)]) for concept in concepts if bare(concept.id) in table]
    return found


def _render(job: tuple[str, str | bytes]) -> bytes:
    """Worker: an SVG or the bytes of a picture to WebP."""
    key, source = job
    try:
        return raster.encode(raster.draw(source) if isinstance(source, str) else raster.shrink(source))
    except ValueError as error:
        raise DiptychError(f"drawing {key}", str(error), "Mend or leave out its source") from error


def render(packages: Mapping[str, Package], items: Sequence[Drawing], workers: int) -> Iterator[bytes]:
    """WebP bytes of every drawing, in order."""
    icons = {style: packages[style].json("icons.json") for style in {item.style.id for item in items if item.style.names != "file"}}
    jobs = [
        (
            item.key,
            packages[item.style.id].files[item.source] if item.style.names == "file" else raster.svg(icons[item.style.id], item.source),
        )
        for item in items
    ]
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_render, jobs, chunksize=64)


def splits(items: Sequence[Drawing], novel: frozenset[str]) -> dict[str, str]:
    """Key → split, by family and concept: two drawings of one family and concept are always in the same split.

    ``train``; ``validation`` (cells of trained families, held for choosing checkpoints); ``style`` (trained concepts in held
    styles); ``unseen`` (unseen concepts in held styles); ``concept`` (unseen concepts in trained styles).
    Styles that the user adds move no other drawing.
    """
    shipped = {(i.style.family, i.concept.id) for i in items if not (i.style.held or i.style.share_alike or i.concept.id in novel)}
    ranks = sorted(rank("validation", *cell) for cell in shipped)
    last = ranks[round(VALIDATION * len(ranks)) - 1] if round(VALIDATION * len(ranks)) else ""
    names = {}
    for item in items:
        if item.concept.id in novel:
            names[item.key] = "unseen" if item.style.held else "concept"
        elif item.style.held:
            names[item.key] = "style"
        else:
            names[item.key] = "validation" if rank("validation", item.style.family, item.concept.id) <= last else "train"
    return names


def concept_table(concepts: Sequence[Draft], words: Mapping[str, list[str]], novel: frozenset[str]) -> bytes:
    """``concepts.json.gz``: columns of equal length, one entry a concept, and names and keywords by language."""
    table: dict[str, Any] = {
        "id": [c.id for c in concepts],
        "group": [c.group for c in concepts],
        "subgroup": [c.subgroup for c in concepts],
        "unseen": [c.id in novel for c in concepts],
        "captions": [words[c.id] for c in concepts],
        "names": {locale: [c.names[locale] for c in concepts] for locale in concepts[0].names},
        "keywords": {locale: [list(c.keywords[locale]) for c in concepts] for locale in concepts[0].keywords},
    }
    return gzip.compress(shards.compact(table), compresslevel=9, mtime=0)


def write(out: Path, items: Sequence[Drawing], images: Sequence[bytes], concepts: Sequence[Draft], novel: frozenset[str]) -> None:
    """Write shards, the concept table and ``corpus.json`` (version, styles, counts) into ``out``."""
    where = splits(items, novel)
    words = all_captions(concepts)
    counts: dict[str, dict[str, int]] = {}
    for name in SPLITS:
        rows: list[shards.Row] = [
            (
                item.key,
                image,
                {
                    "captions": words[item.concept.id],
                    "concept": item.concept.id,
                    "style": item.style.id,
                    "family": item.style.family,
                    "group": item.concept.group,
                    "subgroup": item.concept.subgroup,
                },
            )
            for item, image in zip(items, images, strict=True)
            if where[item.key] == name
        ]
        rows.sort(key=lambda row: rank("order", row[0]))
        for old in (out / "shards" / name).glob("*.tar"):
            old.unlink()
        for index, part in enumerate(shards.split(rows, PER_SHARD) if rows else []):
            shards.write(out / "shards" / name / f"{index:04d}.tar", part)
        for _, _, fields in rows:
            by_style = counts.setdefault(str(fields["style"]), dict.fromkeys(SPLITS, 0))
            by_style[name] += 1
    (out / "concepts.json.gz").write_bytes(concept_table(concepts, words, novel))
    styles = {s.id: s for s in dict.fromkeys(item.style for item in items)}
    rows_out = [
        {
            "id": s.id,
            "family": s.family,
            "package": s.package,
            "version": s.version,
            "licence": s.artwork or s.licence,
            "held": s.held,
            **counts[s.id],
        }
        for s in styles.values()
    ]
    text = [{"package": name, "version": version} for name, version in TEXT]
    summary = {"version": "1", "concepts": len(concepts), "unseen": len(novel), "images": len(items), "styles": rows_out, "text": text}
    (out / "corpus.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def build(packages: Path, out: Path, *, share_alike: bool = False, workers: int = 2) -> None:
    """Build the corpus into ``out``.

    Args:
        packages: folder with the ``.tgz`` files; what is missing is fetched there with ``npm pack``.
        out: folder that receives ``shards/``, ``concepts.json.gz`` and ``corpus.json``.
        share_alike: also add the styles under share-alike licences (for one's own use; they do not ship).
        workers: processes that draw.
    """
    out.mkdir(parents=True, exist_ok=True)
    styles = [style for style in STYLES if share_alike or not style.share_alike]
    read = sources(packages, styles)
    concepts = drafts(read["emojibase-data"], read["emojilib"])
    novel = unseen(concepts)
    items = drawings(read, styles, concepts)
    write(out, items, list(render(read, items, workers)), concepts, novel)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of the builder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, required=True, help="folder with the packages' .tgz files")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, help="where the corpus is written")
    parser.add_argument("--share-alike", action="store_true", help="add openmoji and emojione-v1 (CC BY-SA: not for shipping)")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(arguments)
    given.packages.mkdir(parents=True, exist_ok=True)
    build(given.packages, given.out, share_alike=given.share_alike, workers=given.workers)


if __name__ == "__main__":
    main()
