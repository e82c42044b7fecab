"""Writes docs/adapt-methods.md and its plots from docs/adapt.jsonl and the cards: python scripts/adapt_page.py. A test keeps them true."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from diptych.core.catalogue import card_text
from diptych.core.registry import Entry, entries

DOCS = Path(__file__).resolve().parent.parent / "docs"
HEAD = """# Methods of adaptation, measured

Written by `python scripts/adapt_page.py` from `adapt.jsonl`, which `benchmarks/adapt_shots.py` writes, and from the methods' own files.
Gain is in points of top-1 over the parent's words on test pictures, with a 95 % interval over draws of the shots and test pictures. Kept is
the share of the parent's hits, by words, on concepts that nothing was trained on. Seconds are of one core: choosing options and fitting.
Five draws of the shots unless the method's cell says fewer; with no labels nothing is drawn. Options have their defaults or are chosen
inside the shots. Not free of a look at test drawings: the rates of `lora`, `clip-svd` and `full-ft`, the grid of `caps-adapter`, and
what `laplacian-shot` scales distances with, were settled after seeing some; take their figures as an upper end.
"""
FOLDERS = {
    "zero_shot": "From words and descriptions",
    "training_free": "From rows, without training",
    "adapters": "A few weights, or all of them",
    "prompts": "Prompts",
    "semi": "With pictures without labels",
    "test_time": "At test time",
    "federated": "Federated",
}
NEEDS = {"labels": "labels", "unlabelled": "pictures without labels", "captions": "captions"}
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22")
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 420, 300, 46, 30, 34, 128


def records(path: Path = DOCS / "adapt.jsonl") -> list[dict[str, Any]]:
    """Lines of the benchmark; none before it has run."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def members() -> dict[str, list[Entry]]:
    """Methods by folder."""
    found: dict[str, list[Entry]] = {folder: [] for folder in FOLDERS}
    for entry in entries():
        if entry.family == "adapt":
            found[entry.module.split(".")[2]].append(entry)
    return found


