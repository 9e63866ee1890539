"""The reader of a tar stream that a client sends: member by member, with exact times.

It reads ustar, pax and GNU's extensions for long names and large numbers (POSIX.1-2017, pax; tar(5)
of libarchive). The standard library's reader is not used here: it turns times into floats, which
lose nanoseconds, reads headers of any size into memory, and takes a cut archive for a whole one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from ..errors import Invalid
from .paths import shown

BLOCK = 512
HEADER_MAX = 256 * 1024
"""Bytes of an extended header: several names of 4,095 bytes fit, and the attributes of a file."""

SIZE_MAX = 1 << 62
_NS = 1_000_000_000
_DECIMAL = re.compile(r"(-?)(\d{1,18})(?:\.(\d{0,40}))?", re.ASCII)
_RECORD = re.compile(rb"(\d{1,9}) ([^=\n]+)=", re.ASCII)
_USED = ("path", "linkpath", "size", "mtime")
_SPARSE = "GNU.sparse."

MemberKind = Literal["file", "directory", "link", "hard link"]

_KINDS: dict[bytes, MemberKind] = {
    b"0": "file", b"\0": "file", b"7": "file",
    b"1": "hard link", b"2": "link", b"5": "directory",
}  # fmt: skip
_SPECIAL = {b"3": "a device", b"4": "a device", b"6": "a FIFO", b"S": "a sparse file"}


@dataclass(frozen=True, slots=True)
class TarMember:
    """A member of the archive.

    name    as the archive has it, in the form of os.fsdecode
    target  of a link; of a hard link the name of an earlier member
    mode    permission bits; others are dropped
    mtime   nanoseconds since 1970
    size    bytes of content that follow
    """

    name: str
    kind: MemberKind
    target: str
    mode: int
    mtime: int
    size: int


class TarReader:
    """The members of a tar whose bytes `read(count)` gives: at most `count`, none at the end."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._left = self._padding = 0
        self._defaults: dict[str, str] = {}

    def members(self) -> Iterator[TarMember]:
        """The members. The rest of a member's content is skipped when the next one is asked for.

        Raises Invalid for a stream that is no tar, or is cut off.
        """
        records: dict[str, str] = {}
        while (header := self._header()) is not None:
            kind, size = header[156:157], _number(header[124:136], "size")
            if kind in b"xgXLK":
                data = self._extension(size)
                if kind == b"g":
                    self._defaults |= _pax(data)
                elif kind in b"xX":
                    records |= _pax(data)
                else:
                    name = os.fsdecode(data.split(b"\0")[0])
                    records["path" if kind == b"L" else "linkpath"] = name
                continue
            member = _member(header, kind, size, self._defaults | records)
            records = {}
            self._left, self._padding = member.size, -member.size % BLOCK
            yield member
            while self.content(1 << 16):
                pass
            self._exactly(self._padding)

    def content(self, count: int) -> bytes:
        """At most `count` bytes of the present member's content; none at its end."""
        if not self._left:
            return b""
        data = self._read(min(count, self._left))
        if not data:
            raise _cut()
        self._left -= len(data)
        return data

    def _header(self) -> bytes | None:
        """The next header; None at the end of the archive, which is a block of zeros."""
        header = self._exactly(BLOCK)
        if header == bytes(BLOCK):
            return None
        unsigned = sum(header) - sum(header[148:156]) + 8 * 32
        signed = unsigned - 256 * sum(byte > 127 for byte in header[:148] + header[156:])
        if _number(header[148:156], "checksum") not in (unsigned, signed):
            raise Invalid("this is no tar archive; allowed: tar, plain or packed by gzip or zstd")
        return header

    def _extension(self, size: int) -> bytes:
        if not 0 <= size <= HEADER_MAX:
            raise Invalid(f"the archive has an extended header of more than {HEADER_MAX} bytes")
        data = self._exactly(size)
        self._exactly(-size % BLOCK)
        return data

    def _exactly(self, count: int) -> bytes:
        data = self._read(count) if count else b""
        if len(data) == count:
            return data
        whole = bytearray(data)  # pieces of one byte must not cost a copy each
        while data and len(whole) < count:
            data = self._read(count - len(whole))
            whole += data
        if not data:
            raise _cut()
        return bytes(whole)


def _cut() -> Invalid:
    return Invalid("the archive was cut off: its end is missing")


def _member(header: bytes, kind: bytes, size: int, records: dict[str, str]) -> TarMember:
    name = records.get("path") or _name(header)
    if kind in _SPECIAL or _SPARSE in records:
        what = _SPECIAL.get(kind, "a sparse file")
        raise Invalid(f"{shown(name)} is {what}; an archive has files, directories and links")
    known = _KINDS.get(kind)
    if known is None:
        raise Invalid(f"{shown(name)} has the type {shown(os.fsdecode(kind))}, which is not known")
    has_content = known == "file"
    if known == "file" and name.endswith("/"):  # from before POSIX
        known = "directory"
    if decimal := records.get("size"):
        size = _seconds(decimal) // _NS
    if not 0 <= size < SIZE_MAX:
        raise Invalid(f"{shown(name)} has an impossible size")
    target = records.get("linkpath") or os.fsdecode(header[157:257].split(b"\0")[0])
    mtime = records.get("mtime")
    return TarMember(
        name,
        known,
        target if known.endswith("link") else "",
        _number(header[100:108], "mode") & 0o777,
        _seconds(mtime) if mtime else _number(header[136:148], "time") * _NS,
        size if has_content else 0,
    )


def _name(header: bytes) -> str:
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    # GNU's own format has other fields where POSIX has the prefix.
    if prefix and header[257:263] == b"ustar\0":
        name = prefix + b"/" + name
    return os.fsdecode(name)


def _number(field: bytes, what: str) -> int:
    """A number of a header: octal digits, or GNU's two's complement in base 256."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    digits = field.split(b"\0")[0].strip()
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise Invalid(f"this is no tar archive: a {what} is no number") from None


def _seconds(text: str) -> int:
    """Decimal seconds of a pax record, exactly, as nanoseconds rounded down."""
    match = _DECIMAL.fullmatch(text)
    if not match:
        raise Invalid(f"the archive has a number that is none: {shown(text)}")
    fraction = (match[3] or "").ljust(10, "0")
    value = int(match[2]) * _NS + int(fraction[:9])
    if not match[1]:
        return value
    return -value - bool(fraction[9:].strip("0"))


def _pax(data: bytes) -> dict[str, str]:
    """The records of an extended header that a member needs; "LENGTH KEY=VALUE" and a newline each.
    All others are dropped, since a stream may bring any number. An empty value takes one back."""
    records: dict[str, str] = {}
    at = 0
    while at < len(data):
        match = _RECORD.match(data, at)
        end = at + int(match[1]) if match else 0
        if not match or not match.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            raise Invalid("the archive has a malformed extended header")
        key = os.fsdecode(match[2])
        if key.startswith(_SPARSE):
            records[_SPARSE] = "1"
        elif key in _USED:
            records[key] = os.fsdecode(data[match.end() : end - 1])
        at = end
    return records
