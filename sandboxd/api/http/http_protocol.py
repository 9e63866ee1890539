"""uvicorn's HTTP/1.1 protocol with bounds, and with problem documents where it refuses.

The head of a request (request line and headers) is bounded in size and in time, connections
are bounded in number (connections.py), and so are pipelined requests. A request that cannot be
parsed gets a problem document, as all refusals do. A client may close its sending side and still
gets its response (a half-closed connection). The rest of a body may take REST_S after the response
has been sent.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from .connections import READ_MAX, Bounded, Connections
from .problems import MEDIA_TYPE, RETRY_S, of_status
from .response_transport import ResponseTransport
from .responses import to_json

HEAD_MAX = 64 * 1024
"""Bytes of request line and headers together."""

HEAD_S = 30.0
"""Seconds in which a connection has to send the head of its next request."""

HEADERS_MAX = 128

PIPELINED_MAX = 16
"""Requests on a connection that wait for the response to an earlier one."""

REST_S = 30.0


class HttpProtocol(Bounded, HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head = 0
        self._unfinished = 0
        self._refused = 400
        self._timer: asyncio.TimerHandle | None = None
        self._trailers = 0
        self._whole = True
        assert isinstance(self.server_state, Connections)
        self._all = self.server_state

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A client has connected."""
        super().connection_made(transport)
        transport.max_size = READ_MAX  # type: ignore[attr-defined]  # of asyncio's transports
        self._expect_head()
        self.peer = self._all.peer_of(transport)
        if status := self._all.arrive(self):
            self._refuse(status)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._head_came()
        super().connection_lost(exc)
        for cycle in (self.cycle, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None:  # in a circle of references, which may live for long
                cycle.body = bytearray()

    def give_way(self) -> None:
        """Close the connection, whose permit or memory another one needs."""
        is_waiting = self.cycle is not None and not self.cycle.response_complete
        if is_waiting or (self._in_head and self._head):
            self._refuse(503)
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    async def _drained(self) -> None:
        await self.flow.drain()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to the other protocol."""
        self._all.leave(self)
        super().handle_websocket_upgrade()

    def _expect_head(self) -> None:
        self._head_came()
        self._timer = self.loop.call_later(HEAD_S, self._too_late)

    def _too_late(self) -> None:
        if self.scope is None:  # the client has sent no request: nothing to answer
            self.transport.close()
        else:
            self._refuse(408)

    def _head_came(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def data_received(self, data: bytes) -> None:
        """Parse the next bytes, unless the head is too large already.

        The parser reports a header only at its end, so the bytes of a head are counted here. The
        first bytes of a request are not: one read bounds them.
        """
        if self.transport.is_closing():
            return
        before = self._in_head
        super().data_received(data)
        if not self._in_head:
            self._all.head(self, 0)
            return
        self._unfinished = (self._unfinished if before else 0) + len(data)
        if before:
            self._head += len(data)
            if self._head > HEAD_MAX and not self.transport.is_closing():
                self._refuse(431)
        if not self.transport.is_closing():
            self._all.head(self, self._unfinished)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head, self._head, self._trailers, self._whole = True, 0, 0, False
        self._expect_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header. Trailers, which follow a body, are dropped: nothing here reads them."""
        if not self._in_head:
            self._trailers += len(name) + len(value) + 4
            self._check(self._trailers <= HEAD_MAX)
            return
        self._check(len(self.headers) < HEADERS_MAX)
        super().on_header(name, value)

    def _check(self, bounded: bool) -> None:
        """Raise an error unless `bounded`; uvicorn then calls send_400_response."""
        if not bounded:
            self._refused = 431
            raise ValueError("too many headers, or too large ones")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        self._head_came()
        self._all.speak(self)
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        self._check(size <= HEAD_MAX)
        self.offer(self.scope)
        super().on_headers_complete()
        if self.cycle is not None and self.cycle.scope is self.scope:
            self.cycle.transport = ResponseTransport(self.transport, self.loop)
        if len(self.pipeline) > PIPELINED_MAX:  # a response now would seem to be that of another
            self.transport.abort()
            raise ValueError("too many requests before an answer")

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._whole = True
        self._head_came()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The response has been sent, perhaps before the end of the request."""
        super().on_response_complete()
        if not self._whole and not self._in_head and not self.transport.is_closing():
            self._head_came()
            self._timer = self.loop.call_later(REST_S, self.transport.close)

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn says None
        """The client sends no more. A complete request still gets its response, unless its client
        has to be there for it (delivery.expect_presence)."""
        self._ended = True
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            if self._in_head and self._head:
                self._refuse(400)
            return False
        if cycle.more_body:
            self._refuse(400)
            return False
        if self._watched is cycle.scope:
            return False
        cycle.keep_alive = False
        return True

    def send_400_response(self, msg: str) -> None:
        """Answer to bytes that are no HTTP request; uvicorn calls it."""
        self._refuse(self._refused)

    def _refuse(self, status: int) -> None:
        """Send a problem document, unless another response has begun, and close."""
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
            if status in (429, 503):
                headers.append((b"retry-after", str(RETRY_S).encode()))
            head += [b"%b: %b\r\n" % header for header in headers]
            self.transport.write(b"".join([*head, b"\r\n", body]))
        self.transport.close()
