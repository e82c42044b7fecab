"""Where the members of a tar lie: one pass over its headers, nothing extracted.

Ordinary headers (ustar and GNU, and the PAX records that only carry times) are read here, some hundred thousand a second;
a tar with anything else in it (long names, sizes over 8 GiB, sparse members) is read by the standard library instead.
"""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path

from diptych.core.errors import DiptychError
from diptych.data.sources.base import split_key

BLOCK = 512
ORDINARY = (b"0", b"\0", b"7")
_ZERO = bytes(BLOCK)
Member = tuple[str, str, int, int]


class _Unusual(Exception):
    """A header that the quick reader leaves to the standard library."""


def scan(path: Path) -> tuple[list[Member], int]:
    """``(key, extension, offset, size)`` of every ordinary member of an uncompressed tar, and how many others were refused.

    Links, devices, pipes and sparse members are refused (never read); folders are passed over.

    Raises:
        DiptychError: the file is no tar, is compressed, or ends before a member does.
    """
    try:
        try:
            return _quick(path)
        except _Unusual:
            return _careful(path)
    except (tarfile.TarError, EOFError, ValueError) as error:
        mend = "Decompress it, copy it again, or take it out of the folder"
        raise DiptychError(f"shard {path}", f"not a whole, uncompressed tar ({error})", mend) from error


def _quick(path: Path) -> tuple[list[Member], int]:
    """The headers one after another."""
    end = path.stat().st_size
    if end < BLOCK:
        raise _Unusual
    members: list[Member] = []
    refused, at = 0, 0
    with path.open("rb", buffering=0) as file:
        while at + BLOCK <= end:
            file.seek(at)
            header = file.read(BLOCK)
            if header == _ZERO:
                return members, refused
            kind, size = header[156:157], _size(header)
            start = at + BLOCK
            if start + size > end:
                raise tarfile.ReadError(f"the member at byte {at:,} ends at byte {start + size:,} of {end:,}")
            if kind in ORDINARY:
                members.append((*split_key(_name(header)), start, size))
            elif kind == b"x":
                _check_records(file.read(size))
            elif kind in b"123456":
                refused += kind != b"5"
                size = 0
            else:
                raise _Unusual
            at = start + (size + BLOCK - 1) // BLOCK * BLOCK
    raise tarfile.ReadError("it ends without its end mark")


def _size(header: bytes) -> int:
    """The size field of a ustar header whose checksum holds; anything odd is left to the standard library.

    The checksum is a plain sum of bytes, which Adler-32 keeps (plus 1, modulo 65521) in its lower half.
    """
    size, told = header[124:136].strip(b" \0"), header[148:156].strip(b" \0")
    if header[257:262] != b"ustar" or not size.isdigit() or not told.isdigit():
        raise _Unusual
    total = zlib.adler32(header[:148] + b"        " + header[156:]) & 0xFFFF
    if (int(told, 8) + 1) % 65521 != total:
        raise _Unusual
    return int(size, 8)


def _name(header: bytes) -> str:
    """Name with its ustar prefix (GNU headers keep times where the prefix would be)."""
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return (prefix + b"/" + name if prefix else name).decode("utf-8", "surrogateescape")


def _check_records(records: bytes) -> None:
    """PAX records that change a name or size, or describe a sparse member, are left to the standard library."""
    if any(word in records for word in (b" path=", b" size=", b" GNU.", b" hdrcharset=")):
        raise _Unusual


def _careful(path: Path) -> tuple[list[Member], int]:
    """The same through :mod:`tarfile`."""
    members: list[Member] = []
    refused, end = 0, path.stat().st_size
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]
            if member.isdir():
                continue
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE) or member.issparse() or member.size < 0:
                refused += 1
                continue
            if member.offset_data + member.size > end:
                raise tarfile.ReadError(f"member {member.name!r} ends at byte {member.offset_data + member.size:,} of {end:,}")
            members.append((*split_key(member.name), member.offset_data, member.size))
        last = tar.offset  # type: ignore[attr-defined]
    with path.open("rb") as file:
        file.seek(last)
        if file.read(BLOCK) != _ZERO:
            raise tarfile.ReadError("it ends without its end mark")
    return members, refused
