"""Streamed multipart bodies: the same files however they are cut, and names in every spelling."""

from __future__ import annotations

from urllib.parse import quote

import hypothesis
import pytest
from hypothesis import strategies as st

from sandboxd.api.http.multipart import FileStart, UploadParser, boundary, filename
from sandboxd.errors import Invalid

from ..each_case import each_case

TYPE = b"multipart/form-data; boundary=xyz"


def part(disposition: bytes, data: bytes, *headers: bytes) -> bytes:
    lines = [b"--xyz", b"Content-Disposition: " + disposition, *headers, b"", data, b""]
    return b"\r\n".join(lines)


def named(name: bytes, data: bytes, *headers: bytes) -> bytes:
    return part(b'form-data; name="src"; filename="' + name + b'"', data, *headers)


def files(body: bytes, sizes: list[int]) -> list[tuple[str, int, bytes]]:
    """The files of a body that comes in pieces of these sizes, over and over."""
    parser, files_seen, start, turn = UploadParser(TYPE), list[tuple[str, int, bytes]](), 0, 0
    while start < len(body):
        size = sizes[turn % len(sizes)]
        for event in parser.feed(body[start : start + size]):
            if isinstance(event, FileStart):
                files_seen.append((event.name, event.mode, b""))
            else:
                name, mode, data = files_seen[-1]
                files_seen[-1] = (name, mode, data + event)
        start, turn = start + size, turn + 1
    parser.end()
    return files_seen


@hypothesis.given(
    st.lists(st.binary(max_size=60) | st.sampled_from([b"\r\n--xy", b"--xyz-", b"\r\n"])),
    st.lists(st.integers(1, 40), min_size=1),
)
def test_the_pieces_of_an_upload_body_do_not_change_its_files(
    contents: list[bytes], sizes: list[int]
) -> None:
    contents = [data for data in contents if b"--xyz" not in data]
    body = b"".join(named(b"f%d" % n, data) for n, data in enumerate(contents)) + b"--xyz--\r\n"
    if contents:
        assert files(body, sizes) == [(f"f{n}", 0o644, d) for n, d in enumerate(contents)]


@hypothesis.given(st.binary(max_size=300), st.lists(st.integers(1, 40), min_size=1))
def test_garbage_as_an_upload_body_is_refused_without_another_error(
    body: bytes, sizes: list[int]
) -> None:
    try:
        files(body, sizes)
    except Invalid:
        pass


@each_case("cut", range(0, len(named(b"f", b"data")) + 6, 3))
def test_a_truncated_body_is_refused(cut: int) -> None:
    body = named(b"f", b"data") + b"--xyz--\r\n"
    with pytest.raises(Invalid):
        files(body[:cut], [1000])


@pytest.mark.parametrize(
    "disposition", [b"", b"form-data", b'form-data; name="src"', b"form-data; xfilename=a"]
)
def test_a_part_that_is_no_file_is_refused(disposition: bytes) -> None:
    with pytest.raises(Invalid):
        files(part(disposition, b"x") + b"--xyz--\r\n", [1000])


def test_a_file_can_be_made_executable() -> None:
    body = named(b"a", b"", b"X-Sandboxd-Mode: 755") + named(b"b", b"", b"x-sandboxd-mode: 644")
    assert [mode for _, mode, _ in files(body + b"--xyz--\r\n", [7])] == [0o755, 0o644]


def test_an_upload_with_other_permissions_than_644_and_755_is_refused() -> None:
    with pytest.raises(Invalid):
        files(named(b"a", b"", b"X-Sandboxd-Mode: 4755") + b"--xyz--\r\n", [1000])


@each_case(
    ("spelling", "name"),
    [
        (b'form-data; filename="a b.c"', "a b.c"),
        (b"form-data; filename=plain", "plain"),
        (b'form-data; filename="a\\"b\\\\c"', 'a"b\\c'),
        (b'form-data; filename="a;b=c"', "a;b=c"),
        (b'form-data; filename="sub%2Fa%20b.h"', "sub/a b.h"),
        (b'form-data; filename="100%"', "100%"),
        (b'form-data; filename="a%2fb"', "a%2fb"),
        (b'form-data; filename="a/b%20c"', "a/b%20c"),
        (b'form-data; filename="\xed\x95\x9c"', "한"),
        (b'form-data; filename="\xff"', "\udcff"),
        (b'form-data; filename="%FF"', "\udcff"),
        (b"form-data; filename*=UTF-8''sub%2F%ED%95%9C", "sub/한"),
        (b"form-data; filename=\"x\"; filename*=utf-8'en'y", "y"),
        (b'form-data; FileName="a"; filename="b"', "a"),
        (b'form-data; filename=""', ""),
        (b"form-data", None),
    ],
)
def test_each_spelling_of_a_file_name_is_read_as_the_same_name(
    spelling: bytes, name: str | None
) -> None:
    assert filename(spelling) == name


@hypothesis.given(
    st.text(alphabet=st.characters(codec="utf-8", exclude_characters='"\\'), min_size=1)
)
def test_names_as_the_official_client_encodes_them_are_decoded(name: str) -> None:
    encoded = quote(name, safe="").encode()
    assert filename(b'form-data; name="src"; filename="' + encoded + b'"') == name


@each_case(
    "content_type",
    [
        b"", b"application/json", b"multipart/form-data", b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=" + b"x" * 71, b"multipart/mixed; boundary=x",
    ],
)  # fmt: skip
def test_an_upload_needs_a_boundary(content_type: bytes) -> None:
    with pytest.raises(Invalid):
        boundary(content_type)


def test_a_boundary_may_be_quoted() -> None:
    assert boundary(b'Multipart/Form-Data; charset=utf-8; Boundary="a b"') == b"a b"
