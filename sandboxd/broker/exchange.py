"""One exchange of plain HTTP: a request to a server, and its response to the client.

Both sides have an h11 connection, and the message is written anew, so two readers cannot disagree
about its length. Headers of the connection itself go no further (RFC 9110, 7.6.1); without Upgrade
no other protocol follows. The body of a response with a Content-Length goes past h11: exactly that
many bytes, as the head says that has been written anew. A body in chunks goes past it, too, up to
the end that its framing shows (chunked_body.py).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Protocol

import h11

from ..errors import Invalid
from .chunked_body import ChunkedBody
from .outcomes import Stopped
from .relay import CHUNK, Meter, copy
from .run_client import RunClient

_HOP = frozenset((
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
    b"proxy-connection", b"te", b"trailer", b"upgrade", b"expect", b"http2-settings",
))  # fmt: skip

PARSED = 64 * 1024
"""Bytes that go to h11 at one time. The C library returns the memory of larger pieces to the kernel
and fetches it again, which takes more time than all else."""

Headers = list[tuple[bytes, bytes]]


class ServerStream(Protocol):
    """The connection to a server."""

    async def receive(self) -> bytes:
        """The next bytes; b"" at the end."""

    async def send(self, data: bytes) -> None:
        """Send all bytes."""

    async def receive_into(self, buffer: memoryview) -> int:
        """The next bytes into a buffer; 0 at the end."""

    async def pass_on(self, client: socket.socket, size: int, meter: Meter) -> int:
        """Send the next `size` bytes to the client; the number that have come."""

    def close(self) -> None:
        """End the connection."""


class PlainServer:
    """A server without TLS."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def receive(self) -> bytes:
        """See ServerStream."""
        return await asyncio.get_running_loop().sock_recv(self._sock, PARSED)

    async def receive_into(self, buffer: memoryview) -> int:
        """See ServerStream."""
        return await asyncio.get_running_loop().sock_recv_into(self._sock, buffer)

    async def send(self, data: bytes) -> None:
        """See ServerStream."""
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def pass_on(self, client: socket.socket, size: int, meter: Meter) -> int:
        """See ServerStream."""
        return await copy(self._sock, client, meter, False, size)

    def close(self) -> None:
        """See ServerStream."""
        self._sock.close()


