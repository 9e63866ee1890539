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
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.datastructures import Headers
from websockets.frames import Frame
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from ...errors import SandboxdError
from .connections import Bounded, Connections
from .http_protocol import SERVER
from .problems import MEDIA_TYPE, of_error, of_status
from .responses import to_json

MESSAGE_MAX = 2 << 20
"""Bytes of one message of a client; as much as a JSON body may have."""

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

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client has asked for a WebSocket on its connection."""
        super().connection_made(transport)
        self._all.came(self.client)

    def data_received(self, data: bytes) -> None:
        """Parse the next bytes. The library has no event for a handshake that it cannot read."""
        super().data_received(data)
        if self.conn.handshake_exc and not self.handshake_initiated:
            self.handshake_initiated = self.handshake_complete = self.close_sent = True
            answer = self.conn.reject(400, str(self.conn.handshake_exc))
            answer.headers["server"] = SERVER
            self.transport.write(answer.serialize())
            self.transport.close()

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

    async def _drained(self) -> None:
        await self.writable.wait()

    def handle_connect(self, event: Request) -> None:
        """The handshake."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            self.offer(self.scope)
