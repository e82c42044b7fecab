"""The search index: what it finds, and what it refuses."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path

import numpy as np
import pytest
from drawn_folder import draw
from PIL import Image

import diptych
from diptych.core.errors import DiptychError, UsageError
from diptych.data import pictograms
from diptych.search.approximate import build_approximate, nearest
from diptych.search.build import build
from diptych.search.dictionary import entries, in_english
from diptych.search.exact import best, similarities
from diptych.search.index import Index
from diptych.search.query import Query
from diptych.search.snapshot import Snapshot
from diptych.search.store import Store
from diptych.towers.dual import DualEncoder
from diptych.towers.presets import preset


@pytest.fixture(scope="module")
def drawings(tmp_path_factory, mini) -> Index:
    folder = tmp_path_factory.mktemp("drawings")
    draw(folder / "p", 120)
    return Index.build(folder / "p", folder / "index", mini)[0]


def rows(index: Index) -> np.ndarray:
    return np.array(index._view.snapshot.vectors_ND)


def test_stored_vectors_are_the_model_s(drawings):
    paths = [drawings.picture(name) for name in drawings.ids()]
    assert rows(drawings) == pytest.approx(drawings.model.encode_image(paths).numpy(), abs=1e-5)


def test_exact_search_is_argsort(drawings):
    """Against a float64 sort of all cosines; no two of them are nearer than float32 can tell apart."""
    vector_D = drawings.model.encode_text(["a cat"])[0].double().numpy()
    wanted = np.argsort(-(rows(drawings).astype(np.float64) @ vector_D), kind="stable")[:25]
    answer = drawings.search(Query.of("a cat"), k=25, group_duplicates=False)
    assert [hit.id for hit in answer.results] == [drawings.ids()[i] for i in wanted]
    assert answer.exact
    assert answer.results[0].similarity == pytest.approx(float(rows(drawings)[wanted[0]] @ vector_D), abs=1e-5)
    assert drawings.search(Query.of("a cat"), k=500, group_duplicates=False).searched == 120 == len(drawings)


def test_words_of_the_corpus_are_read_in_english():
    """Names by their one concept, keywords by theirs; English and what nobody knows stay as they are."""
    assert in_english("mela rossa") == in_english("  Mela  Rossa ") == "red apple"
    assert in_english("mela") == "green apple, red apple"
    assert in_english("ม้า") == "horse"
    for text in ("gift", "chat", "red apple", "A Red Apple", "la mela rossa", "qwxz", ""):
        assert in_english(text) == text
    named = {name for concept in pictograms.concepts() for language, name in concept.names.items() if language[:2] == "en"}
    assert not named & entries().keys()


LANGUAGES = sorted(pictograms.concepts()[0].names)


@pytest.mark.parametrize("language", LANGUAGES)
def test_mini_is_asked_in_any_language_of_the_corpus(drawings, language):
    """Half of twelve names find their drawing first among 120 of 63 concepts; guessing would find one of 63."""
    label_of = {sample.id: sample.label for sample in pictograms.samples("validation")[:120]}
    asked = sorted(set(label_of.values()))[::5][:12]
    texts = [pictograms.concepts()[label].names[language] for label in asked]
    found = [drawings.search(Query.of(text), k=1, group_duplicates=False).results[0] for text in texts]
    assert sum(label_of[Path(hit.path).stem] == label for hit, label in zip(found, asked, strict=True)) >= 6


def test_best_is_a_stable_argsort_with_ties():
    draw_ = np.random.default_rng(0)
    for _ in range(50):
        values = draw_.integers(0, 6, 40).astype(np.float32)
        for k in (0, 1, 7, 39, 40, 90):
            assert best(values, k).tolist() == np.argsort(-values, kind="stable")[:k].tolist()


def test_similarities_are_the_product_in_blocks(monkeypatch):
    monkeypatch.setattr("diptych.search.exact.BLOCK_BYTES", 100)
    draw_ = np.random.default_rng(0)
    vectors, query, chosen = draw_.standard_normal((57, 8)).astype("f4"), draw_.standard_normal(8).astype("f4"), np.array([3, 50, 4, 4])
    assert similarities(vectors, query) == pytest.approx(vectors.astype("f8") @ query, abs=1e-5)
    assert similarities(vectors, query, chosen) == pytest.approx(vectors[chosen].astype("f8") @ query, abs=1e-5)


def test_a_query_s_parts_add_up(drawings):
    """Words, a picture and a picture of the index, by hand: each unit row times weight over its deviation, in float64."""
    name, path = drawings.ids()[7], drawings.picture(drawings.ids()[3])
    query = Query((("a cat", 2.0), ("a dog", -0.5)), ((path, 1.0),), ((name, 1.0),))
    parts_PD = np.concatenate(
        [drawings.model.encode_text(["a cat", "a dog"]).numpy(), drawings.model.encode_image([path]).numpy(), rows(drawings)[7:8]]
    ).astype(np.float64)
    spread = np.array([(rows(drawings).astype(np.float64) @ part).std() for part in parts_PD])
    direction = (np.array([2.0, -0.5, 1.0, 1.0]) / spread) @ parts_PD
    order = np.argsort(-(rows(drawings) @ direction))
    found = drawings.search(query, k=20, group_duplicates=False).results
    assert [hit.id for hit in found] == [drawings.ids()[i] for i in order if i != 7][:20]


def test_a_picture_finds_itself_and_like_leaves_it_out(drawings):
    name = drawings.ids()[5]
    path = drawings.picture(name)
    for image in (path, Path(path).read_bytes(), Image.open(path)):
        best_hit = drawings.search(Query(images=((image, 1.0),)), k=1).results[0]
        assert best_hit.id == name
        assert best_hit.similarity == pytest.approx(1.0, abs=1e-3)
        assert best_hit.score > 0.9
    assert name not in [hit.id for hit in drawings.search(Query(like=((name, 1.0),)), k=119).results]


def test_rows_that_are_given_are_used(drawings):
    query = Query.of("a cat")
    given = drawings.encode(Query.of("a tree"))
    assert drawings.search(query, rows=given).results == drawings.search(Query.of("a tree")).results
    with pytest.raises(UsageError, match="rows"):
        drawings.search(query, rows=given[:, :5])


@pytest.mark.parametrize("name", ["0" * 16, "../../etc/passwd", "' OR 1=1 --", ""])
def test_only_ids_of_the_index_open_anything(drawings, name):
    for ask in (drawings.picture, drawings.row, lambda id: drawings.search(Query(like=((id, 1.0),)))):
        with pytest.raises(DiptychError, match="id"):
            ask(name)


def test_a_picture_that_was_exchanged_is_not_shown(tmp_path, mini):
    paths = draw(tmp_path / "p", 3)
    index = Index.build(tmp_path / "p", tmp_path / "i", mini)[0]
    at = {index.row(name)["path"]: name for name in index.ids()}
    secret = tmp_path / "secret"
    secret.write_text("secret")
    paths[0].unlink()
    paths[0].symlink_to(secret)
    paths[1].unlink()
    for path in paths[:2]:
        with pytest.raises(DiptychError, match="gone or has changed"):
            index.picture(at[str(path)])
    assert index.picture(at[str(paths[2])]) == paths[2]


def test_pictures_inside_a_set_come_out_as_they_are(tmp_path, mini):
    samples = pictograms.samples("validation")[:4]
    table = tmp_path / "t.parquet"
    import pyarrow as pa
    import pyarrow.parquet as parquet

    columns = {"image": [s.image for s in samples], "caption": [s.captions[0] for s in samples], "id": [s.id for s in samples]}
    parquet.write_table(pa.table({**columns, "year": [2019, 2020, 2021, 2022]}), table)
    index = Index.build(table, tmp_path / "i", mini)[0]
    for name in index.ids():
        row = index.row(name)
        sample = next(sample for sample in samples if sample.id == row["key"])
        assert index.picture(name) == sample.image
        assert row["caption"] == sample.captions[0]
    found = index.search(Query.of("a cat"), where="year > 2020")
    assert sorted(hit.meta["year"] for hit in found.results) == [2021, 2022]
    assert found.searched == 2


def test_another_model_is_an_error_that_offers_re_embed(tmp_path, mini):
    paths = draw(tmp_path / "p", 4)
    folder, other = tmp_path / "i", DualEncoder(preset("tiny"), seed=1)
    build(tmp_path / "p", folder, mini)
    for act in (lambda: Index.open(folder, other), lambda: build(tmp_path / "p", folder, other)):
        with pytest.raises(DiptychError, match="--re-embed"):
            act()
    marked = Index.open(folder, mini)
    report = build(tmp_path / "p", folder, other, re_embed=True)
    assert (report.added, report.pictures) == (4, 4)
    again = Index.open(folder, other)
    assert sorted(again.row(name)["path"] for name in again.ids()) == sorted(map(str, paths))
    assert not list(folder.glob(f"{marked.manifest.table}.lance"))
    with pytest.raises(DiptychError, match="another model"):
        marked.refresh()


def test_a_model_that_computes_something_else_is_found_out(tmp_path, mini):
    draw(tmp_path / "p", 2)
    build(tmp_path / "p", tmp_path / "i", mini)
    changed, known = diptych.load("mini"), mini.fingerprint()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(changed), "fingerprint", lambda self: known)
        changed.log_scale.data += 1.0  # no vector depends on it
        Index.open(tmp_path / "i", changed)
        next(changed.image_projection.parameters()).data.mul_(-1.0)
        with pytest.raises(DiptychError, match="other image vectors"):
            Index.open(tmp_path / "i", changed)


def test_without_lancedb_the_error_names_the_command(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "lancedb":
            raise ImportError("No module named 'lancedb'")
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "lancedb", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DiptychError, match=r"pip install 'diptych\[search\]'"):
        Store(tmp_path, "t", 4)


def test_a_folder_without_an_index_and_a_damaged_one(tmp_path, mini):
    with pytest.raises(DiptychError, match="no index in this folder"):
        Index.open(tmp_path, mini)
    (tmp_path / "index.json").write_text('{"format": "other"}')
    with pytest.raises(DiptychError, match=r"index\.json"):
        Index.open(tmp_path, mini)


@pytest.mark.parametrize("bad", [{"k": 0}, {"diverse": 1.5}, {"where": "year >"}, {"where": "nothing = 1"}])
def test_bad_arguments_of_a_search_are_usage_errors(drawings, bad):
    with pytest.raises(UsageError):
        drawings.search(Query.of("a cat"), **bad)


@pytest.mark.parametrize(
    "parts", [{}, {"words": (("", 1.0),)}, {"words": (("a", 0.0),)}, {"words": (("a", float("nan")),)}, {"words": (("a", -1.0),)}]
)
def test_queries_that_ask_for_nothing_are_usage_errors(parts):
    with pytest.raises(UsageError):
        Query(**parts)


def test_the_approximate_index_reports_what_it_misses(tmp_path):
    """Recall as reported is measured again here by another way of asking."""
    draw_ = np.random.default_rng(0)
    centres = draw_.standard_normal((30, 16)).astype("f4")
    vectors = centres[draw_.integers(0, 30, 1500)] + 0.5 * draw_.standard_normal((1500, 16)).astype("f4")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    store = Store(tmp_path, "t", 16)
    blank = dict.fromkeys(("source", "key", "path", "hash", "caption", "label", "meta"), "") | {"size": -1, "time": -1}
    store.add([{**blank, "id": f"{i:016x}", "slot": i, "vector": vector} for i, vector in enumerate(vectors)])
    found = build_approximate(store, Snapshot.of(store))
    assert found["recall"] >= 0.95
    hits = 0
    for query in vectors[::50]:
        truth = {f"{i:016x}" for i in np.argsort(-(vectors @ query))[:10]}
        hits += len(truth & set(store.nearest(query, 10, found["probes"], found["refine"])))
    assert hits / 300 >= 0.9
    assert build_approximate(store, Snapshot.of(store), aim=1.01)["recall"] <= 1.0 < 1.01


@pytest.mark.parametrize("count", [3, 64, 100])
def test_the_truth_is_found_in_parts_of_the_file(tmp_path, monkeypatch, count):
    """Parts of 7 rows give what sorting all similarities gives, whatever is left over at the end."""
    monkeypatch.setattr("diptych.search.snapshot.BLOCK_BYTES", 7 * 4 * 16)
    vectors = np.random.default_rng(count).standard_normal((count, 16)).astype("f4")
    store = Store(tmp_path, "t", 16)
    blank = dict.fromkeys(("source", "key", "path", "hash", "caption", "label", "meta"), "") | {"size": -1, "time": -1}
    store.add([{**blank, "id": f"{i:016x}", "slot": i, "vector": vector} for i, vector in enumerate(vectors)])
    snapshot, queries = Snapshot.of(store), np.random.default_rng(1).standard_normal((5, 16)).astype("f4")
    assert [start for start, _ in snapshot.blocks()] == list(range(0, count, 7))
    for found, query in zip(nearest(snapshot, queries, 10), queries, strict=True):
        assert set(found.tolist()) == set(np.argsort(-(vectors @ query))[:10].tolist())


def test_search_goes_through_the_approximate_index_above_the_limit(tmp_path, mini, monkeypatch):
    paths = draw(tmp_path / "p", 40)
    monkeypatch.setattr("diptych.search.build.LIMIT", 30)
    monkeypatch.setattr("diptych.search.approximate.Approximate.limit", 30)
    index, report = Index.build(tmp_path / "p", tmp_path / "i", mini)
    assert report.approximate is not None
    answer = index.search(Query.of("a cat"), k=5)
    assert not answer.exact
    few = f"path in ('{paths[0]}', '{paths[1]}')"
    assert index.search(Query.of("a cat"), k=5, where=few).exact
    assert {hit.path for hit in index.search(Query.of("a cat"), k=5, where="path contains 'fluent'").results} <= set(map(str, paths))
    exact = np.argsort(-(rows(index) @ index.encode(Query.of("a cat"))[0]))[:5]
    assert (
        len({hit.id for hit in index.search(Query.of("a cat"), 5, group_duplicates=False).results} & {index.ids()[i] for i in exact}) >= 4
    )
