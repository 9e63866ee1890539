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
from .tar_times import SECOND, nanoseconds

BLOCK = 512
HEADER_MAX = 256 * 1024
"""Bytes of an extended header: several names of 4,095 bytes fit, and the attributes of a file."""

HEADERS_MAX = 8
"""Extended headers before one member: writers make one or two of pax, and two of GNU's. They are
work and no member, so an archive of nothing else would have no bound but its bytes."""

RECORDS_MAX = 20_000_000
"""Records of all extended headers, counted by their newlines: about half a minute. A million
members have six each. A packed body of some megabytes has room for billions."""

SIZE_MAX = 1 << 62
_RECORD = re.compile(rb"(\d{1,9}) ([^=\n]+)=", re.ASCII)
_USED = ("path", "linkpath", "size", "mtime")
_SPARSE = "GNU.sparse."
_SPARSE_NAME = _SPARSE + "name"

MemberKind = Literal["file", "directory", "link", "hard link"]

_KINDS: dict[bytes, MemberKind] = {
    b"0": "file", b"\0": "file", b"7": "file",
    b"1": "hard link", b"2": "link", b"5": "directory",
}  # fmt: skip
_SPECIAL = {b"3": "a device", b"4": "a device", b"6": "a FIFO"}

_OTHER_FORMATS = {
    b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz",
    b"7z\xbc\xaf\x27\x1c": "7z", b"\x04\x22\x4d\x18": "lz4", b"LZIP": "lzip",
    b"Rar!\x1a\x07": "RAR", b"\x1f\x9d": "compress", b"070701": "cpio",
    b"\x1f\x8b": "gzip in another packing", b"\x28\xb5\x2f\xfd": "zstd in another packing",
}  # fmt: skip
"""The first bytes of bodies that are no tar -> the name of their format."""

ALLOWED = "allowed: tar, plain or packed by gzip or zstd, as of 'tar -czf FILE.tar.gz FOLDER'"


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
        self._left = self._padding = self._records = 0
        self._last: str | None = None
        self._defaults: dict[str, str] = {}

    def members(self) -> Iterator[TarMember]:
        """The members. The rest of a member's content is skipped when the next one is asked for.

        Raises Invalid for a stream that is no tar, or is cut off.
        """
        records: dict[str, str] = {}
        extensions = 0
        while (header := self._header()) is not None:
            name, kind = records.get("path") or _name(header), header[156:157]
            size = _number(header[124:136], "size", name)
            if kind in b"xgXLK":
                extensions += 1
                if extensions > HEADERS_MAX:
                    raise self._too_much(f"more than {HEADERS_MAX} extended headers in a row")
                data = self._extension(size)
                if kind == b"g":
                    self._defaults |= self._pax(data)
                elif kind in b"xX":
                    records |= self._pax(data)
                else:
                    name = os.fsdecode(data.split(b"\0")[0])
                    records["path" if kind == b"L" else "linkpath"] = name
                continue
            member = _member(header, kind, size, self._defaults | records)
            records, self._last = {}, member.name
            extensions = 0
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
            raise self._cut()
        self._left -= len(data)
        return data

    def _header(self) -> bytes | None:
        """The next header; None at the end of the archive, which is a block of zeros."""
        header = self._at_most(BLOCK)
        if header == bytes(BLOCK):
            return None
        if self._last is None and (form := _other_format(header)) and not _is_header(header):
            raise Invalid(f"this is no tar archive, its format is {form}; {ALLOWED}")
        if len(header) < BLOCK:
            raise self._cut()
        if not _is_header(header):
            if self._last is None:
                raise Invalid(f"this is no tar archive; {ALLOWED}")
            raise Invalid(f"the archive is damaged{self._place()}; pack it and send it again")
        return header

    def _extension(self, size: int) -> bytes:
        if not 0 <= size <= HEADER_MAX:
            raise self._too_much(f"an extended header of more than {HEADER_MAX} bytes")
        data = self._exactly(size)
        self._exactly(-size % BLOCK)
        return data

    def _too_much(self, fault: str) -> Invalid:
        return Invalid(
            f"the archive has {fault}{self._place()}; pack it again with fewer extended attributes"
        )

    def _exactly(self, count: int) -> bytes:
        data = self._at_most(count)
        if len(data) < count:
            raise self._cut()
        return data

    def _at_most(self, count: int) -> bytes:
        """`count` bytes, or fewer where the stream ends."""
        data = self._read(count) if count else b""
        if len(data) == count:
            return data
        whole = bytearray(data)  # pieces of one byte must not cost a copy each
        while data and len(whole) < count:
            data = self._read(count - len(whole))
            whole += data
        return bytes(whole)

    def _cut(self) -> Invalid:
        return Invalid(
            f"the archive was cut off{self._place()}: its end is missing; send the whole archive"
        )

    def _place(self) -> str:
        """Where the reader is, for a message: a position that the user can find."""
        return "" if self._last is None else f" in or behind {shown(self._last)}"

    def _pax(self, data: bytes) -> dict[str, str]:
        self._records += data.count(b"\n")
        if self._records > RECORDS_MAX:
            raise self._too_much(f"more than {RECORDS_MAX} records in its extended headers")
        records = _pax(data)
        if records is None:
            raise Invalid(
                f"the archive has a malformed extended header{self._place()}; pack it again with "
                "'tar --format=pax'"
            )
        return records


