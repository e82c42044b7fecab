"""An index follows its data: new, changed, moved, copied and deleted files; kills at random moments; broken pictures."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from drawn_folder import draw

from diptych.core.errors import DiptychError, UsageError
from diptych.search import build as building
from diptych.search.build import build
from diptych.search.index import Index
from diptych.search.manifest import Manifest, locked
from diptych.search.snapshot import Snapshot
from diptych.search.store import Store


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(building, "CHUNK", 8)


def held(folder: Path) -> dict[str, tuple[str, np.ndarray]]:
    """What the table holds: path → (id, vector). Fails where a path is there twice."""
    manifest = Manifest.read(folder)
    assert manifest is not None
    snapshot = Snapshot.of(Store(folder, manifest.table))
    paths, names = (snapshot.rows.column(name).to_pylist() for name in ("path", "id"))
    assert len(set(paths)) == len(paths)
    assert len(set(names)) == len(names)
    return {path: (name, np.array(row)) for path, name, row in zip(paths, names, snapshot.vectors_ND, strict=True)}


def counts(report) -> tuple[int, ...]:
    return tuple(getattr(report, name) for name in ("added", "changed", "moved", "deleted", "renewed", "unchanged", "embedded"))


def test_only_what_is_new_or_has_changed_is_embedded(tmp_path, mini):
    pictures, folder = tmp_path / "p", tmp_path / "i"
    paths = draw(pictures, 20)
    other = draw(tmp_path / "other", 6, start=100)
    assert counts(build(pictures, folder, mini)) == (20, 0, 0, 0, 0, 0, 20)
    assert counts(build(pictures, folder, mini)) == (0, 0, 0, 0, 0, 20, 0)
    before = held(folder)

    (pictures / "deep").mkdir()
    moved = pictures / "deep" / "moved.webp"
    paths[0].rename(moved)
    paths[1].unlink()
    paths[2].write_bytes(other[0].read_bytes())
    os.utime(paths[3], (1, 1))
    copy = pictures / "copy.webp"
    copy.write_bytes(paths[4].read_bytes())
    new = pictures / "new.webp"
    new.write_bytes(other[1].read_bytes())
    assert counts(build(pictures, folder, mini)) == (2, 1, 1, 1, 1, 16, 2)

    after = held(folder)
    assert set(after) == {*map(str, paths[2:]), str(moved), str(copy), str(new)}
    assert after[str(moved)][0] == before[str(paths[0])][0], "a moved picture keeps its id"
    assert (after[str(moved)][1] == before[str(paths[0])][1]).all()
    wanted = mini.encode_image(list(after)).numpy()
    assert np.stack([vector for _, vector in after.values()]) == pytest.approx(wanted, abs=1e-5)
    assert counts(build(pictures, folder, mini)) == (0, 0, 0, 0, 0, 21, 0)


def test_a_name_that_changed_hands_does_not_hand_over_the_wrong_vector(tmp_path, mini):
    """b takes a's content while a gets a new one; and the old content comes back under the old name afterwards."""
    pictures, folder = tmp_path / "p", tmp_path / "i"
    first, *_ = draw(pictures, 3)
    old, fresh = first.read_bytes(), draw(tmp_path / "other", 1, start=100)[0].read_bytes()
    build(pictures, folder, mini)
    (pictures / "b.webp").write_bytes(old)
    first.write_bytes(fresh)
    for _ in range(2):
        build(pictures, folder, mini)
        found = held(folder)
        assert np.stack([vector for _, vector in found.values()]) == pytest.approx(mini.encode_image(list(found)).numpy(), abs=1e-5)
        first.unlink(missing_ok=True)
        (pictures / "c.webp").write_bytes((pictures / "b.webp").read_bytes())
    (pictures / "b.webp").rename(first)
    build(pictures, folder, mini)
    found = held(folder)
    assert np.stack([vector for _, vector in found.values()]) == pytest.approx(mini.encode_image(list(found)).numpy(), abs=1e-5)


def test_words_beside_a_picture_are_followed_without_embedding(tmp_path, mini):
    pictures, folder = tmp_path / "p", tmp_path / "i"
    path = draw(pictures, 3)[0]
    path.with_suffix(".txt").write_text("first words\nmore")
    build(pictures, folder, mini)
    path.with_suffix(".txt").write_text("other words")
    assert counts(build(pictures, folder, mini)) == (0, 0, 0, 0, 1, 2, 0)
    index = Index.open(folder, mini)
    assert {index.row(name)["path"]: index.row(name)["caption"] for name in index.ids()}[str(path)] == "other words"


def test_broken_pictures_are_listed_and_leave(tmp_path, mini):
    pictures, folder = tmp_path / "p", tmp_path / "i"
    paths = draw(pictures, 5)
    (pictures / "text.png").write_text("no picture")
    (pictures / "cut.webp").write_bytes(paths[0].read_bytes()[:200])
    (pictures / "gone.png").symlink_to(tmp_path / "nowhere")
    report = build(pictures, folder, mini)
    assert sorted(Path(where).stem for where, _ in report.broken) == ["cut", "gone", "text"]
    assert report.pictures == 5
    assert len(build(pictures, folder, mini).broken) == 3, "listed again when nothing has changed"
    paths[1].write_text("broken now")
    report = build(pictures, folder, mini)
    assert (len(report.broken), report.deleted, report.pictures) == (4, 1, 4)


