"""Writes docs/claims.md from docs/claims.jsonl and the cards: python scripts/claims_page.py. A test fails when the page is out of date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych.core.catalogue import card_text, listed
from diptych.core.claims import comparisons, effect, number, records
from diptych.core.registry import entries

DOCS = Path(__file__).resolve().parent.parent / "docs"
HEAD = """# Claims, measured

What the published methods claim, and what is seen here, written by `python scripts/claims_page.py` from `claims.jsonl`, which the files of
`benchmarks/claims/` write. Baseline and method have the same budget of steps, data and start; effect is method − baseline, over seeds, with
a 95 % interval from drawing seeds and concepts anew. A verdict is *holds* where the whole interval is on the claimed side, *fails* where it
is on the other, else *open*; the table's last column counts them over all comparisons of a method, by the metric that each is about. Cost
is the method's processor time over the baseline's. These are towers of a quarter of a million to a million parameters on 2,759 drawings:
they show whether a mechanism does what it says, not what it is worth at the paper's size.
Claims of adaptation (`benchmarks/claims/adapt/`) start from a model as it ships instead; a seed is a draw of the labelled pictures.

"""
WORDS = {"holds": "holds", "fails": "**fails**", "open": "open"}


def line(row: Mapping[str, Any]) -> str:
    """One row of the table."""
    metric = row["metric"]
    base, ours = number(row["baseline"], metric), number(row["method"], metric)
    cost = "" if row["cost_ratio"] is None else f"{row['cost_ratio']:.2f}×"
    wanted = f" (asked: {number(row['aim'], metric)})" if row["aim"] else ""
    arrow = " ↓" if row["better"] == "lower" else ""
    return f"| {metric}{arrow} | {base} | {ours} | {effect(row)} | {WORDS[row['verdict']]}{wanted} | {row['seeds']} | {cost} |"


def section(identity: str, rows: Sequence[dict[str, Any]], card: Mapping[str, str], claim: str) -> str:
    """One method."""
    name, first = card.get("name", identity), rows[0]
    told = [f"## {name} (`{identity}`)", "", f"{card.get('paper', '')}. Claim: {card.get('claim') or claim}"]
    told += ["", f"Published: {first['published'] or 'no figure'}. `{first['command']}`", ""]
    for part in comparisons(rows):
        names, start, budget, note = (part[0][key] for key in ("names", "start", "budget", "note"))
        told += [f"**{names[1]}** against **{names[0]}**: {start}; {budget}.", ""]
        told += [f"| measured | {names[0]} | {names[1]} | effect | verdict | seeds | cost |", "|---|---|---|---|---|---|---|"]
        told += [*(line(row) for row in part), "", *([note, ""] if note else [])]
    return "\n".join(told)


def page(file: Path) -> str:
    """The whole page."""
    by_id = records(file)
    cards = {entry.id: card_text(entry) for entry in entries()}
    claims = {row["id"]: row["claim"] for row in listed()}
    summary = ["| method | measured | effect | verdict | comparisons that hold |", "|---|---|---|---|---|"]
    for identity, rows in sorted(by_id.items()):
        row, verdicts = rows[0], [part[0]["verdict"] for part in comparisons(rows)]
        name, held = cards.get(identity, {}).get("name", identity), f"{verdicts.count('holds')} of {len(verdicts)}"
        summary.append(f"| [{name}](#{anchor(name, identity)}) | {row['metric']} | {effect(row)} | {WORDS[row['verdict']]} | {held} |")
    parts = [section(i, rows, cards.get(i, {}), claims.get(i, "")) for i, rows in sorted(by_id.items())]
    return HEAD + "\n".join([*summary, "", *parts])


def anchor(name: str, identity: str) -> str:
    """Where the heading of :func:`section` is reached in the rendered page."""
    return "".join(c for c in f"{name} {identity}".lower().replace(" ", "-") if c.isalnum() or c in "-_")


def write(file: Path = DOCS / "claims.jsonl") -> None:
    """Write the page."""
    (DOCS / "claims.md").write_text(page(file), encoding="utf-8")


if __name__ == "__main__":
    write()
