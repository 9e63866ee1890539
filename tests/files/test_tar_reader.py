"""The reader of tar: what other writers write, and what an attacker writes."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, Literal

import hypothesis
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from sandboxd.errors import Invalid
from sandboxd.files import tar_reader
from sandboxd.files.tar_reader import HEADER_MAX, TarMember, TarReader

from ..each_case import each_case
from ..effort import examples
from .trees import File, directory, entry, hard_link, link, member_bytes, tar

FORMATS: list[Literal[0, 1, 2]] = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
NAMES = (
    st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=6)
    .map(b"/".join)
    .map(lambda name: name.replace(b"\0", b"x").lstrip(b"/") or b"x")
    .map(os.fsdecode)
)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])


def read(data: bytes, most: int = 1 << 16) -> list[tuple[TarMember, bytes]]:
    """The members with their content, from a stream that gives at most `most` bytes at once."""
    stream = io.BytesIO(data)
    reader = TarReader(lambda count: stream.read(min(count, most)))
    return [
        (member, b"".join(iter(lambda: reader.content(1 << 16), b"")))
        for member in reader.members()
    ]


def checksummed(header: bytearray | bytes) -> bytes:
    header = bytearray(header)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def extended(records: dict[bytes, bytes], kind: bytes = tarfile.XHDTYPE) -> bytes:
    """An extended header of pax."""
    data = b""
    for key, value in records.items():
        size = len(key) + len(value) + 3
        length = next(n for n in range(size, size + 12) if n == size + len(str(n)))
        data += b"%d %s=%s\n" % (length, key, value)
    return extension(kind, data)


def extension(kind: bytes, data: bytes) -> bytes:
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


def plain(name: str = "f", **values: Any) -> bytes:
    """A header of ustar."""
    info = tarfile.TarInfo(name)
    for key, value in values.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.USTAR_FORMAT)


@settings(max_examples=examples(300))
@hypothesis.given(
    st.lists(
        st.tuples(NAMES, KINDS, NAMES, st.binary(max_size=2000), st.integers(0, 0o7777),
                  st.integers(0, 1 << 33)),
        max_size=5,
    ),
    st.sampled_from(FORMATS),
    st.integers(1, 5000),
)  # fmt: skip
def test_archives_of_the_standard_library_are_read_as_they_were_written(
    members: list[tuple[str, bytes, str, bytes, int, int]], form: Literal[0, 1, 2], most: int
) -> None:
    data, expected = b"", []
    for name, kind, target, content, mode, mtime in members:
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.mtime = kind, mode, mtime
        info.linkname = target if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
        content = content if kind == tarfile.REGTYPE else b""
        info.size = len(content)
        with contextlib.suppress(ValueError):  # ustar has no place for long names
            data += info.tobuf(form, "utf-8", "surrogateescape")
            data += content + bytes(-len(content) % 512)
            expected.append((info, content))
    members_read = read(data + bytes(1024), most)
    assert len(members_read) == len(expected)
    kinds = {b"0": "file", b"5": "directory", b"2": "link", b"1": "hard link"}
    for (member, content), (info, written) in zip(members_read, expected, strict=True):
        name = info.name + "/" if info.isdir() else info.name
        assert member.name.rstrip("/") == name.rstrip("/")
        is_directory = info.name.endswith("/") and info.isreg()
        assert member.kind == ("directory" if is_directory else kinds[info.type])
        assert member.target == info.linkname
        assert (member.mode, member.mtime) == (info.mode & 0o777, info.mtime * 10**9)
        if not is_directory:
            assert content == written


@hypothesis.given(st.integers(-(1 << 62), 1 << 62))
def test_time_of_a_pax_record_is_exact_to_the_nanosecond(ns: int) -> None:
    assert read(tar(File("f", ns=ns)))[0][0].mtime == ns


@each_case(
    ("text", "ns"),
    [("1", 10**9), ("1.", 10**9), ("1.5", 1_500_000_000), ("0.0000000019", 1),
     ("-0.5", -500_000_000), ("-1.0000000001", -1_000_000_001), ("-0.0000000001", -1)],
)  # fmt: skip
def test_times_are_rounded_down(text: str, ns: int) -> None:
    data = extended({b"mtime": text.encode()}) + plain() + bytes(1024)
    assert read(data)[0][0].mtime == ns


@each_case("text", ["x", "1e9", "0x10", "1.5.5", "--1", "9" * 19, "1,5", " 1", "٣"])
def test_number_of_a_record_that_is_none_is_refused(text: str) -> None:
    for key in (b"mtime", b"size"):
        with pytest.raises(Invalid):
            read(extended({key: text.encode()}) + plain() + bytes(1024))


@pytest.mark.parametrize("text", ["nan", "1e300", "9" * 20])
def test_refusal_of_a_time_names_the_member_and_the_time(text: str) -> None:
    with pytest.raises(Invalid, match=f"'f' has the time '{text}'; allowed: seconds since 1970"):
        read(extended({b"mtime": text.encode()}) + plain() + bytes(1024))


@pytest.mark.parametrize("mtime", [-1, -(1 << 40), 1 << 40, 1 << 62])
def test_time_in_base_256_may_be_negative_and_large(mtime: int) -> None:
    info = tarfile.TarInfo("f")
    info.mtime = mtime
    assert read(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))[0][0].mtime == mtime * 10**9


def first_size(header: bytes) -> int:
    """The size of the first member, whose content does not follow."""
    stream = io.BytesIO(header)
    return next(TarReader(stream.read).members()).size


def test_sizes_that_octal_digits_cannot_say_are_read() -> None:
    for size in (8 << 30, 1 << 59):
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            info = tarfile.TarInfo("f")
            info.size = size
            assert first_size(info.tobuf(form)) == size


@pytest.mark.parametrize("size", [b"-1", b"9" * 18, b"4611686018427387904"])
def test_impossible_size_is_refused(size: bytes) -> None:
    if int(size) < 1 << 62 and int(size) >= 0:
        assert first_size(extended({b"size": size}) + plain()) == int(size)
    else:
        with pytest.raises(Invalid):
            first_size(extended({b"size": size}) + plain())


def test_records_hold_for_one_member_and_global_ones_for_all() -> None:
    data = (
        extended({b"mtime": b"7"}, tarfile.XGLTYPE)
        + extended({b"path": b"one", b"comment": b"ignored"}) + plain("a")
        + plain("b")
        + extended({b"mtime": b""}) + plain("c", mtime=3)
        + bytes(1024)
    )  # fmt: skip
    assert [(member.name, member.mtime // 10**9) for member, _ in read(data)] == [
        ("one", 7), ("b", 7), ("c", 3),
    ]  # fmt: skip


def test_name_of_a_link_may_be_long_in_each_format() -> None:
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        info = link("n" * 3000, "t" * 3000)
        ((member, _),) = read(info.tobuf(form) + bytes(1024))
        assert (member.name, member.target) == ("n" * 3000, "t" * 3000)


def test_directory_from_before_posix_is_a_name_with_a_slash() -> None:
    header = bytearray(plain("d/"))
    header[156:157], header[257:265] = b"\0", bytes(8)
    assert read(checksummed(header) + bytes(1024))[0][0].kind == "directory"


def test_checksum_of_signed_bytes_is_accepted() -> None:
    """Some old writers added the bytes as signed numbers."""
    header = bytearray(plain(os.fsdecode(b"\xff\xfe")))
    header[148:156] = b" " * 8
    signed = sum(byte - 256 * (byte > 127) for byte in header)
    header[148:156] = b"%06o\0 " % signed
    assert read(bytes(header) + bytes(1024))[0][0].name == "\udcff\udcfe"


SPECIAL = {
    "a device": tarfile.CHRTYPE, "a device ": tarfile.BLKTYPE, "a FIFO": tarfile.FIFOTYPE,
    "a sparse file": tarfile.GNUTYPE_SPARSE, "not known": b"V", "not known ": b"Z",
}  # fmt: skip


@each_case("reason", SPECIAL)
def test_member_that_is_no_file_directory_or_link_is_refused_by_name(reason: str) -> None:
    with pytest.raises(Invalid, match=rf"'odd' .*{reason.strip()}"):
        read(plain("odd", type=SPECIAL[reason]) + bytes(1024))


@pytest.mark.parametrize("key", [b"GNU.sparse.major", b"GNU.sparse.map", b"GNU.sparse.size"])
def test_sparse_file_of_pax_is_refused(key: bytes) -> None:
    with pytest.raises(Invalid, match="sparse"):
        read(extended({key: b"1"}) + plain() + bytes(1024))


def test_sparse_file_of_pax_is_named_as_its_user_knows_it() -> None:
    records = {b"GNU.sparse.major": b"1", b"GNU.sparse.name": b"d/mine"}
    with pytest.raises(
        Invalid, match=r"'d/mine' is packed as a sparse file; .* without the option"
    ):
        read(extended(records) + plain("d/GNUSparseFile.1/mine") + bytes(1024))


RICH = tar(
    directory("d"), File("d/f", os.urandom(700)), link("d/l", "f"), hard_link("h", "d/f"),
    File("n" * 200, b"x"), File("é/\udcff", b""),
)  # fmt: skip


def test_archive_that_is_cut_off_is_refused() -> None:
    end = len(RICH) - 1024
    read(RICH[: end + 512])  # one block of zeros is an end
    # Each cut next to the edge of a block, and some within: the reader takes whole blocks.
    edges = {edge + off for edge in range(0, end + 512, 512) for off in (-2, -1, 0, 1, 2)}
    for size in sorted((edges | set(range(0, end, 13))) & set(range(end + 512))):
        with pytest.raises(Invalid):
            read(RICH[:size])


@settings(max_examples=examples(1500))
@hypothesis.given(
    st.lists(st.tuples(st.integers(0, len(RICH) - 1025), st.integers(0, 255)), min_size=1,
             max_size=8),
    st.booleans(),
)  # fmt: skip
def test_damaged_archive_is_refused_or_read_but_never_breaks_the_reader(
    changes: list[tuple[int, int]], repaired: bool
) -> None:
    data = bytearray(RICH)
    for at, byte in changes:
        data[at] = byte
        start = at // 512 * 512
        if repaired:  # with a right checksum, the damage gets further in
            data[start : start + 512] = checksummed(data[start : start + 512])
    with contextlib.suppress(Invalid):
        read(bytes(data))


@hypothesis.given(st.binary(max_size=3000))
def test_stream_that_is_no_tar_is_refused(data: bytes) -> None:
    hypothesis.assume(data[:512] != bytes(512))
    with pytest.raises(Invalid):
        read(data)


@each_case(
    "data",
    [b"7 a=b\n", b"0 a=b\n", b"99 a=b\n", b"6 a=b", b"6 a=b ", b"x a=b\n", b"4 =\n",
     b"6 a=b\n\0", b"-6 a=b\n", b"99999999999 a=b\n"],
)  # fmt: skip
def test_malformed_extended_header_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        read(extension(tarfile.XHDTYPE, data) + plain() + bytes(1024))


@each_case("kind", [b"x", b"g", b"X", b"L", b"K"])
def test_extended_header_that_is_too_large_is_refused_before_it_is_read(kind: bytes) -> None:
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, HEADER_MAX + 1
    with pytest.raises(Invalid, match="extended header"):
        read(info.tobuf(tarfile.USTAR_FORMAT))


def endless(header: Callable[[int], bytes], count: int) -> Callable[[int], bytes]:
    """A stream of `count` extended headers, made as they are read, and one member."""

    def pieces() -> Iterator[bytes]:
        for number in range(count):
            yield header(number)
        yield member_bytes(File("f"))
        yield bytes(1024)

    source, rest = pieces(), bytearray()

    def read_some(size: int) -> bytes:
        while len(rest) < size and (piece := next(source, b"")):
            rest.extend(piece)
        data = bytes(rest[:size])
        del rest[:size]
        return data

    return read_some


@pytest.mark.slow
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_extended_headers_without_end_take_no_memory(
    kind: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each brings a key of its own, which a reader that remembers all would keep."""
    big = b"v" * 4000
    monkeypatch.setattr(tar_reader, "HEADERS_MAX", 2001)
    stream = endless(lambda number: extended({b"key%d" % number: big}, kind), 2000)
    tracemalloc.start()
    try:
        assert [member.name for member in TarReader(stream).members()] == ["f"]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_content_of_any_size_takes_no_memory() -> None:
    info = entry("big")
    info.size = 64 << 20
    header = info.tobuf(tarfile.PAX_FORMAT)
    left = [len(header) + info.size + 1024]

    def stream(count: int) -> bytes:
        nonlocal header
        data, header = header[:count], header[count:]
        data = data or bytes(min(count, left[0]))
        left[0] -= len(data)
        return data

    tracemalloc.start()
    try:
        assert [member.size for member in TarReader(stream).members()] == [64 << 20]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
