"""Every kind of picture comes out as upright 8-bit RGB, and every guard holds."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from drawn_pairs import encode, noise_image
from PIL import Image

from diptych.data.decode import BrokenImage, decode

QUADRANTS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]], dtype=np.uint8)


def corners(image_HWC: np.ndarray) -> np.ndarray:
    """The colours of the four corners as 2 × 2, saturated, so that JPEG's losses do not matter."""
    return np.where(image_HWC[[2, -3]][:, [2, -3]] > 127, 255, 0).astype(np.uint8)


def png_16_grey(values: np.ndarray) -> bytes:
    """A 16-bit grey PNG written by hand from the specification."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_rgb_png_is_exact() -> None:
    image = noise_image(1)
    assert np.array_equal(decode(encode(image)), np.array(image))


UPRIGHT_FROM = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_turn(turn: int, kind: str) -> None:
    stored = Image.fromarray(QUADRANTS.repeat(24, 0).repeat(40, 1))
    exif = Image.Exif()
    exif[0x0112] = turn
    turned = decode(encode(stored, kind, exif=exif), keep_alpha=True)
    wanted = UPRIGHT_FROM[turn](np.array(stored))
    assert turned.shape == wanted.shape
    assert np.array_equal(corners(turned), corners(wanted))


def test_exif_turn_by_the_standard_itself() -> None:
    """Orientation 6: the stored picture's first row is the right-hand side of the upright one."""
    stored = np.zeros((16, 32, 3), dtype=np.uint8)
    stored[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = decode(encode(Image.fromarray(stored), "PNG", exif=exif))
    assert upright.shape == (32, 16, 3)
    assert (upright[:, -1] == 255).all()
    assert (upright[:, :-1] == 0).all()


def test_a_bad_orientation_is_no_bad_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 99
    assert decode(encode(noise_image(2), "PNG", exif=exif)).shape == (16, 20, 3)
    assert decode(encode(noise_image(2), "PNG", exif=b"Exif\0\0rubbish")).shape == (16, 20, 3)


def test_grey_two_level_and_palette() -> None:
    grey = noise_image(3, mode="L")
    assert np.array_equal(decode(encode(grey)), np.array(grey)[..., None].repeat(3, 2))
    two = grey.convert("1")
    assert np.array_equal(decode(encode(two)), np.array(two, dtype=np.uint8)[..., None].repeat(3, 2) * 255)
    palette = noise_image(4).quantize(16)
    assert np.array_equal(decode(encode(palette)), np.array(palette.convert("RGB")))
    assert np.array_equal(decode(encode(palette, "GIF")), np.array(palette.convert("RGB")))


def test_palette_with_transparency() -> None:
    palette = Image.fromarray(np.array([[0, 1], [1, 0]], dtype=np.uint8)).convert("P")
    palette.putpalette([200, 0, 0, 0, 0, 200])
    raw = encode(palette, "PNG", transparency=0)
    assert decode(raw, fill=(1, 2, 3)).tolist() == [[[1, 2, 3], [0, 0, 200]], [[0, 0, 200], [1, 2, 3]]]
    assert decode(raw, keep_alpha=True)[..., 3].tolist() == [[0, 255], [255, 0]]


def test_cmyk() -> None:
    cmyk = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    assert np.abs(decode(encode(cmyk, "JPEG", quality=95)).astype(int) - [0, 255, 255]).max() <= 3
    assert decode(encode(cmyk, "TIFF")).tolist() == [[[0, 255, 255]] * 16] * 16


def test_sixteen_bits() -> None:
    values = np.array([[0, 257, 128 * 257, 65535], [256, 300, 1000, 40000]], dtype=np.uint16)
    wanted = np.rint(values / 65535 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    assert np.array_equal(decode(png_16_grey(values)), wanted)
    assert np.array_equal(decode(encode(Image.fromarray(values), "TIFF")), wanted)


def test_floats() -> None:
    shares = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    assert decode(encode(shares, "TIFF"))[0, :, 0].tolist() == [0, 128, 255]
    levels = Image.fromarray(np.array([[0.0, 100.4, 300.0]], dtype=np.float32))
    assert decode(encode(levels, "TIFF"))[0, :, 0].tolist() == [0, 100, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_on_the_fill(mode: str) -> None:
    image = noise_image(5, mode=mode)
    exact = np.array(image.convert("RGBA")).astype(np.float64)
    alpha = exact[..., 3:] / 255
    wanted = exact[..., :3] * alpha + np.array([10, 200, 30]) * (1 - alpha)
    flat = decode(encode(image), fill=(10, 200, 30))
    assert flat.shape == (16, 20, 3)
    assert np.abs(flat - wanted).max() <= 1
    assert np.array_equal(decode(encode(image), keep_alpha=True), exact)


def test_keep_alpha_leaves_opaque_pictures_at_three_channels() -> None:
    assert decode(encode(noise_image(6)), keep_alpha=True).shape == (16, 20, 3)


def test_jpeg_at_reduced_scale() -> None:
    big = Image.fromarray(QUADRANTS.repeat(400, 0).repeat(600, 1))
    raw = encode(big, "JPEG")
    assert decode(raw).shape == (800, 1200, 3)
    reduced = decode(raw, reduce_to=(64, 64))
    assert reduced.shape == (200, 300, 3)
    assert np.array_equal(corners(reduced), QUADRANTS)
    assert decode(raw, reduce_to=(64, 300)).shape == (400, 600, 3)
    assert decode(encode(big), reduce_to=(64, 64)).shape == (800, 1200, 3)


def test_reduced_scale_of_a_turned_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = encode(Image.new("RGB", (1600, 200)), "JPEG", exif=exif)
    assert decode(raw, reduce_to=(400, 50)).shape == (800, 100, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated(kind: str) -> None:
    raw = encode(noise_image(7, 64, 64), kind)
    assert decode(raw).shape == (64, 64, 3)
    with pytest.raises(BrokenImage):
        decode(raw[: len(raw) // 2])


@pytest.mark.parametrize("raw", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0", bytes(1000)])
def test_rubbish(raw: bytes) -> None:
    with pytest.raises(BrokenImage):
        decode(raw)


def test_only_listed_formats() -> None:
    for kind in ("PPM", "ICO", "PCX", "TGA"):
        with pytest.raises(BrokenImage):
            decode(encode(noise_image(8, 32, 32), kind))
    with pytest.raises(BrokenImage):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")


def test_bomb_is_refused_before_it_is_decoded() -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    for side in (9_000, 60_000):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
        with pytest.raises(BrokenImage, match="limit"):
            decode(bomb)
    with pytest.raises(BrokenImage, match="over the limit of 100"):
        decode(encode(noise_image(9)), max_pixels=100)


def test_byte_limit_and_missing_file(tmp_path: Path) -> None:
    raw = encode(noise_image(10))
    (tmp_path / "a.png").write_bytes(raw)
    assert decode(tmp_path / "a.png").shape == (16, 20, 3)
    for source in (raw, tmp_path / "a.png"):
        with pytest.raises(BrokenImage, match="bytes"):
            decode(source, max_bytes=100)
    with pytest.raises(BrokenImage, match="cannot be read"):
        decode(tmp_path / "absent.png")
    with pytest.raises(BrokenImage):
        decode(tmp_path)
