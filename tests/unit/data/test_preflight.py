"""The preflight's figures against sets whose figures are known."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
import torch
from drawn_pairs import add, encode, noise_image, tokenize
from PIL import Image
from rich.console import Console

from diptych.core.errors import DiptychError, UsageError
from diptych.data.open import open as open_data
from diptych.data.preflight import inspect
from diptych.data.preflight_view import half_blocks, render, save_strip


@pytest.fixture
def known(tmp_path: Path) -> Path:
    """Ten pictures: two broken, three byte-equal, one wordless, captions of 1, 3, 3, 5 … words, one repeated twice."""
    root = tmp_path / "known"
    root.mkdir()
    for i in range(10):
        same = i in (3, 4, 5)
        (root / f"{i}.png").write_bytes(b"broken" if i in (0, 1) else encode(noise_image(77 if same else i, 33 if same else 30 + i, 40)))
        words = {2: "one", 3: "a b c", 4: "a b c", 5: "a b c d e", 6: "\n".join(["x y", "z"]), 9: "long " * 30}.get(i, f"number {i}")
        if i != 7:
            (root / f"{i}.txt").write_text(words)
    return root


def test_figures(known: Path) -> None:
    found = inspect(known, tokenize, context=12)
    assert (found.samples, found.checked_captions, found.checked_images, found.complete) == (10, 10, 10, True)
    assert [name for name, _ in found.broken] == ["0", "1"]
    assert found.captions == 10
    assert found.caption_words == {1: 2, 2: 4, 4: 1, 24: 1} | {2: 6}
    assert found.mean_words == pytest.approx((1 + 3 + 3 + 5 + 2 + 1 + 30 + 3 * 2) / 10)
    assert found.repeated_captions == 1
    assert found.repeated_images == 2
    assert (found.cut, found.cut_by) == (0.1, "captions that fill the context")
    assert found.image_sides == (32, 34, 39)
    assert len(found.shown) == 3
    text = " ".join(found.warnings)
    for part in ("1 of 10 samples have no caption", "2 of 10 samples cannot be read", "10.0% of captions are longer", "copies"):
        assert part in text
    row = json.loads(json.dumps(found.as_dict()))
    assert row["broken"][0]["id"] == "0"
    assert len(row["shown"]) == 3


def test_cut_is_exact_with_a_tokenizer_that_knows(known: Path) -> None:
    class Knows:
        def __call__(self, captions: list[str]) -> torch.Tensor:
            return tokenize(captions)

        def cut(self, captions: list[str]) -> list[bool]:
            return [len(caption.split()) > 4 for caption in captions]

    assert (inspect(known, Knows()).cut, inspect(known, Knows()).cut_by) == (0.2, "exact")
    assert inspect(known).cut_by == "estimated from words"


def test_page_and_strip(known: Path, tmp_path: Path) -> None:
    found = inspect(known)
    out = io.StringIO()
    Console(file=out, width=120, force_terminal=True, color_system="truecolor").print(render(found))
    page = out.getvalue()
    for part in ("folder of images with .txt beside them", "words a caption", "▀", "cannot be read", "shards"):
        assert part in page
    with Image.open(save_strip(found, tmp_path / "new" / "strip.png")) as strip:
        assert strip.format == "PNG"
        assert strip.width == sum(one.image_HWC.shape[1] for one in found.shown) + 4 * 8


def test_half_blocks_are_the_pixels() -> None:
    red_over_blue = torch.tensor([[[255, 0, 0]], [[0, 0, 255]]], dtype=torch.uint8).numpy().repeat(1, axis=1)
    text = half_blocks(red_over_blue, columns=2)
    assert text.plain == "▀\n"
    assert str(text.spans[0].style) == "#ff0000 on #0000ff"


def test_little_time_looks_at_a_part_and_says_so(layouts: dict[str, Path]) -> None:
    found = inspect(layouts["tars"], seconds=0.0)
    assert not found.complete
    assert 0 < found.checked_images < 200
    assert len(found.shown) >= 1
    out = io.StringIO()
    Console(file=out, width=160).print(render(found, pictures=False))
    assert "a random" in out.getvalue()


def test_shards_against_readers(layouts: dict[str, Path]) -> None:
    assert not any("readers" in note for note in inspect(layouts["tars"], world=2, workers=2).notes)
    assert any("4 tars for 8 readers" in note for note in inspect(layouts["tars"], world=2, workers=4).notes)
    with pytest.raises(UsageError, match="Write at least 8 tars"):
        inspect(layouts["tars"], world=2, workers=4, shards="error")
    inspect(layouts["csv"], world=2, workers=4, shards="error")


def test_wrong_sets_are_errors(layouts: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the set is empty"):
        inspect(open_data(layouts["csv"]).select([]))
    with pytest.raises(UsageError):
        inspect(layouts["csv"], shards="maybe")
    with pytest.raises(UsageError, match="no such column"):
        inspect(open_data(layouts["csv"], caption="titel"))
    with tarfile.open(tmp_path / "x.tar", "w") as file:
        for i in range(60):
            add(file, f"{i}.jpg", b"broken")
    with pytest.raises(DiptychError, match="pictures can be read"):
        inspect(tmp_path / "x.tar")