def test_sources_are_kept_apart(tmp_path, mini):
    first, second = draw(tmp_path / "a", 4), draw(tmp_path / "b", 4, start=50)
    build([tmp_path / "a", tmp_path / "b"], tmp_path / "i", mini)
    second[0].unlink()
    assert counts(build(tmp_path / "a", tmp_path / "i", mini))[3] == 0
    assert len(held(tmp_path / "i")) == 8
    first[0].rename(tmp_path / "b" / "from_a.webp")
    assert counts(build([tmp_path / "a", tmp_path / "b"], tmp_path / "i", mini))[:4] == (0, 0, 1, 1)
    assert set(held(tmp_path / "i")) == {*map(str, first[1:]), *map(str, second[1:]), str(tmp_path / "b" / "from_a.webp")}


def test_an_empty_folder_changes_nothing(tmp_path, mini):
    paths = draw(tmp_path / "p", 3)
    build(tmp_path / "p", tmp_path / "i", mini)
    for path in paths:
        path.unlink()
    with pytest.raises(UsageError, match="empty"):
        build(tmp_path / "p", tmp_path / "i", mini)
    assert len(held(tmp_path / "i")) == 3


def test_a_stray_table_does_not_hide_the_pictures(tmp_path, mini):
    draw(tmp_path / "p", 3)
    (tmp_path / "p" / "notes.csv").write_text("day,spent\nmonday,3\n")
    report = build(tmp_path / "p", tmp_path / "i", mini)
    assert report.pictures == 3
    assert any("folder of images; notes.csv is left out" in note for note in report.notes)


def test_one_writer_at_a_time(tmp_path, mini):
    draw(tmp_path / "p", 2)
    (tmp_path / "i").mkdir()
    with locked(tmp_path / "i"), pytest.raises(DiptychError, match="another process"):
        build(tmp_path / "p", tmp_path / "i", mini)


def test_a_lost_snapshot_is_made_again(tmp_path, mini):
    draw(tmp_path / "p", 5)
    build(tmp_path / "p", tmp_path / "i", mini)
    before = held(tmp_path / "i")
    for path in next((tmp_path / "i").glob("snapshot-*")).iterdir():
        path.unlink()
    next((tmp_path / "i").glob("snapshot-*")).rmdir()
    after = held(tmp_path / "i")
    assert {path: name for path, (name, _) in before.items()} == {path: name for path, (name, _) in after.items()}


def test_kills_at_random_moments_lose_and_repeat_nothing(tmp_path, mini):
    """After every SIGKILL the table is readable and has lost nothing; in the end each picture is there once, with its own vector.

    What may be embedded twice is the chunk under way at each kill, no more.
    """
    pictures, folder = tmp_path / "p", tmp_path / "i"
    paths = draw(pictures, 60)
    draw_, kills, last = random.Random(os.urandom(8)), 0, 0
    server = [sys.executable, str(Path(__file__).with_name("killed_builds.py"))]
    with subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for turn in range(40):
            seconds = 60.0 if turn >= 8 else draw_.uniform(0.05, 1.2)
            process.stdin.write(f"{pictures}\t{folder}\t{seconds}\n")
            process.stdin.flush()
            said = process.stdout.readline()
            assert said in ("killed\n", "done\n")
            if folder.is_dir() and Manifest.read(folder) is not None:
                found = held(folder)
                assert len(found) >= last
                last = len(found)
            kills += said == "killed\n"
            if said == "done\n":
                break
        process.stdin.close()
    assert kills
    found = held(folder)
    assert set(found) == set(map(str, paths))
    assert np.stack([vector for _, vector in found.values()]) == pytest.approx(mini.encode_image(list(found)).numpy(), abs=1e-5)
    embedded = sum(map(int, Path(f"{folder}.log").read_text().split()))
    assert embedded <= 60 + 6 * kills
    assert counts(build(pictures, folder, mini)) == (0, 0, 0, 0, 0, 60, 0)


def test_looking_again_costs_nothing_where_nothing_was_written(tmp_path, monkeypatch):
    """A server looks every second: a view is made anew only after pictures or marks have come."""
    from diptych.search import index as indexing

    draw(tmp_path / "p", 8)
    index, _ = Index.build(tmp_path / "p", tmp_path / "i", "mini")
    made = []
    whole = indexing.View.of
    monkeypatch.setattr(indexing.View, "of", lambda *given: made.append(1) or whole(*given))
    assert [index.refresh() for _ in range(3)] == [False] * 3
    assert made == []
    draw(tmp_path / "p", 12)
    build(tmp_path / "p", tmp_path / "i", index.model)
    assert index.refresh() is True
    assert (len(index), len(made)) == (12, 1)
    assert index.refresh() is False
    assert len(made) == 1
    (tmp_path / "i" / "feedback.jsonl").write_text("")
    index.refresh()
    assert len(made) == 2
