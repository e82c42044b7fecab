"""The seal on test pictures: by declaration and by content."""

from __future__ import annotations

import pytest

import diptych
from diptych.core.types import Sample
from diptych.data import seal


def of(*contents, prefix="a"):
    return [Sample(f"{prefix}{i}", content) for i, content in enumerate(contents)]


def test_a_shared_picture_is_found_under_another_name():
    with pytest.raises(seal.SealedError, match=r"1 of its pictures are test pictures \(a1 = t0\)"):
        seal.check(of(b"one", b"two"), of(b"two", b"three", prefix="t"))


def test_apart_is_allowed():
    assert seal.check(of(b"one", b"two"), of(b"three", prefix="t")) is None
    assert seal.check(of(b"one")) is None


def test_a_file_and_bytes_of_one_content_are_one_picture(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"two")
    with pytest.raises(seal.SealedError, match="the shots: 1 of"):
        seal.check([Sample("file", path)], of(b"two", prefix="t"), "the shots")
    seal.check([Sample("gone", tmp_path / "none.png")], [Sample("gone too", tmp_path / "none2.png")])


def test_many_are_counted_and_three_named():
    both = [bytes([i]) for i in range(5)]
    with pytest.raises(seal.SealedError, match=r"5 of its pictures are test pictures \(a0, a1, a2 and 2 more\)"):
        seal.check(of(*both), of(*both))


def test_a_sealed_set_may_not_be_fitted_on():
    with pytest.raises(seal.SealedError, match="sealed test set"):
        seal.check(diptych.open("scenes/style"))
    with pytest.raises(seal.SealedError, match="sealed test set"):
        seal.check(of(b"one"), sealed=True)
    seal.check(diptych.open("scenes/train").select(range(2)))
