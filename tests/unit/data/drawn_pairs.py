"""Two hundred drawn pairs, written in every layout that the package reads."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

PAIRS = 200
CONTEXT = 12


@dataclass(frozen=True)
class Pair:
    name: str
    png: bytes
    captions: tuple[str, ...]


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise_image(seed: int, width: int = 20, height: int = 16, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(seed)
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = rng.integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(-1) if bands == 1 else pixels, mode if mode != "CMYK" else None).convert(mode)


def make_pairs() -> list[Pair]:
    pairs = []
    for i in range(PAIRS):
        words = (f"picture number {i}", f"la bildo {i}") if i % 3 == 0 else (f"thing {i % 40} of many",)
        pairs.append(Pair(f"p{i:04d}", encode(noise_image(i)), words))
    return pairs


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def write_folder(root: Path, pairs: list[Pair]) -> Path:
    root.mkdir()
    for pair in pairs:
        (root / f"{pair.name}.png").write_bytes(pair.png)
        (root / f"{pair.name}.txt").write_text("\n".join(pair.captions), encoding="utf-8")
    return root


def write_images(root: Path, pairs: list[Pair]) -> None:
    root.mkdir()
    for pair in pairs:
        (root / f"{pair.name}.png").write_bytes(pair.png)


def write_csv(root: Path, pairs: list[Pair], delimiter: str = ",", suffix: str = "csv") -> Path:
    write_images(root, pairs)
    with (root / f"table.{suffix}").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["filepath", "title"])
        writer.writerows([f"{pair.name}.png", caption] for pair in pairs for caption in pair.captions)
    return root / f"table.{suffix}"


def write_jsonl(root: Path, pairs: list[Pair]) -> Path:
    write_images(root, pairs)
    lines = [json.dumps({"image": f"{pair.name}.png", "captions": pair.captions}) for pair in pairs]
    (root / "table.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return root / "table.jsonl"


def write_parquet(root: Path, pairs: list[Pair], groups: int = 30) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    root.mkdir()
    rows = [{"id": p.name, "image": {"bytes": p.png, "path": f"{p.name}.png"}, "captions": list(p.captions)} for p in pairs]
    pq.write_table(pa.Table.from_pylist(rows), root / "table.parquet", row_group_size=groups)
    return root / "table.parquet"


def write_tars(root: Path, pairs: list[Pair], shards: int = 4, words: str = "txt") -> Path:
    root.mkdir()
    for shard in range(shards):
        with tarfile.open(root / f"{shard:05d}.tar", "w") as tar:
            for pair in pairs[shard::shards]:
                add(tar, f"{pair.name}.png", pair.png)
                if words == "txt":
                    add(tar, f"{pair.name}.txt", "\n".join(pair.captions).encode())
                else:
                    add(tar, f"{pair.name}.json", json.dumps({words: pair.captions}).encode())
    return root


def tokenize(captions: list[str]) -> torch.Tensor:
    """A toy tokenizer: one id a word (never 0), padded with 0."""
    text = torch.zeros(len(captions), CONTEXT, dtype=torch.int64)
    for row, caption in enumerate(captions):
        for column, word in enumerate(caption.split()[:CONTEXT]):
            text[row, column] = 1 + sum(word.encode()) % 997
    return text
