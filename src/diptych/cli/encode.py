"""``diptych encode``: pictures and words as unit rows in a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.inputs import image_files
from diptych.cli.output import Output
from diptych.cli.verb import verb
from diptych.core.errors import DiptychError, UsageError, nearest

if TYPE_CHECKING:
    import numpy as np

NAME = "encode"
ENDINGS = (".jsonl", ".npy", ".safetensors")


@verb
def command(
    out: Output,
    model: Annotated[str, typer.Argument(help="Model: a name, a folder, hf:… or open_clip:…", show_default=False)],
    inputs: Annotated[list[str], typer.Argument(help="Image files, folders of images, or data.", show_default=False)] = [],  # noqa: B006
    text: Annotated[list[str], typer.Option("--text", help="A text to encode; repeat for more.")] = [],  # noqa: B006
    texts: Annotated[Path | None, typer.Option("--texts", help="A file with one text a line.")] = None,
    target: Annotated[Path | None, typer.Option("--out", help="File ending in .npy, .safetensors or .jsonl.")] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Rows encoded at a time.")] = 64,
) -> None:
    """Encode images and texts to unit rows, with the ids they belong to. Without --out the rows go to standard output."""
    if target is not None and target.suffix not in ENDINGS:
        raise UsageError(f"--out {target}", f"the ending {target.suffix!r} names no format", nearest(target.suffix, ENDINGS))
    words = read_texts(text, texts)
    if not inputs and not words:
        raise UsageError("inputs", "nothing to encode", "For example diptych encode mini photo.jpg --text 'a red apple' --out rows.npy")
    paths = image_files(inputs)

    from diptych import load

    encoder = load(model)
    ids = [("image", str(path)) for path in paths] + [("text", word) for word in words]
    blocks = [encoder.encode_image(paths, batch_size=batch)] if paths else []
    blocks += [encoder.encode_text(words, batch_size=batch)] if words else []

    import torch

    rows_ND = torch.cat(blocks).numpy()
    if target is None:
        rows = [as_row(kind, name, row) for (kind, name), row in zip(ids, rows_ND, strict=True)]
        out.result(rows, *(json.dumps(row, ensure_ascii=False) for row in rows))
        return
    write(target, ids, rows_ND)
    summary = {
        "out": str(target),
        "rows": len(ids),
        "dim": int(rows_ND.shape[1]),
        "images": len(paths),
        "texts": len(words),
        "model": model,
    }
    out.result(summary, f"{len(ids)} rows of {summary['dim']} values in {target}{beside(target)}")


def read_texts(given: list[str], file: Path | None) -> list[str]:
    """Texts of the call: those of ``--text``, then the lines of the file; empty lines are dropped."""
    if file is None:
        return list(given)
    if not file.is_file():
        raise DiptychError(f"texts file {file}", "no such file", "Give a text file with one text a line")
    return [*given, *(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())]


def as_row(kind: str, name: str, row: np.ndarray) -> dict[str, Any]:
    """One row in the form of the JSON lines."""
    return {"id": name, "kind": kind, "row": [round(float(value), 8) for value in row]}


def beside(target: Path) -> str:
    """The words that say where the ids of an array file are."""
    return f", ids in {ids_file(target)}" if target.suffix == ".npy" else ""


def ids_file(target: Path) -> Path:
    """Where the ids of ``rows.npy`` go: ``rows.ids.jsonl``."""
    return target.with_suffix(".ids.jsonl")


def write(target: Path, ids: list[tuple[str, str]], rows_ND: np.ndarray) -> None:
    """Write rows (float32, unit length) and their ids; the file appears whole or not at all.

    ``.npy`` gets a ``.ids.jsonl`` beside it; ``.safetensors`` holds ``rows`` and the ids as its metadata; ``.jsonl`` has one row a line.
    """
    import io
    import os

    import numpy as np
    from safetensors.numpy import save

    named = [{"id": name, "kind": kind} for kind, name in ids]
    lines = [json.dumps(row, ensure_ascii=False) for row in named]
    if target.suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, rows_ND, allow_pickle=False)
        payload = buffer.getvalue()
        files = {target: payload, ids_file(target): "".join(line + "\n" for line in lines).encode()}
    elif target.suffix == ".safetensors":
        files = {target: save({"rows": np.ascontiguousarray(rows_ND)}, metadata={"ids": json.dumps(named, ensure_ascii=False)})}
    else:
        rows = (json.dumps(as_row(kind, name, row), ensure_ascii=False) for (kind, name), row in zip(ids, rows_ND, strict=True))
        files = {target: "".join(line + "\n" for line in rows).encode()}
    target.parent.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        part = path.with_name(path.name + ".part")
        part.write_bytes(content)
        os.replace(part, path)
