"""Every verb has its page, and the page of commands is what the command line says."""

from __future__ import annotations

import runpy

import pytest
from house import ROOT

from diptych.cli.app import VERBS


@pytest.mark.parametrize("name", [verb.NAME for verb in VERBS])
def test_every_verb_has_a_page_with_a_command(name):
    page = ROOT / "docs" / f"{name}.md"
    assert page.is_file(), f"docs/{name}.md is missing"
    assert f"diptych {name}" in page.read_text(encoding="utf-8")


def test_the_page_of_commands_is_up_to_date():
    """When it is not: python scripts/commands_page.py."""
    script = runpy.run_path(str(ROOT / "scripts" / "commands_page.py"))
    assert script["PAGE"].read_text(encoding="utf-8") == script["page"]()


def test_the_page_of_claims_is_up_to_date():
    """When it is not: python scripts/claims_page.py."""
    script = runpy.run_path(str(ROOT / "scripts" / "claims_page.py"))
    docs = ROOT / "docs"
    assert (docs / "claims.md").read_text(encoding="utf-8") == script["page"](docs / "claims.jsonl")


def test_the_page_of_methods_is_up_to_date():
    """When it is not: python scripts/methods_page.py."""
    script = runpy.run_path(str(ROOT / "scripts" / "methods_page.py"))
    assert (ROOT / "docs" / "methods.md").read_text(encoding="utf-8") == script["page"]()


def test_the_page_of_adaptation_is_up_to_date():
    """When it is not: python scripts/adapt_page.py."""
    script = runpy.run_path(str(ROOT / "scripts" / "adapt_page.py"))
    docs, rows = ROOT / "docs", script["records"]()
    assert (docs / "adapt-methods.md").read_text(encoding="utf-8") == script["page"](rows)
    for world in {row["world"] for row in rows}:
        assert (docs / f"adapt-{world}.svg").read_text(encoding="utf-8") == script["plot"](rows, world)


def test_the_page_of_protocols_is_up_to_date():
    """When it is not: python scripts/protocols_page.py."""
    script = runpy.run_path(str(ROOT / "scripts" / "protocols_page.py"))
    assert script["PAGE"].read_text(encoding="utf-8") == script["page"]()
