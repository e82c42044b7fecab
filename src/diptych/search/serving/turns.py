"""Many may read an index at once; who changes it works alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock of two kinds. Who waits to change goes before those who come later to read."""

    def __init__(self) -> None:
        self._free, self._readers, self._changing, self._waiting = threading.Condition(), 0, False, 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Together with other readers."""
        with self._free:
            self._free.wait_for(lambda: not self._changing and not self._waiting)
            self._readers += 1
        try:
            yield
        finally:
            with self._free:
                self._readers -= 1
                self._free.notify_all()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Alone."""
        with self._free:
            self._waiting += 1
            self._free.wait_for(lambda: not self._changing and not self._readers)
            self._waiting -= 1
            self._changing = True
        try:
            yield
        finally:
            with self._free:
                self._changing = False
                self._free.notify_all()
