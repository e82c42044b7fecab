"""What every test may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Small tensors gain nothing from threads, and threads that wait for a busy core lose minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent / "distributed"))


@pytest.fixture(scope="session")
def two_ranks() -> Iterator:
    """``two_ranks(function, *args)`` runs the function on two gloo ranks and gives both results."""
    from gloo import Pool

    pool = Pool(2)
    yield pool
    pool.close()
