"""The client of a connection, a program of the run: the head of its request, and our response.

h11 parses the request. Its bounds hold: a head has HEAD_MAX bytes at most, and a request whose
length can be read in two ways is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from http import HTTPStatus

import h11

from .outcomes import STATUS, Stopped

HEAD_MAX = 32 * 1024
HEAD_S = 15.0
"""Seconds that a client has for the head of its request, and for its ClientHello."""

_RECEIVE = 64 * 1024

ALERT = bytes([21, 3, 3, 0, 2, 2, 112])
"""The alert of TLS for a name that is not known (unrecognized_name, RFC 6066)."""


class RunClient:
    """The connection of one client, for one request."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX)
        self.answered = False
        self.is_tunnel = False

    async def receive(self) -> bytes:
        """The next bytes; b"" at the end."""
        return await asyncio.get_running_loop().sock_recv(self.sock, _RECEIVE)

    async def send(self, data: bytes) -> None:
        """Send all bytes."""
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def next_event(self) -> object:
        """The next part of the request. Raises Stopped for one that is not HTTP/1, or not whole."""
        is_open = True
        try:
            while (event := self.http.next_event()) is h11.NEED_DATA:
                if self.http.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    await self.send(self.http.send(go_on) or b"")
                data = await self.receive()
                is_open = data != b""
                self.http.receive_data(data)
        except h11.RemoteProtocolError:
            if not is_open:
                raise Stopped("cut", "the client left within its request") from None
            raise Stopped("bad-request", "the request is not HTTP/1.1") from None
        return event

    async def request(self) -> h11.Request | None:
        """The head of the request; None: the client has sent none."""
        event = await self.next_event()
        if not isinstance(event, h11.Request):
            return None
        if event.http_version not in (b"1.0", b"1.1"):
            raise Stopped("bad-request", "the request is not HTTP/1.1")
        names = {name for name, _ in event.headers}
        # h11 reads the chunks, and leaves both headers to the server, which may count the bytes.
        if b"transfer-encoding" in names and (
            b"content-length" in names or event.http_version == b"1.0"
        ):
            raise Stopped("bad-request", "the length of the request can be read in two ways")
        return event

    async def open_tunnel(self) -> bytes:
        """Answer a CONNECT, whose body is empty; the bytes that have come behind it. Raises
        Stopped."""
        if not isinstance(await self.next_event(), h11.EndOfMessage):
            raise Stopped("bad-request", "a CONNECT has no body")
        rest, _ = self.http.trailing_data
        self.answered = self.is_tunnel = True
        await self.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return bytes(rest)

    async def refuse(self, stopped: Stopped) -> None:
        """Send the reason, if the client can still read one."""
        with contextlib.suppress(OSError, h11.LocalProtocolError):
            if self.is_tunnel:
                if stopped.outcome == "tls-name":
                    await self.send(ALERT)
            elif not self.answered:
                self.answered = True
                await self.send(_response(stopped))
            self.sock.shutdown(socket.SHUT_WR)


def turn_away(sock: socket.socket, stopped: Stopped) -> None:
    """Send the reason to a client that is not served, without waiting, and close its connection."""
    sock.setblocking(False)
    with sock, contextlib.suppress(OSError):
        with contextlib.suppress(BlockingIOError):
            sock.recv(
                HEAD_MAX
            )  # unread bytes would reset the connection, and take the reason with it
        sock.send(_response(stopped))
        sock.shutdown(socket.SHUT_WR)


def _response(stopped: Stopped) -> bytes:
    status = HTTPStatus(STATUS[stopped.outcome])
    body = f"sandboxd: {stopped.reason}\n".encode("utf-8", "backslashreplace")
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nX-Sandboxd-Refused: {stopped.outcome}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
