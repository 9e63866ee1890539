"""Archives over HTTP that cost more than they should: bombs, empty streams, refusals at once."""

from __future__ import annotations

import asyncio
import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator

import httpx
import pytest

from sandboxd.api.http.compression import EMPTY_MAX, PIECE, decompressed
from sandboxd.errors import Invalid

from .bad_requests import assert_problem
from .test_files import names

MIB = 1 << 20


def tar(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    """An archive of one empty member."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type = kind
        archive.addfile(info)
    return file.getvalue()


def unpacked(body: bytes, size: int = 65536) -> list[bytes]:
    """The pieces of a body that comes in pieces of `size` bytes."""
    pieces = iter([body[start : start + size] for start in range(0, len(body), size)])

    async def read() -> bytes:
        return next(pieces, b"")

    async def collect() -> list[bytes]:
        return [piece async for piece in decompressed(read, "identity")]

    return asyncio.run(collect())


def test_streams_without_content_are_bounded() -> None:
    empty = gzip.compress(b"")
    content = gzip.compress(b"x")
    assert b"".join(unpacked(content + empty * EMPTY_MAX)) == b"x"
    with pytest.raises(Invalid, match="streams without content"):
        unpacked(content + empty * (EMPTY_MAX + 1))


def test_any_number_of_streams_with_content_is_one_body() -> None:
    assert b"".join(unpacked(gzip.compress(b"x") * (EMPTY_MAX + 10))) == b"x" * (EMPTY_MAX + 10)


@pytest.mark.slow
def test_bomb_is_given_in_bounded_pieces() -> None:
    pieces = unpacked(gzip.compress(bytes(100 * MIB), 9))
    assert sum(map(len, pieces)) == 100 * MIB
    assert max(map(len, pieces)) <= PIECE


def test_refusal_comes_although_the_client_still_sends(http: httpx.Client, session: str) -> None:
    def body() -> Iterator[bytes]:
        yield tar("null", tarfile.CHRTYPE)
        for _ in range(32):
            yield bytes(MIB)

    answer = http.put(f"/session/{session}/archive", content=body())
    assert_problem(answer, 400)
    assert "is a device" in answer.text
    assert names(http, session) == []


@pytest.mark.slow
def test_refusal_of_a_bomb_names_its_reason(http: httpx.Client, session: str) -> None:
    """A gigabyte behind a device: the helper has long hung up."""
    packer = zlib.compressobj(9, wbits=31)
    body = packer.compress(tar("null", tarfile.CHRTYPE))
    body += b"".join(packer.compress(bytes(MIB)) for _ in range(1024)) + packer.flush()
    answer = http.put(f"/session/{session}/archive", content=body)
    assert_problem(answer, 400)
    assert "is a device" in answer.text
