"""Every verb has its page, and the page of commands knows every option."""

from __future__ import annotations

import pytest
import typer
from house import ROOT

from diptych.cli.app import VERBS, app

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [verb.NAME for verb in VERBS])
def test_every_verb_has_a_page_with_a_command(name):
    page = ROOT / "docs" / f"{name}.md"
    assert page.is_file(), f"docs/{name}.md is missing"
    assert f"diptych {name}" in page.read_text(encoding="utf-8")


def sections() -> dict[str, str]:
    """The parts of docs/commands.md by verb."""
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    return {part.split("\n", 1)[0].strip(): part for part in text.split("\n## ")[1:]}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_page_of_commands_names_every_option(name):
    section = sections()[name]
    options = [option for parameter in COMMANDS[name].params for option in parameter.opts if option.startswith("--")]
    assert [option for option in options if option not in section and option not in ("--json", "--debug")] == []
