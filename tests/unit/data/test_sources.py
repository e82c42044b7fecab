"""What ``open`` recognises, what it guesses, what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from drawn_pairs import Pair, encode, noise_image, write_csv, write_folder, write_images, write_jsonl, write_parquet

import diptych.data
from diptych.core.errors import DiptychError, UsageError
from diptych.data.open import open as open_data
from diptych.data.sources.base import BrokenSample, as_captions, clean_id, split_key

PNG = encode(noise_image(1))


def put(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def test_open_is_a_function_whatever_was_imported_first() -> None:
    assert isinstance(diptych.data.open, ModuleType)  # importing the submodule puts it in the function's place
    for way in (diptych.data.open, diptych.data.__getattr__("open"), open_data):
        with pytest.raises(UsageError, match="no such file or folder"):
            way("x.csv")


def test_the_package_is_light() -> None:
    code = "import diptych.data, sys; assert not {'torch', 'numpy', 'pyarrow'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_class_folders(tmp_path: Path) -> None:
    root = put(tmp_path, {f"{name}/{i}.png": PNG for name in ("polar_bear", "ant") for i in range(2)})
    dataset = open_data(root)
    assert dataset.kind == "class folders"
    assert dataset.classes == ("ant", "polar_bear")
    assert dataset.ids == ["ant/0", "ant/1", "polar_bear/0", "polar_bear/1"]
    assert (dataset[2].label, dataset[2].concept, dataset[2].captions) == (1, "polar_bear", ("polar bear",))
    assert dataset.captions(0) == ("ant",)
    assert "4 samples" in dataset.describe()
    assert "2 classes" in dataset.describe()


def test_class_folders_take_their_names_from_classnames(tmp_path: Path) -> None:
    root = put(tmp_path, {"n01/a.png": PNG, "n02/b.png": PNG, "classnames.txt": "tench\ngoldfish\n"})
    assert open_data(root).classes == ("tench", "goldfish")


def test_splits_of_folders_and_files(tmp_path: Path) -> None:
    root = put(tmp_path / "f", {f"{split}/{name}/a.png": PNG for split in ("train", "val") for name in ("x", "y")})
    assert (open_data(root).split, open_data(root).splits) == ("train", ("train", "validation"))
    assert open_data(root, split="val").split == "validation"
    assert open_data(root, split="validation").path.endswith("val")
    with pytest.raises(UsageError, match="no such split"):
        open_data(root, split="test")
    table = put(tmp_path / "t", {"a.png": PNG, "b.png": PNG, "train.csv": "image,text\na.png,one\n", "test.csv": "image,text\nb.png,two\n"})
    assert open_data(table)[0].captions == ("one",)
    assert open_data(table, split="test")[0].captions == ("two",)
    with pytest.raises(UsageError, match="no use for it"):
        open_data(put(tmp_path / "p", {"a.png": PNG}), split="test")


def test_json_beside_images_and_its_keys(tmp_path: Path) -> None:
    root = put(tmp_path, {"sub/a.jpg": PNG, "sub/a.json": json.dumps({"captions": ["x", "y"], "url": "u", "title": "t"})})
    assert open_data(root)[0].captions == ("x", "y")
    assert open_data(root)[0].meta == {"url": "u", "title": "t"}
    assert open_data(root, caption="title")[0].captions == ("t",)
    with pytest.raises(UsageError, match="Did you mean 'title'"):
        open_data(root, caption="titel")


def test_images_alone_have_no_captions(tmp_path: Path) -> None:
    dataset = open_data(put(tmp_path, {"a.png": PNG, "b.png": PNG, "notes.txt": "not a caption of anything"}))
    assert [sample.captions for sample in dataset] == [(), ()]
    assert any("no captions" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("filepath,title", {"image": "filepath", "caption": "title"}),
        ("Image,Caption,label", {"image": "Image", "caption": "Caption", "label": "label"}),
        ("id,file_name,text", {"image": "file_name", "caption": "text", "id": "id"}),
        ("thing,words,where", {"image": "where", "caption": "words"}),
    ],
)
def test_columns_are_guessed(tmp_path: Path, header: str, expected: dict[str, str]) -> None:
    cells = dict.fromkeys(("filepath", "Image", "file_name", "where"), "a.png")
    cells |= {
        "title": "a red ball",
        "Caption": "a red ball",
        "text": "a red ball",
        "words": "a red ball",
        "label": "7",
        "id": "q",
        "thing": "z",
    }
    row = ",".join(cells[name] for name in header.split(","))
    root = put(tmp_path, {"a.png": PNG, "t.csv": f"{header}\n{row}\n"})
    dataset = open_data(root / "t.csv")
    assert dataset.columns == expected
    assert dataset[0].captions == ("a red ball",)
    assert dataset[0].image == (root / "a.png").resolve()
    assert dataset[0].label == (7 if "label" in header else None)


def test_columns_can_be_named(tmp_path: Path) -> None:
    rows = "a.png,wrong words here,right,b,k1\na.png,more wrong words,left,a,k2\n"
    root = put(tmp_path, {"a.png": PNG, "t.csv": f"image,caption,alt,kind,key\n{rows}"})
    dataset = open_data(root / "t.csv", caption=["alt", "caption"], label="kind", id="key")
    assert dataset.ids == ["k1", "k2"]
    assert dataset[0].captions == ("right", "wrong words here")
    assert (dataset.classes, dataset[0].label) == (("a", "b"), 1)
    for part in ("image", "caption", "label", "id"):
        with pytest.raises(UsageError, match="no such column"):
            open_data(root / "t.csv", **{part: "captoin"})


def test_tables_without_captions_use_class_names(tmp_path: Path) -> None:
    dataset = open_data(put(tmp_path, {"a.png": PNG, "b.png": PNG, "t.csv": "image,label\na.png,sea_lion\nb.png,ox\n"}) / "t.csv")
    assert [s.captions for s in dataset] == [("sea lion",), ("ox",)]
    assert [s.concept for s in dataset] == ["sea_lion", "ox"]


def test_quotes_delimiters_and_bom(tmp_path: Path) -> None:
    root = put(tmp_path, {"a.png": PNG, "t.csv": '\ufeffimage;text\na.png;"one; two\nthree"\n', "bad.csv": "image,text\na.png,one,two\n"})
    assert open_data(root / "t.csv")[0].captions == ("one; two\nthree",)
    with pytest.raises(UsageError, match="3 cells, the header has 2"):
        open_data(root / "bad.csv")


@pytest.mark.parametrize("cell", ["../secret.png", "/etc/hostname.png", "sub/../../secret.png", "https://example.org/a.png", ""])
def test_paths_stay_under_the_table(tmp_path: Path, cell: str) -> None:
    put(tmp_path, {"secret.png": PNG, "in/a.png": PNG, "in/t.csv": f"image,text\na.png,fine words\n{cell},some words\n"})
    dataset = open_data(tmp_path / "in" / "t.csv")
    assert len(dataset) == 2
    found: list[str] = []
    for index in range(2):
        try:
            found.append(str(dataset[index].image))
        except BrokenSample as error:
            found.append(error.why)
    assert sum(str(tmp_path / "in" / "a.png") == one for one in found) == 1
    assert any("lies outside" in one or "is an address" in one or "names no image" in one for one in found)


def test_root_allows_other_places(tmp_path: Path) -> None:
    put(tmp_path, {"pictures/a.png": PNG, "in/t.csv": f"image,text\na.png,relative to root\n{tmp_path}/pictures/a.png,absolute\n"})
    dataset = open_data(tmp_path / "in" / "t.csv", root=tmp_path / "pictures")
    assert {str(sample.image) for sample in dataset} == {str(tmp_path / "pictures" / "a.png")}


def test_parquet_by_row_group_and_in_several_files(tmp_path: Path, pairs: list[Pair]) -> None:
    write_parquet(tmp_path / "one", pairs, groups=7)
    dataset = open_data(tmp_path / "one" / "table.parquet")
    for index in (199, 0, 7, 6, 100, 13):
        assert dataset[index].image == pairs[index].png
    (tmp_path / "two").mkdir()
    for part, name in ((pairs[:120], "train-00000-of-00002"), (pairs[120:], "train-00001-of-00002"), (pairs[:9], "test-00000-of-00001")):
        write_parquet(tmp_path / name, part).rename(tmp_path / "two" / f"{name}.parquet")
    both = open_data(tmp_path / "two")
    assert (len(both), both.split, both.splits) == (200, "train", ("test", "train"))
    assert [sample.image for sample in both] == [pair.png for pair in pairs]
    assert len(open_data(tmp_path / "two", split="test")) == 9


def save_to_disk(root: Path, pairs: list[Pair], features: dict[str, Any]) -> None:
    """What ``datasets.Dataset.save_to_disk`` writes (looked at with version 3), by hand."""
    import pyarrow as pa

    root.mkdir(parents=True)
    rows = [{"image": {"bytes": pair.png, "path": None}, "text": pair.captions[0], "label": i % 2} for i, pair in enumerate(pairs)]
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(root / "data-00000-of-00001.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    (root / "dataset_info.json").write_text(json.dumps({"features": features}))
    (root / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))


def test_saved_hugging_face_dataset(tmp_path: Path, pairs: list[Pair]) -> None:
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    for split, part in (("train", pairs[:6]), ("test", pairs[6:9])):
        save_to_disk(tmp_path / "hub" / split, part, features)
    (tmp_path / "hub" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    dataset = open_data(tmp_path / "hub")
    assert dataset.kind == "saved Hugging Face dataset"
    assert (dataset.split, dataset.splits, dataset.classes) == ("train", ("test", "train"), ("cat", "dog"))
    assert [(s.image, s.captions[0], s.label) for s in dataset] == [(p.png, p.captions[0], i % 2) for i, p in enumerate(pairs[:6])]
    assert len(open_data(tmp_path / "hub", split="test")) == len(open_data(tmp_path / "hub" / "test")) == 3
    (tmp_path / "hub" / "train" / "data-00000-of-00001.arrow").write_bytes(b"rubbish")
    with pytest.raises(DiptychError, match="Arrow file cannot be read"):
        open_data(tmp_path / "hub")


def test_nothing_there_is_a_usage_error(tmp_path: Path) -> None:
    put(tmp_path, {"x.zip": b"PK", "t.csv": "image,text\n", "a.tar.gz": b"", "empty.jsonl": "", "bad.jsonl": "{", "words/readme.md": "x"})
    (tmp_path / "void").mkdir()
    for name in ("x.zip", "t.csv", "a.tar.gz", "empty.jsonl", "bad.jsonl", "words", "void", "absent.csv", "./absent"):
        with pytest.raises(UsageError):
            open_data(tmp_path / name)
    with pytest.raises(UsageError):
        open_data("no-such-set")


def test_fingerprint_follows_content(tmp_path: Path, pairs: list[Pair]) -> None:
    write_folder(tmp_path / "folder", pairs[:5])
    write_csv(tmp_path / "csv", pairs[:5])
    write_jsonl(tmp_path / "jsonl", pairs[:5])
    for path, changed in (
        ("folder", "folder/p0001.png"),
        ("folder", "folder/p0002.txt"),
        ("csv", "csv/p0001.png"),
        ("jsonl", "jsonl/table.jsonl"),
    ):
        before = open_data(tmp_path / path).fingerprint()
        assert open_data(tmp_path / path).fingerprint() == before
        (tmp_path / changed).write_bytes((tmp_path / changed).read_bytes() + b" ")
        assert open_data(tmp_path / path).fingerprint() != before


def test_select_and_indexing(tmp_path: Path, pairs: list[Pair]) -> None:
    write_images(tmp_path / "x", pairs[:9])
    dataset = open_data(tmp_path / "x")
    part = dataset.select([4, 2])
    assert part.ids == ["p0004", "p0002"]
    assert [sample.id for sample in part] == part.ids
    assert dataset[-1].id == "p0008"
    assert part.fingerprint() != dataset.select([2, 4]).fingerprint()
    with pytest.raises(IndexError):
        dataset[9]
    with pytest.raises(UsageError):
        dataset.select([9])


def test_embedded_sets_are_datasets() -> None:
    from diptych.data.sets.find import find, names

    for name in names()[:1]:
        dataset = open_data(name)
        assert dataset.ids == sorted(sample.id for sample in find(name).samples())
        assert dataset.classes == (find(name).classes or None)
        assert dataset.sealed == find(name).sealed


def test_small_parts() -> None:
    assert split_key("a/b.seg.PNG") == ("a/b", "seg.png")
    assert clean_id("/../a\\..\\b/./c\0") == "a/b/c"
    assert clean_id("../..") == "_"
    assert as_captions([{"raw": " x "}, "y", "", None, ["z"]]) == ("x", "y", "z")
    assert diptych.data.open is not None
