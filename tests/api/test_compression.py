"""The decompression of bodies: whatever comes, bounded pieces, and errors by name."""

from __future__ import annotations

import asyncio
import gzip
import os
import sys
from collections.abc import Callable

import hypothesis
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from sandboxd.api.http.compression import PIECE, compressor, decompressed
from sandboxd.errors import Invalid

from ..each_case import each_case
from ..effort import examples

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACK: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes, "gzip": gzip.compress, "zstd": zstd.compress,
}  # fmt: skip
CONTENT = b"name of a member".ljust(512, b"\0") + os.urandom(300_000) + bytes(3 * PIECE)


def pieces(data: bytes, encoding: str = "identity", step: int = 65_536) -> list[bytes]:
    """The pieces of the content of `data`, which comes `step` bytes at a time."""

    async def go() -> list[bytes]:
        starts = iter(range(0, len(data), step))

        async def read() -> bytes:
            start = next(starts, None)
            return b"" if start is None else data[start : start + step]

        return [piece async for piece in decompressed(read, encoding)]

    return asyncio.run(go())


@each_case("step", [1000, 65_536, 10 << 20])
@each_case("packing", PACK)
def test_content_comes_in_bounded_pieces(packing: str, step: int) -> None:
    parts = pieces(PACK[packing](CONTENT), step=step)
    assert b"".join(parts) == CONTENT
    assert packing == "identity" or max(map(len, parts)) <= PIECE
    assert b"".join(pieces(PACK[packing](CONTENT), packing)) == CONTENT


@settings(max_examples=examples(80))
@hypothesis.given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.sampled_from(["gzip", "zstd"]),
    st.integers(1, 50),
)  # fmt: skip
def test_streams_one_after_the_other_are_one(
    contents: list[bytes], packing: str, step: int
) -> None:
    data = b"".join(map(PACK[packing], contents))
    assert b"".join(pieces(data, step=step)) == b"".join(contents)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_zeros_behind_gzip_are_skipped(step: int) -> None:
    data = gzip.compress(b"one") + bytes(20) + gzip.compress(b"two") + bytes(600)
    assert b"".join(pieces(data, step=step)) == b"onetwo"


@pytest.mark.parametrize("step", [1, 1000])
def test_frame_that_packers_begin_with_is_skipped(step: int) -> None:
    """pzstd writes such a frame first (RFC 8878, 3.1.2)."""
    data = b"\x50\x2a\x4d\x18\x04\0\0\0four" + zstd.compress(b"content")
    assert b"".join(pieces(data, step=step)) == b"content"


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_body_cut_at_any_byte_is_refused(packing: str) -> None:
    data = PACK[packing](b"content" * 20)
    for size in range(4, len(data)):
        with pytest.raises(Invalid, match="cut off"):
            pieces(data[:size], step=11)


@settings(max_examples=examples(200))
@hypothesis.given(
    st.sampled_from(["gzip", "zstd"]), st.integers(4, 60), st.integers(1, 255), st.integers(1, 99)
)
def test_damaged_body_is_refused_or_read(packing: str, at: int, change: int, step: int) -> None:
    data = bytearray(PACK[packing](b"content of some length" * 3))
    data[at % len(data)] ^= change
    try:
        pieces(bytes(data), step=step)
    except Invalid:
        pass


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_damaged_body_and_garbage_behind_it_are_refused_by_name(packing: str) -> None:
    data = PACK[packing](os.urandom(5000))
    if packing == "zstd":
        checksum: dict[int, int] = {zstd.CompressionParameter.checksum_flag: 1}
        data = zstd.compress(os.urandom(5000), options=checksum)
    damaged = data[:2000] + os.urandom(1000) + data[3000:]
    for body in (damaged, data + b"garbage"):
        with pytest.raises(Invalid, match=f"the {packing} body is damaged"):
            pieces(body)


def test_encoding_that_the_body_does_not_have_is_refused() -> None:
    for encoding, data in (("gzip", b"plain tar"), ("zstd", gzip.compress(b"x")), ("gzip", b"")):
        with pytest.raises(Invalid, match=f"not packed with {encoding}"):
            pieces(data, encoding)
    for encoding in ("br", "deflate", "gzip, zstd", ""):
        with pytest.raises(Invalid):
            pieces(b"x", encoding)


def with_window(log: int) -> bytes:
    """A frame of zstd that needs a window of 2 ** `log` bytes."""
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: log})
    return packer.compress(os.urandom(100_000)) + packer.flush()


def test_window_of_zstd_above_8_mib_is_refused() -> None:
    assert len(b"".join(pieces(with_window(23)))) == 100_000
    for log in (24, 27):
        remedy = "a window of more than 8 MiB; pack it without the options --long and --ultra"
        with pytest.raises(Invalid, match=remedy):
            pieces(with_window(log))


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_bomb_is_unpacked_only_as_far_as_it_is_read(packing: str) -> None:
    """One piece of input stands for a hundred pieces of output."""
    packer = compressor(packing)
    assert packer
    data = b"".join(packer.compress(bytes(PIECE)) for _ in range(100)) + packer.flush()
    count = 0

    async def go() -> None:
        nonlocal count
        bodies = iter([data])

        async def read() -> bytes:
            return next(bodies, b"")

        async for piece in decompressed(read, packing):
            assert len(piece) <= PIECE
            count += 1
            if count == 3:
                return

    asyncio.run(go())
    assert count == 3


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_compressor_writes_what_the_standard_library_reads(packing: str) -> None:
    packer = compressor(packing)
    assert packer
    data = packer.compress(CONTENT) + packer.flush()
    content = gzip.decompress(data) if packing == "gzip" else zstd.decompress(data)
    assert content == CONTENT
    assert compressor("identity") is None


def test_zstd_with_a_dictionary_is_refused_with_the_remedy() -> None:
    samples = [b"some words of sample %d" % number * 20 for number in range(300)]
    body = zstd.compress(b"some words", zstd_dict=zstd.train_dict(samples, 2000))
    with pytest.raises(Invalid, match="packed with a dictionary; pack it without the option -D"):
        pieces(body)
