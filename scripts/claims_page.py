"""Writes docs/claims.md from docs/claims.jsonl and the cards: python scripts/claims_page.py. A test fails when the page is out of date."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych.core.catalogue import card_text, listed
from diptych.core.registry import entries

DOCS = Path(__file__).resolve().parent.parent / "docs"
HEAD = """# Claims, measured

What the published methods claim, and what is seen here, written by `python scripts/claims_page.py` from `claims.jsonl`, which the files of
`benchmarks/claims/` write. Baseline and method have the same budget of steps, data and start; effect is method − baseline, over seeds, with
a 95 % interval from drawing seeds and concepts anew. A verdict is *holds* where the whole interval is on the claimed side, *fails* where it
is on the other, else *open*. Cost is the method's processor time over the baseline's. These are towers of a quarter of a million to a
million parameters on 2,759 drawings: they show whether a mechanism does what it says, not what it is worth at the paper's size.
Claims of adaptation (`benchmarks/claims/adapt/`) start from a model as it ships instead; a seed is a draw of the labelled pictures.

"""
WORDS = {"holds": "holds", "fails": "**fails**", "open": "open"}


def number(value: float, metric: str) -> str:
    """Shares in percent points, the rest with three figures."""
    return f"{100 * value:.1f}" if is_share(metric) else f"{value:.3g}"


def is_share(metric: str) -> bool:
    """Whether a metric is a share of items."""
    return any(word in metric for word in ("top-", "recall", "accuracy", "NN", "mIoU", "probe"))


def line(row: Mapping[str, Any]) -> str:
    """One row of the table."""
    metric, (low, high) = row["metric"], row["interval"]
    base, ours = number(row["baseline"], metric), number(row["method"], metric)
    signs = f"{number(row['effect'], metric)} [{number(low, metric)}, {number(high, metric)}]"
    cost = "" if row["cost_ratio"] is None else f"{row['cost_ratio']:.2f}×"
    wanted = f" (asked: {number(row['aim'], metric)})" if row["aim"] else ""
    arrow = " ↓" if row["better"] == "lower" else ""
    return f"| {metric}{arrow} | {base} | {ours} | {signs} | {WORDS[row['verdict']]}{wanted} | {row['seeds']} | {cost} |"


def section(identity: str, rows: Sequence[Mapping[str, Any]], card: Mapping[str, str], claim: str) -> str:
    """One method."""
    name, first = card.get("name", identity), rows[0]
    told = [f"## {name} (`{identity}`)", "", f"{card.get('paper', '')}. Claim: {card.get('claim') or claim}"]
    told += ["", f"Published: {first['published'] or 'no figure'}. `{first['command']}`", ""]
    for (names, start, budget, note), part in itertools.groupby(rows, lambda row: (row["names"], row["start"], row["budget"], row["note"])):
        told += [f"**{names[1]}** against **{names[0]}**: {start}; {budget}.", ""]
        told += [f"| measured | {names[0]} | {names[1]} | effect | verdict | seeds | cost |", "|---|---|---|---|---|---|---|"]
        told += [*(line(row) for row in part), "", *([note, ""] if note else [])]
    return "\n".join(told)


def page(records: Path) -> str:
    """The whole page."""
    by_id: dict[str, list[dict[str, Any]]] = {}
    for text in records.read_text(encoding="utf-8").splitlines() if records.exists() else ():
        row = json.loads(text)
        by_id.setdefault(row["id"], []).append(row)
    cards = {entry.id: card_text(entry) for entry in entries()}
    claims = {row["id"]: row["claim"] for row in listed()}
    summary = ["| method | measured | effect | verdict |", "|---|---|---|---|"]
    for identity, rows in sorted(by_id.items()):
        row = rows[0]
        low, high = (number(edge, row["metric"]) for edge in row["interval"])
        name = cards.get(identity, {}).get("name", identity)
        effect = number(row["effect"], row["metric"])
        summary.append(f"| {name} | {row['metric']} | {effect} [{low}, {high}] | {WORDS[row['verdict']]} |")
    parts = [section(i, rows, cards.get(i, {}), claims.get(i, "")) for i, rows in sorted(by_id.items())]
    return HEAD + "\n".join([*summary, "", *parts])


def write(records: Path = DOCS / "claims.jsonl") -> None:
    """Write the page."""
    (DOCS / "claims.md").write_text(page(records), encoding="utf-8")


if __name__ == "__main__":
    write()
