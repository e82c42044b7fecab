"""Memory that a step has freed stays with the process for the next step.

glibc gives large blocks back to the system as soon as they are free, so that every step asks for the same pages again and the system fills
each with zeros first: 37,000 page faults a step of the preset vit-s-8-64 at batch 32, some 5 % of its time (docs/measured.md). What a
process holds at most grows little: 708 against 695 MB where blocks of 64 kB to 32 MB come and go at random.
"""

from __future__ import annotations

import ctypes
import os
import sys

TRIM, MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
LARGEST_BLOCK, KEPT = 1 << 30, (1 << 31) - 1
CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_ARENA_TEST", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed() -> bool:
    """Tell this process's allocator so; False where it is not glibc's, or where the environment has chosen another way.

    It holds for the whole process and cannot be taken back: up to 2 GiB of freed memory is kept until the process ends.
    """
    if sys.platform != "linux" or any(name in os.environ for name in CHOSEN):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(MMAP, LARGEST_BLOCK)) and bool(mallopt(TRIM, KEPT))
