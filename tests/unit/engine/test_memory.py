"""Freed memory is asked for once, and the environment's own choice is left alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from diptych.engine.memory import CHOSEN

FAULTS = """
import resource, sys, torch
from diptych.engine.memory import keep_freed
if sys.argv[1] == "keep" and not keep_freed():
    print(-1)
    raise SystemExit
for step in range(30):
    if step == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    large, small = torch.ones(9 << 20), torch.ones(4 << 20)
    del large, small
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str, **environment: str) -> int:
    """Page faults of ten rounds of 52 MiB after twenty others; −1 where the allocator was left alone."""
    clean = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    done = subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True, env={**clean, **environment})
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_not_asked_for_again() -> None:
    kept = faults("keep")
    if kept < 0:
        pytest.skip("the C library is not glibc")
    assert kept < 2000 < 50_000 < faults("plain")


def test_a_choice_of_the_environment_is_left_alone() -> None:
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="131072") == -1
