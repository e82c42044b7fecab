"""What a search reads: rows and vectors of one version of the table as two flat files, mapped into memory.

``snapshot-TABLE-VERSION/rows.arrow`` (Arrow file, everything but vectors) and ``vectors.npy`` (float32, N × D), written from LanceDB in
one pass under a temporary name and renamed. They are a copy: losing them loses nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from diptych.core.errors import DiptychError
from diptych.search.exact import BLOCK_BYTES
from diptych.search.store import COLUMNS, Store

HEAD = 128  # bytes of the .npy header as written here
RETRIES = 5


class Snapshot:
    """Rows and vectors of one version.

    Attributes:
        rows: Arrow table without vectors, mapped.
        path: of the folder.
        count, dim: N and D.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with pa.memory_map(str(path / "rows.arrow")) as file:
                self.rows: pa.Table = pyarrow.ipc.open_file(file).read_all()
            self.vectors_ND = np.load(path / "vectors.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DiptychError(
                f"index {path.parent}", f"{path.name} cannot be read ({error})", f"Delete the folder {path}; it is made again"
            ) from error
        self.count, self.dim = self.vectors_ND.shape

    @classmethod
    def of(cls, store: Store) -> Snapshot:
        """The snapshot of the table's last version, written where it is not there yet."""
        for _ in range(RETRIES):
            path = store.folder / f"snapshot-{store.name}-{store.version}"
            if not path.is_dir():
                write(store, path)
            with contextlib.suppress(FileNotFoundError):  # another process has just replaced it by a newer one
                return cls(path)
        raise DiptychError(f"index {store.folder}", "it changes faster than it can be read", "Try again when less is written to it")

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """First row and vectors of one part after the other, read from the file, so that no more than one part is in memory."""
        step = max(BLOCK_BYTES // (4 * max(self.dim, 1)), 1)
        with (self.path / "vectors.npy").open("rb") as file:
            file.seek(HEAD)
            for start in range(0, self.count, step):
                count = min(step, self.count - start)
                yield start, np.fromfile(file, dtype="<f4", count=count * self.dim).reshape(count, self.dim)

    def row(self, index: int) -> dict:
        """One row without its vector."""
        return self.rows.slice(index, 1).to_pylist()[0]


def write(store: Store, path: Path) -> None:
    """Copy the table into ``path``; older snapshots of the folder are removed (a process that has one mapped keeps it)."""
    try:
        with tempfile.TemporaryDirectory(prefix=".snapshot-", dir=store.folder) as made:
            part = Path(made) / "new"
            part.mkdir()
            _fill(store, part)
            with contextlib.suppress(FileExistsError):
                if not path.is_dir():
                    os.replace(part, path)
    except OSError as error:
        raise DiptychError(
            f"index {store.folder}", f"cannot be written ({error.strerror or error})", "Make room, or make the folder writable"
        ) from error
    for old in store.folder.glob("snapshot-*"):
        if old != path:
            shutil.rmtree(old, ignore_errors=True)


def _fill(store: Store, part: Path) -> None:
    """The two files."""
    count = 0
    with (part / "vectors.npy").open("wb") as vectors, pa.OSFile(str(part / "rows.arrow"), "wb") as sink:
        vectors.write(_header(0, store.dim))
        writer = None
        for batch in store.read([*COLUMNS, "vector"]):
            rows = batch.select(list(COLUMNS))
            writer = writer or pyarrow.ipc.new_file(sink, rows.schema)
            writer.write_batch(rows)
            flat = batch.column("vector").flatten().to_numpy(zero_copy_only=False)
            vectors.write(np.ascontiguousarray(flat, dtype="<f4").tobytes())
            count += len(rows)
        if writer is None:
            from diptych.search.store import schema

            writer = pyarrow.ipc.new_file(sink, schema(store.dim).remove(len(COLUMNS)))
        writer.close()
        vectors.seek(0)
        vectors.write(_header(count, store.dim))


def _header(count: int, dim: int) -> bytes:
    """The .npy header of a float32 array (count, dim), always 128 bytes."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {dim}), }}"
    return b"\x93NUMPY\x01\x00" + (HEAD - 10).to_bytes(2, "little") + text.ljust(HEAD - 11).encode() + b"\n"
