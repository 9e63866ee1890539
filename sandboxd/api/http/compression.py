"""The compression of bodies, gzip or zstd: of requests, and of responses that ask for it.

A few bytes of a request can stand for gigabytes. Each step of the decompression therefore gives
PIECE bytes at most, in a thread, and the next step waits until its reader has taken them. So a body
costs CPU only as fast as the disk takes its content, and memory for one piece and one window.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from ...errors import Invalid
from .route import Header

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE = 1 << 20
"""Bytes that one step gives at most."""

_WINDOW_LOG = 23
"""Of zstd: 8 MiB of memory, which RFC 8878 (3.1.1.1.2) asks decoders to support."""

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SKIPPABLE = tuple(bytes((number,)) + b"\x2a\x4d\x18" for number in range(0x50, 0x60))
"""The frames without content that some packers of zstd begin with (RFC 8878, 3.1.2)."""

_MAGIC_SIZE = 4

EMPTY_MAX = 1000
"""Streams without content in one body: each costs far more than its few bytes."""

ENCODINGS = ("identity", "gzip", "zstd")

_UNREADABLE = {
    "requires too much memory": "is packed with a window of more than 8 MiB; pack it without the "
    "options --long and --ultra of zstd",
    "Dictionary mismatch": "is packed with a dictionary; pack it without the option -D of zstd",
}
"""Parts of messages of zstd about bodies that are whole -> the reason and the remedy."""

HEADER = Header(
    "Content-Encoding", "must agree with the first bytes of the body", {"enum": list(ENCODINGS)}
)


class _Decompressor(Protocol):
    """The interface of bz2, lzma and zstd in the standard library."""

    @property
    def eof(self) -> bool:
        """The stream has ended."""

    @property
    def needs_input(self) -> bool:
        """All output of the input so far has been given."""

    @property
    def unused_data(self) -> bytes:
        """The input behind the end of the stream."""

    def decompress(self, data: bytes, /, max_length: int = -1) -> bytes:
        """At most `max_length` bytes."""


class Compressor(Protocol):
    """The interface of zlib and zstd in the standard library."""

    def compress(self, data: bytes, /) -> bytes:
        """As much of the output as there is by now."""

    def flush(self) -> bytes:
        """The rest of it."""


class _Gzip:
    """gzip with the interface of the other decompressors."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        """The stream has ended."""
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        """The input behind the end of the stream."""
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """At most `max_length` bytes."""
        output = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        # With a full output there may be more of it inside, even if all input is taken.
        self.needs_input = not self._inner.unconsumed_tail and len(output) < max_length
        return output


Read = Callable[[], Awaitable[bytes]]
"""Gives a body piece by piece; an empty piece is its end."""


async def decompressed(read: Read, encoding: str) -> AsyncIterator[bytes]:
    """The content of the body that `read` gives.

    Its first bytes tell how it is packed; an `encoding` that the client names must agree. Raises
    Invalid for a body that is damaged or cut off.
    """
    if encoding not in ENCODINGS:
        allowed = f"one of {', '.join(ENCODINGS)}"
        raise Invalid.of({"content-encoding": allowed})
    first = b""
    while len(first) < _MAGIC_SIZE and (piece := await read()):
        first += piece
    is_zstd = first.startswith((_ZSTD, *_SKIPPABLE))
    actual = "gzip" if first.startswith(_GZIP) else "zstd" if is_zstd else "identity"
    if encoding not in ("identity", actual):
        raise Invalid(
            f"the body is not packed with {encoding}, but the header Content-Encoding says so; "
            "leave the header out"
        )
    if actual == "identity":
        while first:
            yield first
            first = await read()
        return
    async for piece in _streams(first, read, actual):
        yield piece


async def _streams(data: bytes, read: Read, kind: str) -> AsyncIterator[bytes]:
    """The content of a packed body, which begins with `data`. Several streams one after the other
    are one. Raises Invalid."""
    empty = 0
    while data:
        stream, is_empty = _Gzip() if kind == "gzip" else _zstd(), True
        async for output in _stream(stream, data, read, kind):
            is_empty = False
            yield output
        empty += is_empty
        if empty > EMPTY_MAX:
            raise Invalid(f"the {kind} body has more than {EMPTY_MAX} streams without content")
        data = stream.unused_data or await read()
        while data and not (data := data.lstrip(b"\0")):  # tapes and gzip fill up with zeros
            data = await read()


async def _stream(
    stream: _Decompressor, data: bytes, read: Read, kind: str
) -> AsyncIterator[bytes]:
    """The content of one stream, which begins with `data`. Raises Invalid."""
    while not stream.eof:
        try:
            output = await asyncio.to_thread(stream.decompress, data, PIECE)
        except (zlib.error, zstd.ZstdError) as error:
            damaged = "is damaged; pack it and send it again"
            reasons = (text for part, text in _UNREADABLE.items() if part in str(error))
            raise Invalid(f"the {kind} body {next(reasons, damaged)}") from None
        if output:
            yield output
        data = b""
        if stream.needs_input and not stream.eof:
            data = await read()
            if not data:
                raise Invalid(f"the {kind} body was cut off; send the whole body")


def _zstd() -> _Decompressor:
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    return zstd.ZstdDecompressor(options=options)


def compressor(encoding: str) -> Compressor | None:
    """The compressor for one of ENCODINGS; None: there is nothing to do."""
    if encoding == "gzip":
        return zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return zstd.ZstdCompressor() if encoding == "zstd" else None
