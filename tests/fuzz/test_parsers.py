"""The parsers of headers, uploads, archives, frames and GraphQL queries."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import hypothesis
from hypothesis import strategies as st

from sandboxd.api.access import csrf, signature
from sandboxd.api.access.request_checks import VERSIONS, version_of
from sandboxd.api.folders import tus
from sandboxd.api.http import compression, multipart, ranges
from sandboxd.api.routes import frames
from sandboxd.api.routes.gql_queries import answer
from sandboxd.files.tar_reader import TarReader

from .refusals import attempt
from .values import changed, effort, objects, small_effort, texts, values

latin = st.text(st.characters(max_codepoint=255), max_size=40)
NOW = datetime(2026, 11, 29, tzinfo=UTC)


# -- headers


@effort
@hypothesis.given(
    latin | st.from_regex(r"bytes=\d{0,20}-\d{0,20}", fullmatch=True),
    texts,
    st.integers(0, 1 << 62),
)
def test_range_is_within_the_file_or_refused(wanted: str, only_if: str, size: int) -> None:
    try:
        span = ranges.span(wanted, only_if, size, "today")
    except ValueError:
        return  # 416
    assert span is None or 0 <= span[0] < span[1] <= size


tus_headers = st.dictionaries(
    st.sampled_from(["tus-resumable", "upload-offset", "content-type", "content-length"]),
    latin | st.sampled_from(["1.0.0", tus.OCTETS, "0", "5", "9" * 18, "9" * 19, "-1", "+5", "٣"]),
)


@effort
@hypothesis.given(tus_headers, st.integers(0, 1 << 62))
def test_headers_of_tus_are_an_offset_in_the_upload_or_a_4xx(
    headers: dict[str, str], size: int
) -> None:
    offset = tus.patch(headers, size)
    if isinstance(offset, tus.TusError):
        assert 400 <= offset.status < 500
    else:
        assert 0 <= offset <= size


signed = st.lists(
    st.tuples(
        st.sampled_from([
            b"authorization", b"date", b"x-backendai-date", b"x-backendai-version", b"host",
            b"content-type", b"x-sorna-version", b"origin", b"sec-fetch-site", b"cookie",
        ]),
        st.binary(max_size=40)
        | latin.map(lambda text: b"BackendAI " + text.encode("latin-1"))
        | st.sampled_from([
            b"BackendAI signMethod=HMAC-SHA256, credential=a:b", b"2026-11-29T00:00:00Z",
            b"Sun, 29 Nov 2026 00:00:00 GMT", b"20261129T000000Z", b"0001-01-01T00:00:00+23:59",
            b"9999-12-31T23:59:59-23:59", b"Sun, 29 Nov 2026 00:00:00 -9999", b"localhost:80",
            b"[::1]:5", b"[::1", b"127.0.0.1:" + b"9" * 30, b"http://localhost:80", b"v6.20220615",
            b"::", b"0x7f.1", b"\xff\xfe", b"[fe80::1%eth0]",
        ]),
    ),
    max_size=8,
)  # fmt: skip


@effort
@hypothesis.given(signed, st.binary(max_size=30))
def test_headers_of_a_signature_are_a_claim_or_refused(
    headers: list[tuple[bytes, bytes]], target: bytes
) -> None:
    claim = attempt(lambda: signature.claim(target, headers, NOW))
    if claim is not None:
        assert not signature.verify(claim, "GET", "secret")
    attempt(lambda: csrf.refuse_pages(headers))
    assert version_of(headers) is None or isinstance(version_of(headers) in VERSIONS, bool)


@effort
@hypothesis.given(texts | latin | st.datetimes().map(str))
def test_date_has_a_zone_or_is_refused(text: str) -> None:
    date = signature.parse_date(text)
    assert date is None or date.tzinfo is not None


# -- bodies that are no JSON


@effort
@hypothesis.given(
    st.binary(max_size=60)
    | latin.map(lambda text: b"multipart/form-data; " + text.encode("latin-1")),
    st.binary(max_size=120),
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
)
def test_multipart_body_is_parsed_or_refused(
    content_type: bytes, body: bytes, pieces: list[int]
) -> None:
    head = b'--b\r\nContent-Disposition: form-data; filename="x"\r\n'
    for kind, content in ((content_type, body), (b"multipart/form-data; boundary=b", head + body)):

        def parse_all(kind: bytes = kind, content: bytes = content) -> None:
            parser, start = multipart.UploadParser(kind), 0
            for size in [*pieces, len(content)]:
                parser.feed(content[start : start + size])
                start += size
            parser.end()

        attempt(parse_all)


@effort
@hypothesis.given(st.binary(max_size=80))
def test_disposition_has_a_name_or_none(value: bytes) -> None:
    name = multipart.filename(b"form-data; filename*=utf-8''" + value)
    assert name is None or isinstance(name, str)
    assert isinstance(multipart.filename(value), str | None)


HEADER = bytearray(b"name".ljust(100, b"\0") + b"0000644\0" * 3 + b"00000000005\0" * 2)


@effort
@hypothesis.given(
    st.binary(max_size=1500),
    st.lists(st.tuples(st.integers(0, 511), st.integers(0, 255)), max_size=12),
    st.sampled_from(b"\x000125xgLKSV"),
)
def test_tar_is_read_or_refused(rest: bytes, changes: list[tuple[int, int]], kind: int) -> None:
    block = bytearray(HEADER.ljust(512, b"\0"))
    block[156] = kind
    block[257:265] = b"ustar\x0000"
    for place, byte in changes:
        block[place] = byte
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    data = iter((bytes(block) + rest, b""))
    buffer = b""

    def read(count: int) -> bytes:
        nonlocal buffer
        buffer = buffer or next(data, b"")
        piece, buffer = buffer[:count], buffer[count:]
        return piece

    def read_all() -> None:
        reader = TarReader(read)
        for _member in reader.members():
            pass

    attempt(read_all)


@small_effort
@hypothesis.given(
    st.binary(max_size=60),
    st.sampled_from(["identity", "gzip", "zstd"]),
    st.sampled_from([b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", zlib.compress(b"x", wbits=31)]),
)
def test_packed_body_is_unpacked_or_refused(body: bytes, encoding: str, start: bytes) -> None:
    pieces: Iterator[bytes] = iter((start + body[:20], body[20:], b"", b""))

    async def read() -> bytes:
        return next(pieces, b"")

    async def unpack() -> None:
        async for piece in compression.decompressed(read, encoding):
            assert piece

    attempt(lambda: asyncio.run(unpack()))


# -- frames and queries


FRAMES: tuple[dict[str, Any], ...] = (
    {"type": "stdin", "chars": "eA=="},
    {"type": "resize", "rows": 1, "cols": 1},
)


@effort
@hypothesis.given(
    (objects("type", "chars", "rows", "cols") | values()).map(json.dumps)
    | st.text(max_size=30)
    | st.sampled_from(FRAMES).flatmap(changed).map(json.dumps)
)
def test_frame_of_a_terminal_is_read_or_refused(text: str) -> None:
    attempt(lambda: frames.read(text))


GRAPHQL = "{}()[]:$!#\"'@.,|=&abcdefquery mutation fragment on __schema \n0123456789"


@effort
@hypothesis.given(
    st.text(GRAPHQL, max_size=60)
    | st.sampled_from(["{" * 1500, "{a" * 600, "[" * 1500, '"' * 3, '"""', "query(" * 200])
)
def test_graphql_query_has_errors_and_raises_nothing(text: str) -> None:
    result = answer(text, {}, None, None)  # type: ignore[arg-type]  # no field is reached
    for error in result.errors or ():
        assert json.dumps(error.formatted)
