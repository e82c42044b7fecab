"""The model that the tests of the index embed with, and a cache of its background."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import diptych
from diptych.towers.dual import DualEncoder


@pytest.fixture(scope="session")
def background_cache(tmp_path_factory) -> Iterator[Path]:
    """The background of mini is computed once a session, and not in the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIPTYCH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def mini(background_cache) -> DualEncoder:
    return diptych.load("mini")
