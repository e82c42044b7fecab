"""Pictures of the index as the page shows them: made small, written anew as JPEG, so that nothing but pixels leaves the server."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict

from PIL import Image

from diptych.core.errors import DiptychError
from diptych.data.decode import decode
from diptych.search.index import Index
from diptych.search.serving.errors import Refused

SIZES = (320, 1280)
KEPT_BYTES = 64 << 20


class Thumbnails:
    """JPEGs by id and size; the last used ones stay in memory.

    Args:
        index: whose pictures they are.
        pixels: larger pictures are refused.
    """

    def __init__(self, index: Index, pixels: int) -> None:
        self._index, self._pixels = index, pixels
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def get(self, id: str, size: int) -> bytes:
        """The picture ``id`` with its longer side at most ``size``.

        Raises:
            Refused: 404 when the index holds no such id, or its picture is gone or cannot be read.
        """
        key = (id, size)
        with self._lock:
            if (found := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return found
        try:
            pixels = decode(self._index.picture(id), reduce_to=(size, size), max_pixels=self._pixels)
        except DiptychError as error:
            raise Refused(404, f"picture {id}", "it is not in the index, gone, or cannot be read", "Run diptych index again") from error
        image = Image.fromarray(pixels)
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=88)
        made = buffer.getvalue()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made
                self._bytes += len(made)
            while self._bytes > KEPT_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return made