class TlsServer:
    """A server with TLS, for requests with a secret."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self) -> bytes:
        """See ServerStream."""
        return await self._reader.read(PARSED)

    async def receive_into(self, buffer: memoryview) -> int:
        """See ServerStream."""
        data = await self._reader.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    async def send(self, data: bytes) -> None:
        """See ServerStream."""
        self._writer.write(data)
        await self._writer.drain()

    async def pass_on(self, client: socket.socket, size: int, meter: Meter) -> int:
        """See ServerStream."""
        left = size
        while left and (data := await self._reader.read(min(left, CHUNK))):
            await meter.count(len(data), False)
            await asyncio.get_running_loop().sock_sendall(client, data)
            left -= len(data)
        return size - left

    def close(self) -> None:
        """See ServerStream."""
        self._writer.transport.abort()


class Exchange:
    """One request and its response."""

    def __init__(self, client: RunClient, stream: ServerStream, meter: Meter) -> None:
        self._client = client
        self._stream = stream
        self._meter = meter
        self._server = h11.Connection(h11.CLIENT)

    async def carry_out(self, request: h11.Request) -> None:
        """Send the request with its body, while the response is received."""
        await self._send(request)
        async with asyncio.TaskGroup() as group:
            body = group.create_task(self._send_body(), name="body")
            await self._receive_response(request.method)
            body.cancel()

    async def _send(self, event: h11.Event) -> None:
        data = self._server.send(event)
        if data:
            await self._meter.count(len(data), True)
            await self._stream.send(data)

    async def _send_body(self) -> None:
        try:
            while isinstance(event := await self._client.next_event(), h11.Data):
                await self._send(h11.Data(data=event.data))
            if not isinstance(event, h11.EndOfMessage):
                raise Stopped("cut", "the client has ended its request too early")
            await self._send(h11.EndOfMessage())
        except h11.LocalProtocolError as error:
            raise Stopped("cut", f"the request cannot be passed on: {error}") from None
        except OSError:
            pass  # the server takes no more of it; the response says why

    async def _receive_response(self, method: bytes) -> None:
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Response):
                headers = [*end_to_end(list(event.headers)), (b"Connection", b"close")]
                self._client.answered = True
                await self._answer(
                    h11.Response(
                        status_code=event.status_code, headers=headers, reason=event.reason
                    )
                )
                if size := body_size(method, event):
                    await self._pass_body(size)
                    return
                if self._keeps_chunks(method, event):
                    await self._pass_chunks()
                    return
            elif isinstance(event, h11.Data):
                await self._answer(h11.Data(data=event.data))
            elif isinstance(event, h11.EndOfMessage):
                await self._answer(h11.EndOfMessage())
                return
            elif not isinstance(event, h11.InformationalResponse):
                raise Stopped("cut", _TOO_EARLY)

    async def _pass_body(self, size: int) -> None:
        """Send a body of `size` bytes to the client. Its beginning has come with the head."""
        early = self._server.trailing_data[0][:size]
        await self._client.send(early)
        left = size - len(early)
        if left and await self._stream.pass_on(self._client.sock, left, self._meter) < left:
            raise Stopped("cut", _TOO_EARLY)

    def _keeps_chunks(self, method: bytes, response: h11.Response) -> bool:
        """The body is in chunks, which the client can read: HTTP/1.0 has none."""
        return is_chunked(method, response) and self._client.http.their_http_version == b"1.1"

    async def _pass_chunks(self) -> None:
        """Send a body in chunks to the client as it comes. Its beginning has come with the head."""
        loop, sock = asyncio.get_running_loop(), self._client.sock
        body, buffer = ChunkedBody(), bytearray(2 * CHUNK)
        view = memoryview(buffer)
        early = self._server.trailing_data[0]
        size = len(early)
        view[:size] = early
        while True:
            try:
                ready = body.read(buffer, size)
            except Invalid as error:
                raise Stopped("cut", f"the server's response is not HTTP/1.1: {error}") from None
            await loop.sock_sendall(sock, view[:ready])
            if body.is_over:
                return
            buffer[: size - ready] = buffer[ready:size]
            size -= ready
            more = await self._stream.receive_into(view[size : size + self._meter.piece])
            if not more:
                raise Stopped("cut", _TOO_EARLY)
            size += more
            await self._meter.count(more, False)

    async def _next_event(self) -> object:
        try:
            while (event := self._server.next_event()) is h11.NEED_DATA:
                data = await self._stream.receive()
                await self._meter.count(len(data), False)
                self._server.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise Stopped("cut", f"the server's response is not HTTP/1.1: {error}") from None
        return event

    async def _answer(self, event: h11.Event) -> None:
        try:
            data = self._client.http.send(event)
        except h11.LocalProtocolError as error:
            raise Stopped("cut", f"the response cannot be passed on: {error}") from None
        if data:
            await self._client.send(data)


_TOO_EARLY = "the server has ended its response too early"


def end_to_end(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    """The headers without those of the connection."""
    named = {
        name.strip().lower()
        for key, value in headers if key == b"connection"
        for name in value.split(b",")
    }  # fmt: skip
    dropped = _HOP | named - {b"content-length", b"transfer-encoding"}
    return [(key, value) for key, value in headers if key not in dropped]


def is_chunked(method: bytes, response: h11.Response) -> bool:
    """The response has a body in chunks, the one encoding that h11 allows."""
    return _has_body(method, response) and b"transfer-encoding" in dict(list(response.headers))


def body_size(method: bytes, response: h11.Response) -> int:
    """The size of a body with a Content-Length; 0: there is none, or its end shows otherwise (RFC
    9112, 6.3). h11 has refused heads with two lengths."""
    if not _has_body(method, response) or is_chunked(method, response):
        return 0
    return int(dict(list(response.headers)).get(b"content-length", b"0"))


def _has_body(method: bytes, response: h11.Response) -> bool:
    return method != b"HEAD" and response.status_code not in (204, 304)
