"""uvicorn's HTTP/1.1 protocol with bounds, and with problem documents where it refuses.

The head of a request (request line and headers) is bounded in size and in time, connections
are bounded in number. What cannot be parsed is answered as everything else that is wrong. A
client may close its sending side and still gets its answer (a half-closed connection).
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from .answers import to_json
from .problems import MEDIA_TYPE, of_status

HEAD_MAX = 64 * 1024
"""Bytes of request line and headers together."""

HEAD_S = 30.0
"""Seconds in which a connection has to send the head of its next request."""

CONNECTIONS_MAX = 2000

SERVER = "BackendAI"
"""What answers say they are from."""


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head = 0
        self._refused = 400
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            self._refuse(503)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._head_came()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head_came()
        self._timer = self.loop.call_later(HEAD_S, self._too_late)

    def _too_late(self) -> None:
        if self.scope is None:  # it never said anything: nothing to answer
            self.transport.close()
        else:
            self._refuse(408)

    def _head_came(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless the head is too large already.

        A header that has not ended yet is in no callback: it is counted here, but for the
        piece in which the request begins, which is bounded by what one read returns.
        """
        if self.transport.is_closing():
            return
        before = self._in_head
        super().data_received(data)
        if before and self._in_head:
            self._head += len(data)
            if self._head > HEAD_MAX and not self.transport.is_closing():
                self._refuse(431)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head, self._head = True, 0
        self._expect_head()

    def on_headers_complete(self) -> None:
        """The head is whole; raising ends the connection by way of send_400_response."""
        self._in_head = False
        self._head_came()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > HEAD_MAX:
            self._refused = 431
            raise ValueError("the head of the request is too large")
        super().on_headers_complete()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more. A whole request still gets its answer."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            if self._in_head and self._head:
                self._refuse(400)
            return False
        if cycle.more_body:
            self._refuse(400)
            return False
        cycle.keep_alive = False
        return True

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what is no HTTP request."""
        self._refuse(self._refused)

    def _refuse(self, status: int) -> None:
        """Answer with a problem document, unless another answer has begun, and close."""
        if self.transport is None or self.transport.is_closing():
            return
        self._head_came()
        cycle = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            body = to_json(of_status(status))
            head = [STATUS_LINE[status]]
            headers = [
                *self.server_state.default_headers,
                (b"content-type", MEDIA_TYPE.encode()),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            head += [b"%b: %b\r\n" % header for header in headers]
            self.transport.write(b"".join([*head, b"\r\n", body]))
        self.transport.close()
