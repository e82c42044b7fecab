"""Near-duplicates, diversity and clusters, against loops."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from diptych.data import pictograms
from diptych.search.index import Index
from diptych.search.query import Query
from diptych.search.similar import diversified, duplicates, grouped


def unit(draw_, *shape):
    made = draw_.standard_normal(shape)
    return (made / np.linalg.norm(made, axis=-1, keepdims=True)).astype("f4")


def groups_by_hand(rows, threshold):
    """Each row joins the first group whose first row is near enough."""
    groups: list[list[int]] = []
    for i in range(len(rows)):
        for group in groups:
            if float(np.dot(rows[group[0]], rows[i])) >= threshold:
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_groups_are_those_of_the_loop(threshold, monkeypatch):
    monkeypatch.setattr("diptych.search.similar.BLOCK", 7)
    rows = unit(np.random.default_rng(0), 60, 4)
    wanted = groups_by_hand(rows, threshold)
    assert grouped(rows, threshold) == wanted
    assert duplicates(rows, threshold) == [group for group in wanted if len(group) > 1]
    assert duplicates(rows[:0], threshold) == []


def test_diversity_follows_the_formula():
    """Carbonell and Goldstein's rule, chosen one by one in a loop."""
    draw_ = np.random.default_rng(0)
    rows, similarity = unit(draw_, 15, 5), np.sort(draw_.random(15))[::-1]
    relevance = [(s - min(similarity)) / (max(similarity) - min(similarity)) for s in similarity]
    mean = np.mean([[a @ b for a in rows] for b in rows])
    chosen: list[int] = []
    for _ in range(6):
        worth = {}
        for i in set(range(15)) - set(chosen):
            likeness = max((min(max((rows[i] @ rows[j] - mean) / (1 - mean), 0), 1) for j in chosen), default=0.0)
            worth[i] = 0.6 * relevance[i] - 0.4 * likeness
        chosen.append(max(worth, key=lambda i: worth[i]))
    assert diversified(similarity, rows, 6, 0.4) == chosen
    assert diversified(similarity, rows, 6, 0.0) == list(range(6))
    assert chosen != list(range(6))


@pytest.fixture(scope="module")
def copies(tmp_path_factory, mini) -> Index:
    """Twelve drawings, two of them once more as JPEG, one once more at three quarters of its size."""
    folder = tmp_path_factory.mktemp("copies")
    (folder / "p").mkdir()
    seen: set[int | None] = set()
    for sample in pictograms.samples("validation"):
        if sample.label in seen or len(seen) == 12:
            continue
        seen.add(sample.label)
        drawn = Image.open(io.BytesIO(sample.image)).convert("RGBA").resize((128, 128))  # type: ignore[arg-type]
        ground = Image.new("RGB", drawn.size, "white")
        ground.paste(drawn, mask=drawn.getchannel("A"))
        ground.save(folder / "p" / f"{len(seen):02d}.png")
        if len(seen) in (3, 7):
            ground.save(folder / "p" / f"{len(seen):02d}-copy.jpg", quality=80)
        if len(seen) == 7:
            ground.resize((96, 96)).save(folder / "p" / "07-small.png")
    return Index.build(folder / "p", folder / "i", mini)[0]


def stems(index: Index, names) -> list[str]:
    return sorted(index.row(name)["key"] for name in names)


def test_copies_are_found_and_stand_behind_one_another(copies):
    assert sorted(stems(copies, group) for group in copies.duplicates()) == [["03", "03-copy"], ["07", "07-copy", "07-small"]]
    assert copies.duplicates(threshold=1.01) == []
    name = next(name for name in copies.ids() if copies.row(name)["key"] == "07")
    query = Query(images=((copies.picture(name), 1.0),))
    together, apart = copies.search(query, k=12), copies.search(query, k=15, group_duplicates=False)
    assert len(together.results) == 12
    assert stems(copies, [together.results[0].id, *together.results[0].duplicates]) == ["07", "07-copy", "07-small"]
    assert stems(copies, [hit.id for hit in apart.results[:3]]) == ["07", "07-copy", "07-small"]
    assert not any(hit.duplicates for hit in apart.results)


def test_clusters_share_out_the_pictures_under_different_names(copies):
    found = copies.clusters(4)
    assert sorted(name for cluster in found for name in cluster.ids) == sorted(copies.ids())
    assert len({cluster.name for cluster in found}) == len(found) <= 4
    assert [len(cluster.ids) for cluster in found] == sorted((len(cluster.ids) for cluster in found), reverse=True)
    assert copies.clusters(4) == found
    assert len(copies.clusters(3, copies.ids()[:2])) == 2


def test_a_cluster_is_called_by_what_it_shows(tmp_path, mini):
    wanted = {"bicycle", "hamburger", "cat"}
    for sample in pictograms.samples("train"):
        name = pictograms.concepts()[sample.label].name  # type: ignore[index]
        if name in wanted:
            (tmp_path / "p").mkdir(exist_ok=True)
            (tmp_path / "p" / f"{sample.id}.webp").write_bytes(sample.image)  # type: ignore[arg-type]
    index = Index.build(tmp_path / "p", tmp_path / "i", mini)[0]
    assert {cluster.name for cluster in index.clusters(3)} == wanted
