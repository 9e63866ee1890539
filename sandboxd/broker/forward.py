"""A plain HTTP request through the broker: one request, one response, then the end.

The request is written anew. Host is the host of the request line. exchange.py carries it out.

A request for the host of a secret goes over TLS, with the header of the secret: GET and HEAD below
its path alone. The broker follows no redirect.
"""

from __future__ import annotations

import asyncio
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
from .exchange import Exchange, PlainServer, TlsServer, end_to_end
from .outcomes import Stopped
from .relay import CHUNK, Meter
from .run_client import RunClient

_TARGET = re.compile(rb"http://([^/?#@\\]+)(/[^#]*|\?[^#]*)?", re.IGNORECASE)
_OVERRIDING = frozenset((
    b"x-http-method", b"x-http-method-override", b"x-method-override", b"x-original-url",
    b"x-rewrite-url",
))  # fmt: skip
"""Headers by which a server takes another method or path than those of the request line. With a
secret they would undo the check of both."""
_ENCODED = re.compile(rb"%(?:2e|2f|5c|00)|\\", re.IGNORECASE)


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
    """Carry out one request on the connected socket `server`, and close it. Raises Stopped,
    OSError."""
    stream = await _encrypted(server, wanted.target) if secret else PlainServer(server)
    try:
        await Exchange(client, stream, meter).carry_out(rewritten(request, wanted, secret))
    finally:
        stream.close()


async def _encrypted(server: socket.socket, target: HostPort) -> TlsServer:
    try:
        reader, writer = await asyncio.open_connection(
            sock=server, limit=CHUNK, ssl=trusted(), server_hostname=target.host
        )
    except ssl.SSLError as error:
        raise Stopped("unreachable", f"{target}: {error.reason or error}") from None
    return TlsServer(reader, writer)
