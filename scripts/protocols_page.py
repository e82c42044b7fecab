"""Writes docs/protocols.md from the protocols themselves: python scripts/protocols_page.py. A test fails when the page is out of date."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from diptych.evaluate import suite

PAGE = Path(__file__).resolve().parent.parent / "docs" / "protocols.md"
HEAD = """# Protocols

What `diptych evaluate` can ask of a model, written by `python scripts/protocols_page.py` from the protocols' own files
(`src/diptych/evaluate/protocols/`). `--protocol ID` runs one; `--suite quick` and `--suite full` run what fits. The second column names the
suites and the embedded sets on which they run without data of your own. Arrows say which way is better; "·" only describes.
"""
MARKS = {"higher": "↑", "lower": "↓", "neither": "·"}


def row(module: ModuleType) -> str:
    """One protocol's line of a table."""
    sets = list(dict.fromkeys(name for names in module.SUITES.values() for name in names))
    shown = [f"`{name}`" for name in sets[:4]] + ([f"{len(sets) - 4} more"] if len(sets) > 4 else [])
    where = f"{', '.join(module.SUITES)}: {', '.join(shown) or 'your data'}"
    told = {name: f"{about.title} ({about.meaning})" if about.meaning else about.title for name, about in module.ABOUT.items()}
    metrics = "; ".join(f"`{name}` {MARKS[module.ABOUT[name].better]} {text}" for name, text in told.items())
    return f"| `{module.CARD.id}` {module.CARD.name} | {where} | {metrics} | {module.CARD.paper}, {module.CARD.where} |"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    aspects: dict[str, list[ModuleType]] = {}
    for module in suite.modules():
        aspects.setdefault(module.ASPECT, []).append(module)
    for aspect, modules in aspects.items():
        lines = [f"## {aspect}", "", "| protocol | suites and sets | numbers | source |", "|---|---|---|---|", *map(row, modules)]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
