"""The catalogue: every listed id, what works, what is measured, in its stable form."""

from __future__ import annotations

import csv
import json

import pytest

from diptych.cli.app import run
from diptych.core import catalogue as module
from diptych.core.errors import UsageError
from diptych.core.registry import PACKAGE, entries

KEYS = ["id", "name", "family", "paper", "status", "claim", "measured"]


def test_every_listed_method_is_shown_in_the_stable_form(capsys):
    assert run(["catalogue", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(list(row) == KEYS for row in rows)
    with (PACKAGE / "catalogue.tsv").open(encoding="utf-8") as stream:
        ids = [line[0] for line in csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)][1:]
    assert [row["id"] for row in rows][: len(ids)] == ids
    assert len(ids) == len(set(ids)) == 339
    assert {row["status"] for row in rows} <= {"planned", "working"}
    assert all(row["name"] and row["family"] and row["paper"] for row in rows[: len(ids)])


def test_methods_of_the_registry_work_whether_listed_or_not():
    rows = {row["id"]: row for row in module.catalogue()}
    assert {entry.id for entry in entries()} <= {row["id"] for row in rows.values() if row["status"] == "working"}
    assert {row["id"] for row in rows.values() if row["status"] == "working"} == {entry.id for entry in entries()}


def test_a_card_read_from_its_syntax_tree_is_the_card():
    for entry in entries():
        card, text = entry.card, module.card_text(entry)
        assert all(getattr(card, name) == value for name, value in text.items())
        assert {"id", "name", "family", "paper"} <= set(text)


def test_measured_claims_are_joined(tmp_path, monkeypatch):
    line = {"id": "alip", "effect": 0.031, "interval": [0.012, 0.05], "seeds": 5, "command": "python -m x", "more": 1}
    file = tmp_path / "claims.jsonl"
    other = {**line, "effect": 0.0, "primary": False}
    file.write_text("".join(json.dumps(row) + "\n" for row in ({**line, "primary": True}, other)))
    monkeypatch.setattr(module, "claims_file", lambda: file)
    rows = {row["id"]: row for row in module.catalogue()}
    assert rows["alip"]["measured"] == {"effect": 0.031, "interval": [0.012, 0.05], "seeds": 5, "command": "python -m x"}
    assert sum(row["measured"] is not None for row in rows.values()) == 1


def test_filters():
    every = module.catalogue()
    ssl = module.catalogue(family="ssl")
    assert ssl == [row for row in every if row["family"] == "ssl"]
    assert len(ssl) == 47
    assert module.catalogue(family="objective")
    assert len(module.catalogue(status="planned")) + len(module.catalogue(status="working")) == len(every)
    with pytest.raises(UsageError, match="ssl"):
        module.catalogue(family="sssl")


def test_one_method_in_full(capsys, tmp_path, monkeypatch):
    from diptych.cli.app import run

    line = {"id": "cloob", "effect": 0.031, "interval": [0.012, 0.05], "seeds": 5, "command": "python -m x", "primary": True}
    (tmp_path / "claims.jsonl").write_text(json.dumps(line) + "\n")
    monkeypatch.setattr(module, "claims_file", lambda: tmp_path / "claims.jsonl")
    assert [row["id"] for row in module.catalogue(identity="cloob")] == ["cloob"]
    with pytest.raises(UsageError, match="Did you mean 'cloob'"):
        module.catalogue(identity="clooob")
    assert run(["catalogue", "cloob"]) == 0
    told = capsys.readouterr().out
    for fact in ("CLOOB", "working", "0.031 [0.012, 0.05], 5 seeds", "python -m x", "beats CLIP zero-shot"):
        assert fact in told, fact
