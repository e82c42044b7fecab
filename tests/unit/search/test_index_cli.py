"""diptych index, search and find-duplicates end to end."""

from __future__ import annotations

import json
import threading
import time

import pytest
from drawn_folder import draw

from diptych.cli import search as search_verb
from diptych.cli.app import run
from diptych.cli.search import weighed


@pytest.fixture
def place(tmp_path, mini, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "p", 12)
    return tmp_path


def answer(capsys, *arguments: object):
    code = run([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def test_the_verbs_end_to_end(capsys, place):
    (place / "p" / "broken.png").write_text("no")
    made = answer(capsys, "index", "p")
    assert (made["added"], made["pictures"], made["model"], made["out"]) == (12, 12, "mini", "diptych-index")
    assert [row["picture"] for row in made["broken"]] == [str(place / "p" / "broken.png")]
    again = answer(capsys, "index", "p")
    assert again["unchanged"] == 12
    assert ["pocket" in "".join(run["notes"]) for run in (made, again)] == [True, False], "said once, where mini was nobody's choice"

    found = answer(capsys, "search", "a cat", "animal^0.5", "--not", "a dog", "--top", 3)
    assert found["query"]["words"] == [["a cat", 1.0], ["animal", 0.5], ["a dog", -0.5]]
    assert len(found["results"]) == 3
    assert isinstance(found["answer"], bool)
    assert {"path", "score", "similarity", "caption", "id", "label", "duplicates"} <= set(found["results"][0])
    assert all(0 <= row["score"] <= 1 for row in found["results"])

    best = found["results"][0]
    assert answer(capsys, "search", "--image", best["path"], "--top", 1)["results"][0]["id"] == best["id"]
    assert best["id"] not in [row["id"] for row in answer(capsys, "search", "--like", best["id"])["results"]]
    right = answer(capsys, "search", "a cat", "--right", best["id"], "--top", 1)
    assert answer(capsys, "search", "a cat", "--top", 1) == right
    none = answer(capsys, "search", "a cat", "--where", "size > 1e12")
    assert (none["answer"], none["results"]) == (False, [])
    assert len(answer(capsys, "search", "--clusters", 3)["clusters"]) == 3
    assert sum(row["pictures"] for row in answer(capsys, "search", "a cat", "--clusters", 2, "--separate")["clusters"]) == 12

    (place / "p" / "copy.webp").write_bytes(next((place / "p").glob("*.webp")).read_bytes())
    groups = answer(capsys, "find-duplicates", "p", "--threshold", 0.999)["groups"]
    assert [len(group) for group in groups] == [2]
    assert answer(capsys, "find-duplicates", "diptych-index", "--threshold", 0.999)["groups"] == groups
    assert run(["search", "a cat"]) == 0
    shown = capsys.readouterr().out
    assert best["id"] in shown


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (2, ["search"], ["nothing is asked for"]),
        (1, ["search", "a cat", "--index", "nowhere"], ["no index", "diptych index"]),
        (1, ["search", "--image", "nowhere.png"], ["nowhere.png"]),
        (2, ["index", "nowhere"], ["nowhere", "Check the path; the names of sets begin with pictobench, pictograms"]),
        (2, ["index", "pictograms/trian"], ["Did you mean 'pictograms/train'?"]),
        (2, ["search", "a", "--top", "0"], ["--top"]),
    ],
)
def test_mistakes_are_one_line(capsys, place, code, arguments, words):
    assert run(arguments) == code
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert all(word in line for word in words), line


def test_another_model_is_refused_until_it_is_asked_for(capsys, place, tmp_path):
    import diptych
    from diptych.towers.dual import DualEncoder
    from diptych.towers.presets import preset

    diptych.save(DualEncoder(preset("tiny"), seed=1), tmp_path / "tiny")
    answer(capsys, "index", "p")
    assert run(["index", "p", "--model", "tiny"]) == 1
    assert "--re-embed" in capsys.readouterr().err
    assert answer(capsys, "index", "p", "--model", "tiny", "--re-embed")["model"] == "tiny"
    assert answer(capsys, "search", "a cat", "--top", 1)["results"]


def test_watch_follows(capsys, place):
    """A picture that comes while it watches is indexed; an empty folder does not end it."""
    seen: list[int] = []

    def stop(report) -> None:
        seen.append(report.pictures)
        if len(seen) == 1:
            threading.Thread(target=lambda: (time.sleep(0.3), draw(place / "p", 1, start=50)), daemon=True).start()
        else:
            raise KeyboardInterrupt

    from diptych.cli import index as verb

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verb, "show", lambda out, report, *rest: stop(report))
        assert run(["index", "p", "--watch", "--every", "0.1"]) == 130
    assert seen == [12, 13]


def test_weights_in_words():
    assert [weighed(text) for text in ("red", "red^2", "a^b", "x^0.5", "red^")] == [
        ("red", 1.0),
        ("red", 2.0),
        ("a^b", 1.0),
        ("x", 0.5),
        ("red^", 1.0),
    ]


def test_open_shows_the_best_picture(capsys, place, monkeypatch):
    answer(capsys, "index", "p")
    opened: list[str] = []
    monkeypatch.setattr(search_verb.webbrowser, "open", lambda uri: opened.append(uri) or True)
    found = answer(capsys, "search", "a cat", "--open")
    assert opened == [f"file://{found['results'][0]['path']}"]
    monkeypatch.setattr(search_verb.webbrowser, "open", lambda uri: False)
    assert run(["search", "a cat", "--open"]) == 1
    assert "--open" in capsys.readouterr().err
