"""Writes docs/methods.md from the method files: python scripts/methods_page.py. A test fails when the page is out of date."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

from diptych.core.registry import Entry, entries

DOCS = Path(__file__).resolve().parent.parent / "docs"
HEAD = """# Methods of training

Written by `python scripts/methods_page.py` from the method files. Every name is a recipe, and names of different kinds are joined by `+`:

```bash
diptych train cloob --data my-photos/
diptych train slip+random-mask+laclip --data my-photos/ --set tokens.options.ratio=0.5
diptych train clip-refine --data my-photos/ --from mini
```

An option is set as `--set objective.options.NAME=…` (`tokens.options`, `data.rewrite.options`). What each claim comes to here:
[claims](claims.md).

"""
FAMILIES = {
    "objective": "Objectives on pairs, and after pretraining",
    "views": "Objectives on views of pictures (no words)",
    "tokens": "Token methods",
    "captions": "Rewriters of captions",
    "tower": "Towers",
    "study": "Studies",
}


def summary(module: ModuleType) -> str:
    """The first line of the file's docstring, without the name before the colon."""
    line = " ".join((module.__doc__ or "").split("\n\n")[0].split())
    return line.partition(": ")[2] or line


def explained(module: ModuleType) -> dict[str, str]:
    """What ``Options`` says of each setting, from its docstring."""
    text = module.Options.__doc__ or ""
    told: dict[str, str] = {}
    for names, words in re.findall(r"^ {4,}([\w, ]+): (.*(?:\n {8,}[^\n:]+$)*)", text.partition("Args:")[2], flags=re.M):
        for name in names.split(", "):
            told[name.strip()] = " ".join(words.split())
    return told


def options(module: ModuleType) -> list[str]:
    """A line for each setting: default and meaning."""
    if not hasattr(module, "Options"):
        return []
    told = explained(module)
    lines = []
    for name, field in module.Options.model_fields.items():
        default = "required" if field.is_required() else f"`{json.dumps(field.get_default(call_default_factory=True), default=str)}`"
        lines.append(f"- `{name}` ({default}): {told.get(name, '')}".rstrip(": "))
    return lines


def section(entry: Entry, verdicts: dict[str, str]) -> str:
    """One method."""
    module, card = entry.load(), entry.card
    said = summary(module)
    lines = [f"### {card.name} (`{card.id}`)", "", said[0].upper() + said[1:], "", f"{card.paper}; {card.where}."]
    if card.needs:
        lines[-1] += f" Needs: {', '.join(f'`{need}`' for need in sorted(card.needs))}."
    if card.id in verdicts:
        lines[-1] += f" Claim here: {verdicts[card.id]}."
    found = options(module)
    return "\n".join([*lines, *(["", *found] if found else []), ""])


def page() -> str:
    """The whole page."""
    records = DOCS / "claims.jsonl"
    rows = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()] if records.exists() else []
    verdicts = {row["id"]: row["verdict"] for row in rows if row["primary"]}
    parts = []
    for family, title in FAMILIES.items():
        members = [entry for entry in entries() if entry.family == family]
        if members:
            parts += [f"## {title}", "", *(section(entry, verdicts) for entry in members)]
    return HEAD + "\n".join(parts)


def write() -> None:
    """Write the page."""
    (DOCS / "methods.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write()
