"""Writes docs/commands.md from the command line itself: python scripts/commands_page.py. A test fails when the page is out of date."""

from __future__ import annotations

from pathlib import Path

import typer

from diptych.cli.app import app

PAGE = Path(__file__).resolve().parent.parent / "docs" / "commands.md"
HEAD = """# Commands

Every verb, its arguments and its options, written by `python scripts/commands_page.py`. Each verb has a page of its own with examples.

Every verb takes `--json` (the result as JSON on standard output; progress and notes go to standard error) and `--debug` (the traceback of
an error). An error is one line on standard error: what happened, why, and how to mend it; with `--json` it is
`{"error": {"what", "why", "mend"}}`. Exit codes: 0 done, 1 failed, 2 the call itself is wrong, 130 interrupted from the keyboard.
`diptych --version` prints the version.
"""


def row(parameter) -> str:
    """One line of a verb's table."""
    flag = getattr(parameter, "is_flag", False)
    repeats = parameter.nargs != 1 or getattr(parameter, "multiple", False)
    name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.metavar or parameter.name.upper()
    default = "required" if parameter.required else "" if flag or parameter.default in (None, [], (), "") else f"`{parameter.default}`"
    return f"| `{name}` | {parameter.help} | {'repeats' if repeats else ''} | {default} |"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for verb, command in typer.main.get_command(app).commands.items():
        shown = [parameter for parameter in command.params if parameter.name not in ("as_json", "debug")]
        lines = [f"## {verb}", "", f"{command.help} [More]({verb}.md)", "", "| argument | meaning | | default |", "|---|---|---|---|"]
        parts.append("\n".join([*lines, *map(row, shown)]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
