"""Fixtures: two hundred drawn pairs in every layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn_pairs import Pair, make_pairs, write_csv, write_folder, write_jsonl, write_parquet, write_tars

from diptych.core.types import Preprocess


@pytest.fixture(scope="session")
def pairs() -> list[Pair]:
    return make_pairs()


@pytest.fixture(scope="session")
def layouts(pairs: list[Pair], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("layouts")
    return {
        "folder": write_folder(root / "folder", pairs),
        "csv": write_csv(root / "csv", pairs),
        "tsv": write_csv(root / "tsv", pairs, "\t", "tsv"),
        "jsonl": write_jsonl(root / "jsonl", pairs),
        "parquet": write_parquet(root / "parquet", pairs),
        "tars": write_tars(root / "tars", pairs),
        "tars-json": write_tars(root / "tars-json", pairs, 2, "captions"),
    }


@pytest.fixture
def small() -> Preprocess:
    return Preprocess((12, 12), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
