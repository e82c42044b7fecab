"""Numbers of a ``.npy`` member, read without trust."""

from __future__ import annotations

import io
import math

import numpy as np

from diptych.data.sources.base import BrokenSample


def npy_numbers(raw: bytes, where: str) -> list[float]:
    """The numbers of a ``.npy``, flattened; nothing is unpickled, and nothing larger than ``raw`` is allocated.

    Raises:
        BrokenSample: it is no array of numbers or is cut short.
    """
    stream = io.BytesIO(raw)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        count = math.prod(shape)
        if dtype.kind not in "biuf" or count * dtype.itemsize != len(raw) - stream.tell():
            raise ValueError(f"{dtype} of shape {shape} in {len(raw)} bytes")
        return np.frombuffer(raw, dtype, count, stream.tell()).tolist()
    except (ValueError, EOFError) as error:
        raise BrokenSample(where, f"no array of numbers ({error})") from error
