"""A plain HTTP request through the broker: one request, one response, then the end.

Both sides have an h11 connection, and the message is written anew, so two readers cannot disagree
about its length. Headers of the connection itself go no further (RFC 9110, 7.6.1); without Upgrade
no other protocol follows. Host is the host of the request line.

A request for the host of a secret goes over TLS, with the header of the secret: GET and HEAD below
its path alone. The broker follows no redirect.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import h11

from ..errors import Invalid
from ..network_hosts import HostPort, parse_target
from .outcomes import Stopped
from .relay import CHUNK, Meter
from .run_client import RunClient

_TARGET = re.compile(rb"http://([^/?#@\\]+)(/[^#]*|\?[^#]*)?", re.IGNORECASE)
_HOP = frozenset((
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
    b"proxy-connection", b"te", b"trailer", b"upgrade", b"expect", b"http2-settings",
))  # fmt: skip
_OVERRIDING = frozenset((
    b"x-http-method", b"x-http-method-override", b"x-method-override", b"x-original-url",
    b"x-rewrite-url",
))  # fmt: skip
"""Headers by which a server takes another method or path than those of the request line. With a
secret they would undo the check of both."""
_ENCODED = re.compile(rb"%(?:2e|2f|5c|00)|\\", re.IGNORECASE)

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Secret:
    """A header for requests to `target` below `path`."""

    target: HostPort
    path: str
    header: str
    value: str

    def __repr__(self) -> str:
        return f"Secret({self.target}, {self.path}, {self.header})"


@dataclass(frozen=True, slots=True)
class ForwardedRequest:
    """The target of a request, and the path with its query."""

    target: HostPort
    path: bytes


def split(target: bytes) -> ForwardedRequest:
    """The target of a request line for a proxy: http://HOST[:PORT]/PATH. Raises Stopped."""
    match = _TARGET.fullmatch(target)
    if match is None:
        raise Stopped(
            "bad-request", "a proxy takes CONNECT, and requests for http://HOST/PATH, alone"
        )
    path = match[2] or b"/"
    try:
        host = parse_target(match[1].decode("ascii"), 80)
    except (Invalid, UnicodeDecodeError) as error:
        raise Stopped("bad-request", str(error)) from None
    return ForwardedRequest(host, path if path.startswith(b"/") else b"/" + path)


def secret_of(
    request: h11.Request, wanted: ForwardedRequest, secrets: Sequence[Secret]
) -> Secret | None:
    """The secret of a request; None: its host has none. Raises Stopped for another request to the
    host of a secret."""
    of_host = [secret for secret in secrets if secret.target == wanted.target]
    if not of_host:
        return None
    path = wanted.path.partition(b"?")[0]
    # A server in Java takes "..;" for "..": it cuts the parameters of a segment off first.
    segments = [segment.partition(b";")[0] for segment in path.split(b"/")]
    is_plain = not _ENCODED.search(path) and not {b".", b".."} & set(segments) and b"//" not in path
    if request.method in (b"GET", b"HEAD") and is_plain:
        for secret in of_host:
            if path.startswith(secret.path.encode()):
                return secret
    paths = ", ".join(sorted({secret.path for secret in of_host}))
    raise Stopped(
        "no-secret", f"http://{wanted.target} is for GET and HEAD below {paths}; use https for more"
    )


def end_to_end(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    """The headers without those of the connection."""
    named = {
        name.strip().lower()
        for key, value in headers if key == b"connection"
        for name in value.split(b",")
    }  # fmt: skip
    dropped = _HOP | named - {b"content-length", b"transfer-encoding"}
    return [(key, value) for key, value in headers if key not in dropped]


def rewritten(request: h11.Request, wanted: ForwardedRequest, secret: Secret | None) -> h11.Request:
    """The request for the server."""
    default = 443 if secret else 80
    host = str(wanted.target).removesuffix(f":{default}")
    headers = [(key, value) for key, value in end_to_end(list(request.headers)) if key != b"host"]
    if secret:
        dropped = _OVERRIDING | {secret.header.lower().encode()}
        headers = [(key, value) for key, value in headers if key not in dropped]
        headers.append((secret.header.encode(), secret.value.encode()))
    headers = [(b"Host", host.encode()), *headers, (b"Connection", b"close")]
    return h11.Request(method=request.method, target=wanted.path, headers=headers)


@functools.cache
def trusted() -> ssl.SSLContext:
    """The certificates that the host trusts. The variables are read here, since the title of the
    process lies where the C library has them."""
    file, directory = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    return ssl.create_default_context(cafile=file, capath=directory)


async def forward(
    client: RunClient, request: h11.Request, server: socket.socket, secret: Secret | None,
    wanted: ForwardedRequest, meter: Meter,
) -> None:  # fmt: skip
    """Carry out one request on the connected socket `server`. Raises Stopped, OSError."""
    name = wanted.target.host
    try:
        reader, writer = await asyncio.open_connection(
            sock=server, limit=CHUNK, ssl=trusted() if secret else None,
            server_hostname=name if secret else None,
        )  # fmt: skip
    except ssl.SSLError as error:
        raise Stopped("unreachable", f"{wanted.target}: {error.reason or error}") from None
    exchange = Exchange(client, reader, writer, meter)
    try:
        await exchange.carry_out(rewritten(request, wanted, secret))
    finally:
        writer.transport.abort()


class Exchange:
    """One request and its response."""

    def __init__(
        self,
        client: RunClient,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        meter: Meter,
    ) -> None:
        self._client = client
        self._reader = reader
        self._writer = writer
        self._meter = meter
        self._server = h11.Connection(h11.CLIENT)

    async def carry_out(self, request: h11.Request) -> None:
        """Send the request with its body, while the response is received."""
        await self._send(request)
        body = asyncio.create_task(self._send_body(), name="body")
        try:
            await self._receive_response()
        finally:
            body.cancel()
            with contextlib.suppress(asyncio.CancelledError, Stopped, OSError):
                await body

    async def _send(self, event: h11.Event) -> None:
        data = self._server.send(event)
        if data:
            self._writer.write(data)
            await self._writer.drain()
            await self._meter.count(len(data), True)

    async def _send_body(self) -> None:
        try:
            while isinstance(event := await self._client.next_event(), h11.Data):
                await self._send(h11.Data(data=event.data))
            if isinstance(event, h11.EndOfMessage):
                await self._send(h11.EndOfMessage())
            else:  # the client has gone in the middle of its body
                self._writer.transport.abort()
        except (Stopped, h11.LocalProtocolError):
            self._writer.transport.abort()

    async def _receive_response(self) -> None:
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
            elif isinstance(event, h11.Data):
                await self._answer(h11.Data(data=event.data))
            elif isinstance(event, h11.EndOfMessage):
                await self._answer(h11.EndOfMessage())
                return
            elif not isinstance(event, h11.InformationalResponse):
                raise Stopped("cut", "the server has ended its response too early")

    async def _next_event(self) -> object:
        try:
            while (event := self._server.next_event()) is h11.NEED_DATA:
                data = await self._reader.read(CHUNK)
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
