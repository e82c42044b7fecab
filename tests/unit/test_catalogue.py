"""The catalogue: every listed id, what works, what is measured, in its stable form."""

from __future__ import annotations

import csv
import io
import json

import pytest

from diptych.cli.app import run
from diptych.cli.catalogue import listing
from diptych.core import catalogue as module
from diptych.core.claims import effect
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


def record(**values):
    """A record of docs/claims.jsonl with what is not told."""
    told = {"id": "alip", "metric": "zero-shot top-1", "effect": 0.031, "interval": [0.012, 0.05], "seeds": 5, "command": "python -m x"}
    told |= {"names": ["open gates", "gates"], "start": "warm", "budget": "9 steps", "note": "", "baseline": 0.2, "method": 0.231}
    told |= {"verdict": "holds", "published": "70.5", "cost_ratio": 1.25, "better": "higher", "primary": True}
    return {**told, **values}


def write(file, *rows):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_measured_claims_are_joined(tmp_path, monkeypatch):
    file = tmp_path / "claims.jsonl"
    second = record(metric="zero-shot top-5", effect=0.0, primary=False)
    other = record(names=["CLIP", "gates"], effect=-0.5, verdict="fails", primary=False)
    write(file, record(), second, other, {**other, "metric": "recall@1", "effect": 0.7})
    monkeypatch.setattr(module, "claims_file", lambda: file)
    rows = {row["id"]: row for row in module.catalogue()}
    found = rows["alip"]["measured"]
    assert {key: value for key, value in found.items() if key != "comparisons"} == {
        "effect": 0.031,
        "interval": [0.012, 0.05],
        "seeds": 5,
        "command": "python -m x",
        "metric": "zero-shot top-1",
        "verdict": "holds",
        "published": "70.5",
    }
    assert [(part["names"], part["metric"], part["effect"]) for part in found["comparisons"]] == [
        (["open gates", "gates"], "zero-shot top-1", 0.031),
        (["CLIP", "gates"], "zero-shot top-1", -0.5),
    ]
    assert sum(row["measured"] is not None for row in rows.values()) == 1


def test_shares_are_written_in_points_and_the_rest_as_they_are():
    assert effect(record()) == "3.1 [1.2, 5.0]"
    assert effect(record(metric="modality gap")) == "0.031 [0.012, 0.05]"


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

    write(
        tmp_path / "claims.jsonl", record(id="cloob"), record(id="cloob", names=["a", "b"], effect=-0.001, verdict="open", cost_ratio=None)
    )
    monkeypatch.setattr(module, "claims_file", lambda: tmp_path / "claims.jsonl")
    assert [row["id"] for row in module.catalogue(identity="cloob")] == ["cloob"]
    with pytest.raises(UsageError, match="Did you mean 'cloob'"):
        module.catalogue(identity="clooob")
    assert run(["catalogue", "cloob"]) == 0
    told = capsys.readouterr().out
    for fact in ("CLOOB", "working", "zero-shot top-1 3.1 [1.2, 5.0], 5 seeds: holds", "python -m x", "beats CLIP zero-shot", "70.5"):
        assert fact in told, fact
    table = [line.split() for line in told.splitlines() if " against " in line]
    assert [line[:4] for line in table] == [["gates", "against", "open", "gates"], ["b", "against", "a", "zero-shot"]]
    assert [line[-1] for line in table] == ["1.25x", "open"]
    assert run(["catalogue", "--family", "pretrain"]) == 0
    listed = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("cloob"))
    assert "working  holds 3.1 [1.2, 5.0]" in listed


def test_the_listing_keeps_one_line_a_method_in_any_window():
    from rich.console import Console

    rows = module.catalogue()
    for width, papers in ((80, False), (110, True), (400, True)):
        console = Console(width=width, file=io.StringIO())
        console.print(listing(rows, width))
        lines = console.file.getvalue().splitlines()
        assert len(lines) == 1 + len(rows)
        assert ("paper" in lines[0].split()) == papers
        assert [line.split()[0] for line in lines[1:]] == [row["id"] for row in rows]
    assert all(row["paper"] in line for row, line in zip(rows, lines[1:], strict=True))


def test_a_listing_of_nothing_is_no_error(capsys):
    empty = [f for f in {row["family"] for row in module.catalogue()} if not module.catalogue(family=f, status="working")]
    assert empty
    assert run(["catalogue", "--family", empty[0], "--status", "working"]) == 0
    assert "0 of 0 work here" in capsys.readouterr().out
