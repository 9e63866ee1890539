"""uvicorn's WebSocket protocol with bounds, and with problem documents where it refuses.

A frame goes to the transport only when the frame before it has left (uvicorn waits for that), so a
slow reader costs one frame of memory. The connection of a client that reads nothing is aborted in
the end (connections.py), and so is that of a client that sends pings and does not read the pongs.
The daemon sends pings, so that proxies keep the connection open. A pong has no deadline: a client
that waits for input from its user may not read before that.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.frames import Frame
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from ...errors import SandboxdError
from .body_budget import Reservation
from .connections import SERVER, Bounded, Connections
from .problems import MEDIA_TYPE, of_error, of_status
from .responses import to_json

MESSAGE_MAX = 2 << 20
"""Bytes of one message of a client; as much as a JSON body may have."""

MESSAGE_S = 60.0
"""Seconds in which a message has to be complete, without the time in which nothing is read."""

MESSAGE_COST = 512
"""Bytes that a message or a frame counts beside its content: an empty message is not free."""

REFUSED_S = 3.0
"""Seconds in which a refused client has to read why, and to close its side."""

TRY_AGAIN, TOO_SLOW, NO_TEXT = 1013, 1008, 1007
"""The codes of a close: try again later, policy violation, no UTF-8 (RFC 6455 and its registry)."""

FRAGMENTS_MAX = 4096
"""Frames of one message; an empty frame costs a client next to nothing."""

ANSWERS_MAX = 256 * 1024
"""Bytes of pongs that may wait for the client to read them."""


class Handshake(ServerProtocol):
    """The handshake of RFC 6455, with problem documents as refusals."""

    def send_response(self, response: Response) -> None:
        """Send the response to the handshake, with the header Server."""
        response.headers.setdefault("server", SERVER)
        super().send_response(response)

    def reject(self, status: HTTPStatus | int, text: str) -> Response:
        """The response that refuses a handshake."""
        internal = of_error(SandboxdError())[1]  # the cause of a 500 is for the log only
        body = to_json(internal if status == 500 else of_status(int(status), text.strip()))
        headers = Headers()
        headers["Content-Type"] = MEDIA_TYPE
        headers["Content-Length"] = str(len(body))
        headers["Connection"] = "close"
        return Response(int(status), HTTPStatus(status).phrase, headers, body)


class WebSocketProtocol(Bounded, WebSocketsSansIOProtocol):
    """One connection, from the handshake on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        logger = logging.getLogger("uvicorn.error")
        self.conn = Handshake(max_size=MESSAGE_MAX, logger=logger)
        self._all: Connections = kwargs["server_state"]
        self._reservation = Reservation(self._all.bodies)
        self._waiting = deque[int]()  # sizes of messages for the application
        self._in_hand = 0  # the size of the message that it works on
        self._waiting_size = 0  # of both
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client has asked for a WebSocket on its connection."""
        super().connection_made(transport)
        self.peer = self._all.peer_of(transport)
        self._all.arrive(self)
        self._all.speak(self)

    def mark_known(self, owner: str) -> None:
        """The handshake of `owner` was authenticated."""
        super().mark_known(owner)
        self._reservation.belong_to(owner)

    def give_way(self) -> None:
        """Close the connection, whose permit another one needs."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse the next bytes. The library has no event for a handshake that it cannot read."""
        super().data_received(data)
        self._count()
        if self.conn.handshake_exc and not self.handshake_initiated:
            self.handshake_initiated = self.handshake_complete = self.close_sent = True
            answer = self.conn.reject(400, str(self.conn.handshake_exc))
            answer.headers["server"] = SERVER
            self.transport.write(answer.serialize())
            self.transport.close()

    def _count(self) -> None:
        """Count what is in memory, and watch the time of a message that is not complete."""
        unfinished = len(self.conn.reader.buffer) + (self.conn.current_size or 0)
        unfinished += len(self.frames) * MESSAGE_COST
        fits = self._reservation.resize(unfinished + self._waiting_size)
        if not unfinished or self.read_paused or self.transport.is_closing():
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(MESSAGE_S, self._too_late)
        if not fits and not self.transport.is_closing():
            self._fail(TRY_AGAIN, "too many clients are sending messages at once")

    def _too_late(self) -> None:
        self._fail(TOO_SLOW, f"a message has to be complete within {MESSAGE_S:g} s")

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _fail(self, code: int, reason: str) -> None:
        """Drop the message that is not complete and all that follows, and close the connection. A
        socket that is closed with unread bytes would be reset, and the client would not learn why:
        so they are read and dropped for REFUSED_S."""
        if self.close_sent:
            self.transport.abort()
            return
        self.conn.fail(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.close_timer = self.loop.call_later(REFUSED_S, self.transport.close)
        self._drop_unfinished()
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def _drop_unfinished(self) -> None:
        """Give the memory back. The connection is in a circle of references, which may live for
        long after its end."""
        self.conn.reader.buffer.clear()
        self.conn.current_size = None
        self.frames = []
        self._count()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application has ended, and reads no more messages."""
        super().on_task_complete(task)
        self.queue = asyncio.Queue()
        self._waiting.clear()
        self._waiting_size = 0
        self._count()

    def send_receive_event_to_app(self) -> None:
        """A message is complete."""
        self._stop_timer()
        if self.curr_msg_data_type == "text" and not _is_utf8(b"".join(self.frames)):
            self._fail(NO_TEXT, "a text message has to be UTF-8")
            return
        wide = 1 if all(map(_is_ascii, self.frames)) else 4  # bytes of a character in a text
        size = sum(map(len, self.frames)) * wide + MESSAGE_COST
        before = self.queue.qsize()
        super().send_receive_event_to_app()
        if self.queue.qsize() > before:
            self._waiting.append(size)
            self._waiting_size += size

    async def receive(self) -> Any:
        """The next message for the application, which is done with the one before."""
        if self._in_hand:
            self._waiting_size -= self._in_hand
            self._in_hand = 0
            self._count()
        message = await super().receive()
        if message["type"] == "websocket.receive":
            self._in_hand = self._waiting.popleft()
        self._count()
        return message

    async def send(self, message: Any) -> None:
        """Pass a message of the application on. A refused handshake is complete as well; without
        this, uvicorn would log an error of the application."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True

    def handle_cont(self, event: Frame) -> None:
        """A further frame of a message."""
        if len(self.frames) >= FRAGMENTS_MAX:
            self.transport.abort()
        else:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer a ping, if the client reads."""
        if self.transport.get_write_buffer_size() > ANSWERS_MAX:
            self.transport.abort()
        else:
            super().handle_ping()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        super().connection_lost(exc)
        self.writable.set()
        self._drop_unfinished()

    async def _drained(self) -> None:
        await self.writable.wait()

    def handle_connect(self, event: Request) -> None:
        """The handshake."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.offer(self.scope)
            self.read_paused = True  # until the application asks for what comes
            self.transport.pause_reading()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_ascii(part: bytes) -> bool:
    return part.isascii()
