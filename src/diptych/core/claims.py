"""What was measured of published claims: the records, which of them belong to one comparison, and how a number is written.

A record is a line of ``claims.jsonl``: one metric of one comparison of a baseline and a method, as ``benchmarks/claims/`` writes it. Its
keys: ``id`` of the method; ``names`` of the two arms, ``start`` and ``budget`` that they share, ``note``; ``metric``, ``baseline``,
``method``, ``effect`` (method − baseline) with its ``interval`` (95 %), ``seeds``, ``each`` seed's effect, ``better`` (``"higher"`` or
``"lower"``), ``aim`` that the effect must exceed, ``verdict`` (``"holds"``, ``"fails"``, ``"open"``), ``cost_ratio`` (processor time; None
where nothing was trained), ``published`` and the ``command`` that writes it. The first record of a comparison is what the claim is about.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
POINTS = ("zero-shot", "top-", "recall", "accuracy", "NN", "mIoU", "probe", "reciprocal rank")  # words in names of what is told in points
TOGETHER = ("names", "start", "budget", "note")


def records(path: Path | None) -> dict[str, list[Record]]:
    """By method id its records in file order; empty without a file."""
    found: dict[str, list[Record]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else ():
        row = json.loads(line)
        found.setdefault(row["id"], []).append(row)
    return found


def comparisons(rows: Sequence[Record]) -> list[list[Record]]:
    """A method's records, those of one comparison together."""
    return [list(part) for _, part in itertools.groupby(rows, lambda row: [row[key] for key in TOGETHER])]


def number(value: float, metric: str) -> str:
    """Shares of items and reciprocal ranks in percent points, the rest with three figures."""
    return f"{100 * value:.1f}" if any(word in metric for word in POINTS) else f"{value:.3g}"


def effect(row: Mapping[str, Any]) -> str:
    """``"4.8 [3.7, 5.8]"``: a record's effect and its interval, as :func:`number` writes them."""
    low, high = (number(edge, row["metric"]) for edge in row["interval"])
    return f"{number(row['effect'], row['metric'])} [{low}, {high}]"
