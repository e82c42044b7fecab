"""The report: a run folder in, one self-contained page out."""

from __future__ import annotations

from pathlib import Path


def build(folder: str | Path) -> Path:
    """Write ``folder/report.html`` from its records, log, recipe and details; see :mod:`diptych.evaluate.report.page`."""
    from diptych.evaluate.report.page import build_page

    return build_page(Path(folder))