def cell(row: Mapping[str, Any] | None) -> str:
    """Gain with its interval."""
    if row is None:
        return ""
    low, high = row["interval"]
    return f"{100 * row['gain']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def tables(rows: Sequence[Mapping[str, Any]], world: str) -> list[str]:
    """One table a folder."""
    mine = [row for row in rows if row["world"] == world]
    shots = sorted({row["shots"] for row in mine if row["shots"]})
    out = []
    for folder, methods in members().items():
        shown = [entry for entry in methods if any(row["method"] == entry.id for row in mine)]
        if not shown:
            continue
        free = all("labels" not in entry.card.needs for entry in shown)
        counts = [0] if free else ([0, *shots] if any("labels" not in entry.card.needs for entry in shown) else shots)
        heads = ["no labels" if count == 0 else f"{count} shot{'s' if count > 1 else ''}" for count in counts]
        out += [
            f"### {FOLDERS[folder]}",
            "",
            f"| method | {' | '.join(heads)} | kept | numbers | seconds |",
            "|---" * (len(counts) + 4) + "|",
        ]
        for entry in shown:
            own = {row["shots"]: row for row in mine if row["method"] == entry.id}
            last = own[max(own)]
            cells = " | ".join(cell(own.get(count)) for count in counts)
            few = f" ({last['draws']} draws)" if last["shots"] and last["draws"] < 5 else ""
            out.append(f"| `{entry.id}`{few} | {cells} | {100 * last['retention']:.1f}% | {last['trainable']:,} | {last['seconds']:.1f} |")
        out.append("")
    return out


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The whole page."""
    parts = [HEAD, "## What each is", "", "| method | needs | paper | command |", "|---|---|---|---|"]
    for methods in members().values():
        for entry in methods:
            needs = ", ".join(NEEDS[need] for need in sorted(entry.card.needs) if need in NEEDS) or "words"
            paper = card_text(entry)["paper"]
            parts.append(f"| `{entry.id}` | {needs} | {paper} | `diptych adapt mini DATA --method {entry.id}` |")
    for world in sorted({row["world"] for row in rows}):
        first = next(row for row in rows if row["world"] == world)
        words = f"{100 * first['words']:.1f}%"
        parts += ["", f"## {world}", "", f"{first['about'][0].upper()}{first['about'][1:]}; the words alone name {words} rightly.", ""]
        parts += [f"![Top-1 against shots](adapt-{world}.svg)", "", *tables(rows, world)]
    return "\n".join(parts).rstrip() + "\n"


def plot(rows: Sequence[Mapping[str, Any]], world: str) -> str:
    """Top-1 against shots, one panel a folder of methods that learn from labels."""
    mine = [row for row in rows if row["world"] == world and row["shots"]]
    shots = sorted({row["shots"] for row in mine})
    panels = [(FOLDERS[folder], [e.id for e in methods if any(r["method"] == e.id for r in mine)]) for folder, methods in members().items()]
    panels = [(title, ids) for title, ids in panels if ids]
    low = min(row["top1"] for row in mine) - 0.02
    high = max(row["top1"] for row in mine) + 0.02
    across = 2
    down = -(-len(panels) // across)
    size = f'width="{across * WIDTH}" height="{down * HEIGHT}"'
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across * WIDTH} {down * HEIGHT}" {size} font-family="sans-serif">']
    out.append(f'<rect {size} fill="#ffffff"/>')
    for index, (title, ids) in enumerate(panels):
        out.append(f'<g transform="translate({(index % across) * WIDTH} {(index // across) * HEIGHT})">')
        out += panel(title, {i: {r["shots"]: r["top1"] for r in mine if r["method"] == i} for i in ids}, mine[0]["words"], shots, low, high)
        out.append("</g>")
    return "\n".join([*out, "</svg>"]) + "\n"


def panel(title: str, curves: Mapping[str, Mapping[int, float]], words: float, shots: Sequence[int], low: float, high: float) -> list[str]:
    """One small plot; names stand at the ends of their lines, pushed apart where they would meet."""
    inner, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(count: int) -> float:
        return LEFT + inner * (shots.index(count) / max(len(shots) - 1, 1))

    def y(value: float) -> float:
        return TOP + tall * (1 - (value - low) / (high - low))

    out = [f'<text x="{LEFT}" y="18" font-size="13" font-weight="bold" fill="#222">{escape(title)}</text>']
    for value in [i / 10 for i in range(11) if low <= i / 10 <= high]:
        out.append(f'<line x1="{LEFT}" x2="{LEFT + inner}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#e3e3e3"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" font-size="11" text-anchor="end" fill="#555">{100 * value:.0f}%</text>')
    for count in shots:
        out.append(f'<text x="{x(count):.1f}" y="{HEIGHT - 14}" font-size="11" text-anchor="middle" fill="#555">{count}</text>')
    middle = f'x="{LEFT + inner / 2:.0f}" y="{HEIGHT - 1}" font-size="11" text-anchor="middle" fill="#555"'
    out.append(f"<text {middle}>labelled pictures a class</text>")
    out.append(f'<line x1="{LEFT}" x2="{LEFT + inner}" y1="{y(words):.1f}" y2="{y(words):.1f}" stroke="#333" stroke-dasharray="4 4"/>')
    ends = [(y(words), "words alone", "#333")]
    for index, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        points = " ".join(f"{x(count):.1f},{y(value):.1f}" for count, value in sorted(curve.items()))
        out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x(c):.1f}" cy="{y(v):.1f}" r="3" fill="{colour}"/>' for c, v in sorted(curve.items())]
        ends.append((y(curve[max(curve)]), name, colour))
    free = TOP - 20.0
    for place, name, colour in sorted(ends):
        free = max(place, free + 13)
        out.append(f'<text x="{LEFT + inner + 8}" y="{free + 4:.1f}" font-size="11" fill="{colour}">{escape(name)}</text>')
    return out


def write(path: Path = DOCS / "adapt.jsonl") -> None:
    """Write the page and the plots."""
    rows = records(path)
    (DOCS / "adapt-methods.md").write_text(page(rows), encoding="utf-8")
    for world in sorted({row["world"] for row in rows}):
        (DOCS / f"adapt-{world}.svg").write_text(plot(rows, world), encoding="utf-8")


if __name__ == "__main__":
    write()
