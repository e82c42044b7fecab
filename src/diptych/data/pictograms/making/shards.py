"""Tar shards in the webdataset layout (``KEY.webp`` and ``KEY.json``), the same bytes on every build."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Row = tuple[str, bytes, Mapping[str, Any]]


def compact(value: Any) -> bytes:
    """JSON without spaces, non-ASCII letters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def write(path: Path, rows: Iterable[Row], kind: str = "webp") -> None:
    """Write ``(key, bytes of a picture, fields)`` rows as one tar: fixed owner, mode and time, ustar headers, no padding to 10 KiB.

    ``kind`` is the picture's extension.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, image, fields in rows:
            for suffix, data in ((kind, image), ("json", compact(fields))):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size, member.mode, member.mtime = len(data), 0o644, 0
                tar.addfile(member, io.BytesIO(data))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())


def split(rows: list[Row], per_shard: int) -> list[list[Row]]:
    """Cut rows into near-equal shards of at most ``per_shard``."""
    count = -(-len(rows) // per_shard)
    return [rows[i * len(rows) // count : (i + 1) * len(rows) // count] for i in range(count)]
