"""Tars: the layouts that exist, and those that an enemy would write."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from drawn_pairs import Pair, add, encode, noise_image, write_tars

from diptych.core.errors import DiptychError, UsageError
from diptych.data.open import open as open_data
from diptych.data.sources import shards, tar
from diptych.data.sources.base import BrokenSample

PNG = encode(noise_image(1))


def benchmark_layout(root: Path, told: str = "2") -> Path:
    """The folder that CLIP_benchmark publishes."""
    for split in ("train", "test"):
        (root / split).mkdir(parents=True)
        for shard in range(2):
            with tarfile.open(root / split / f"{shard}.tar", "w") as file:
                for i in range(3):
                    add(file, f"s{shard}{i}.webp", encode(noise_image(i), "WEBP"))
                    add(file, f"s{shard}{i}.cls", str(i % 2).encode())
        (root / split / "nshards.txt").write_text(told)
    (root / "classnames.txt").write_text("tabby cat\nred fox\n")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\na drawing of a {c}.\n")
    return root


def test_clip_benchmark_layout(tmp_path: Path) -> None:
    dataset = open_data(benchmark_layout(tmp_path / "x"), split="test")
    assert (len(dataset), dataset.shards, dataset.split, dataset.splits) == (6, 2, "test", ("test", "train"))
    assert dataset.classes == ("tabby cat", "red fox")
    assert dataset.templates == ("a photo of a {}.", "a drawing of a {}.")
    assert [sample.label for sample in dataset] == [0, 1, 0, 0, 1, 0]
    assert dataset[1].captions == ("red fox",)
    assert dataset[1].concept == "red fox"
    with pytest.raises(UsageError, match=r"nshards.txt says 3 tars and 2 are there"):
        open_data(benchmark_layout(tmp_path / "y", told="3"))


def test_json_keys_and_wrong_ones(tmp_path: Path, pairs: list[Pair]) -> None:
    root = write_tars(tmp_path / "t", pairs[:10], 1, "alt")
    assert open_data(root)[0].captions == ()
    assert open_data(root, caption="alt")[0].captions == pairs[0].captions
    with pytest.raises(UsageError, match="Did you mean 'alt'"):
        open_data(root, caption="altt")
    with pytest.raises(UsageError, match=r"the tars hold \.png"):
        open_data(root, image="jpg")
    assert open_data(root, image="png").columns["image"] == "png"


def test_keys_that_repeat_across_shards(tmp_path: Path, pairs: list[Pair]) -> None:
    for name in ("a", "b"):
        write_tars(tmp_path / name, pairs[:3], 1)
        (tmp_path / name / "00000.tar").rename(tmp_path / f"{name}.tar")
        (tmp_path / name).rmdir()
    assert open_data(tmp_path).ids == ["a/p0000", "a/p0001", "a/p0002", "b/p0000", "b/p0001", "b/p0002"]


def odd_members(file: tarfile.TarFile) -> None:
    """Links to a secret, a device, a pipe."""
    for name, kind, target in (
        ("link.png", tarfile.SYMTYPE, "/etc/passwd"), ("hard.png", tarfile.LNKTYPE, "good.png"),
        ("null.png", tarfile.CHRTYPE, ""), ("disk.png", tarfile.BLKTYPE, ""), ("pipe.png", tarfile.FIFOTYPE, ""),
    ):  # fmt: skip
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        file.addfile(info)
        add(file, name.replace(".png", ".txt"), b"words")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_links_and_devices_are_refused(tmp_path: Path, form: int) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=form) as file:
        add(file, "good.png", PNG)
        odd_members(file)
    dataset = open_data(tmp_path / "x.tar")
    assert dataset.ids == ["good"]
    assert "5 links, devices or sparse members refused" in dataset.notes
    assert tar._quick(tmp_path / "x.tar") == tar._careful(tmp_path / "x.tar")


def test_path_tricks_stay_names(tmp_path: Path) -> None:
    names = ["../../etc/cron.d/x.png", "/etc/passwd.png", "a/../../b.png", "..\\..\\c.png", "c:\\d.png"]
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        for name in names:
            add(file, name, PNG)
    before = sorted(tmp_path.rglob("*"))
    dataset = open_data(tmp_path / "x.tar")
    assert len(dataset) == 5
    assert all(not name.startswith("/") and ".." not in name.split("/") and "\\" not in name for name in dataset.ids)
    assert all(sample.image == PNG for sample in dataset)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_quick_reader_agrees_with_the_standard_library(tmp_path: Path, form: int) -> None:
    long = "folder/" * (12 if form == tarfile.USTAR_FORMAT else 40) + "name"
    with tarfile.open(tmp_path / "x.tar", "w", format=form) as file:
        for i, name in enumerate(["a", "bö", long, "d/e.f"]):
            info = tarfile.TarInfo(f"{name}.png")
            info.size, info.mtime = len(PNG) - i, 1234.5 if form == tarfile.PAX_FORMAT else 1234
            file.addfile(info, io.BytesIO(PNG))
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        file.addfile(folder)
    found = tar.scan(tmp_path / "x.tar")
    assert found == tar._careful(tmp_path / "x.tar")
    assert {key for key, *_ in found[0]} == {"a", "bö", long, "d/e"}


def test_pax_times_are_read_quickly(tmp_path: Path) -> None:
    """The webdataset writer gives every member fractional times, hence a PAX record."""
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        for name in ("a.png", "b.png"):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(PNG), 1.25
            file.addfile(info, io.BytesIO(PNG))
    assert tar._quick(tmp_path / "x.tar") == tar._careful(tmp_path / "x.tar")
    assert len(tar._quick(tmp_path / "x.tar")[0]) == 2


def test_damaged_tars(tmp_path: Path, pairs: list[Pair]) -> None:
    whole = (write_tars(tmp_path / "t", pairs[:20], 1) / "00000.tar").read_bytes()
    header = bytearray(whole)
    header[600:1200] = bytes(600)
    header[3] ^= 1
    marked = whole.rstrip(b"\0")
    damaged = {
        "cut": whole[: len(whole) // 2 + 100],
        "unmarked": marked + bytes(-len(marked) % 512),
        "rubbish": b"rubbish" * 200,
        "short": b"x",
        "header": bytes(header),
        "gzip": b"\x1f\x8b" + whole,
    }
    for name, content in damaged.items():
        (tmp_path / f"{name}.tar").write_bytes(content)
        with pytest.raises(DiptychError, match="not a whole, uncompressed tar"):
            open_data(tmp_path / f"{name}.tar")


def test_a_size_that_lies(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.png")
    info.size = 1 << 40
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        (tmp_path / "x.tar").write_bytes(info.tobuf(form) + PNG + bytes(2048))
        with pytest.raises(DiptychError):
            open_data(tmp_path / "x.tar")


def test_members_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        add(file, "a.png", PNG)
        add(file, "a.txt", b"words " * 300_000)
        add(file, "b.png", PNG)
        add(file, "b.txt", b"words")
    dataset = open_data(tmp_path / "x.tar")
    with pytest.raises(BrokenSample, match="larger than"):
        dataset[0]
    assert dataset[1].captions == ("words",)
    monkeypatch.setattr(shards, "MAX_IMAGE_BYTES", 10)
    with pytest.raises(BrokenSample, match="larger than"):
        dataset[1]


@pytest.mark.parametrize(
    ("kind", "content"), [("json", b"[1, 2]"), ("json", b"{"), ("json", b"[" * 100_000), ("cls", b"cat"), ("cls", b"9")]
)
def test_bad_words_are_one_broken_sample(tmp_path: Path, kind: str, content: bytes) -> None:
    (tmp_path / "classnames.txt").write_text("a\nb\n")
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        add(file, "a.png", PNG)
        add(file, f"a.{kind}", b'{"caption": "x"}' if kind == "json" else b"1")
        add(file, "b.png", PNG)
        add(file, f"b.{kind}", content)
    dataset = open_data(tmp_path)
    assert dataset[0].captions
    with pytest.raises(BrokenSample):
        dataset[1]


def test_no_image_in_the_tars(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        add(file, "a.npy", b"x")
        add(file, "a.txt", b"x")
    with pytest.raises(UsageError, match=r"no member is an image; the tars hold \.npy \(1\), \.txt \(1\)"):
        open_data(tmp_path)