def _other_format(data: bytes) -> str | None:
    return next((form for magic, form in _OTHER_FORMATS.items() if data.startswith(magic)), None)


def _is_header(header: bytes) -> bool:
    """The block has the right checksum; old writers add up signed bytes."""
    if len(header) < BLOCK:
        return False
    unsigned = sum(header) - sum(header[148:156]) + 8 * 32
    signed = unsigned - 256 * sum(byte > 127 for byte in header[:148] + header[156:])
    return _number_or_none(header[148:156]) in (unsigned, signed)


def _member(header: bytes, kind: bytes, size: int, records: dict[str, str]) -> TarMember:
    name = records.get("path") or _name(header)
    known = _kind(kind, name, records)
    has_content = known == "file"
    if known == "file" and name.endswith("/"):  # from before POSIX
        known = "directory"
    target = records.get("linkpath") or os.fsdecode(header[157:257].split(b"\0")[0])
    size = _size(size, name, records.get("size"))
    return TarMember(
        name,
        known,
        target if known.endswith("link") else "",
        _number(header[100:108], "mode", name) & 0o777,
        _mtime(header, name, records.get("mtime")),
        size if has_content else 0,
    )


def _kind(kind: bytes, name: str, records: dict[str, str]) -> MemberKind:
    """The kind of the member `name`. Raises Invalid for one that is not taken."""
    if kind == b"S" or _SPARSE in records:
        name = records.get(_SPARSE_NAME) or name  # "path" has a name that GNU's tar has made up
        raise Invalid(
            f"{shown(name)} is packed as a sparse file; pack the archive without the option -S "
            "(--sparse) of tar"
        )
    if kind in _SPECIAL:
        raise Invalid(
            f"{shown(name)} is {_SPECIAL[kind]}; allowed: files, directories and links; leave it "
            "out with the option --exclude of tar"
        )
    if kind not in _KINDS:
        raise Invalid(
            f"{shown(name)} has the tar type {shown(os.fsdecode(kind))}, which is not known; "
            "pack it with 'tar --format=pax' and without the options -g, -M and -V"
        )
    return _KINDS[kind]


def _size(size: int, name: str, record: str | None) -> int:
    """The size of the member `name`, from a pax `record` or else from the header."""
    if record:
        in_units = nanoseconds(record)
        size = -1 if in_units is None else in_units // SECOND
    if not 0 <= size < SIZE_MAX:
        raise Invalid(
            f"{shown(name)} has the size {shown(record or str(size))}, which no file can have; "
            "pack the archive again"
        )
    return size


def _mtime(header: bytes, name: str, record: str | None) -> int:
    """The time of the member `name`, from a pax `record` or else from the header."""
    if not record:
        return _number(header[136:148], "time", name) * SECOND
    mtime = nanoseconds(record)
    if mtime is None:
        raise impossible_time(name, record)
    return mtime


def _name(header: bytes) -> str:
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    # GNU's own format has other fields where POSIX has the prefix.
    if prefix and header[257:263] == b"ustar\0":
        name = prefix + b"/" + name
    return os.fsdecode(name)


def impossible_time(name: str, seconds: str) -> Invalid:
    """The refusal of the member `name` for its time, a text of decimal seconds since 1970."""
    return Invalid(
        f"{shown(name)} has the time {shown(seconds)}; allowed: seconds since 1970, of the years "
        "1678 to 2261; change the time with touch and pack the file again"
    )


def _number(field: bytes, what: str, name: str) -> int:
    """The number `what` in the header of `name`. Raises Invalid."""
    number = _number_or_none(field)
    if number is None:
        raise Invalid(
            f"{shown(name)} has a {what} of {shown(os.fsdecode(field))}, which is no number; the "
            "archive is damaged, pack it and send it again"
        )
    return number


def _number_or_none(field: bytes) -> int | None:
    """A number of a header: octal digits, or GNU's two's complement in base 256. None: another
    text."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    digits = field.split(b"\0")[0].strip()
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        return None


def _pax(data: bytes) -> dict[str, str] | None:
    """The records of an extended header that a member needs; "LENGTH KEY=VALUE" and a newline each.
    All others are dropped, since a stream may bring any number. An empty value takes one back.
    None: the header is malformed."""
    records: dict[str, str] = {}
    at = 0
    while at < len(data):
        match = _RECORD.match(data, at)
        end = at + int(match[1]) if match else 0
        if not match or not match.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            return None
        key = os.fsdecode(match[2])
        if key.startswith(_SPARSE):
            records[_SPARSE] = "1"
        if key in _USED or key == _SPARSE_NAME:
            records[key] = os.fsdecode(data[match.end() : end - 1])
        at = end
    return records
