"""The body of a request, as it comes: its bytes, or the parts of a form.

A body has to keep coming, and the rest of a refused body is read and dropped, so that its sender
comes to read the refusal.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Container

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from ...errors import SandboxdError
from .multipart import FileStart, UploadParser
from .problems import client_text

DROP_MAX = 64 << 20
"""Bytes of a refused body that are read, so that its sender comes to read the response."""

IDLE_S = 60.0
"""Seconds without a byte of the body after which the request is refused."""

RATE_MIN = 1024
"""Bytes a second of a body that a client has to send, after the first IDLE_S."""


class BodyReader:
    """A request's body as it comes. A `patient` reader waits for bytes for ever."""

    def __init__(self, request: Request, patient: bool = False) -> None:
        self._receive = request.receive
        self._ended = False
        self._patient = patient
        self._until = asyncio.get_running_loop().time() + IDLE_S

    async def piece(self) -> bytes:
        """The next bytes; none at the end. Raises HTTPException 408 when the client stops sending,
        ClientDisconnect when it goes away."""
        loop = asyncio.get_running_loop()
        while not self._ended:
            try:
                until = None if self._patient else min(self._until, loop.time() + IDLE_S)
                async with asyncio.timeout_at(until):
                    message = await self._receive()
            except TimeoutError:
                raise HTTPException(408, headers={"connection": "close"}) from None
            if message["type"] != "http.request":
                raise ClientDisconnect()
            self._ended = not message.get("more_body", False)
            if piece := message.get("body", b""):
                self._until += len(piece) / RATE_MIN
                return bytes(piece)
        return b""

    @contextlib.asynccontextmanager
    async def dropped_on(
        self, *refusals: type[SandboxdError] | type[HTTPException]
    ) -> AsyncIterator[None]:
        """Drop the rest of the body where one of `refusals` ends the block, and raise it again. The
        status is 413 if the body is longer than DROP_MAX."""
        try:
            yield
        except refusals as error:
            if closing := await self.drop():
                text = error.detail if isinstance(error, HTTPException) else client_text(error)
                raise HTTPException(413, text, closing) from None
            raise

    async def drop(self) -> dict[str, str] | None:
        """Read the rest of a refused body. Returns headers for the response: they close the
        connection if the body is longer than DROP_MAX."""
        dropped = 0
        while piece := await self.piece():
            dropped += len(piece)
            if dropped > DROP_MAX:
                return {"connection": "close"}
        return None


class FormReader:
    """The parts of a form in `body`: files, and the parts called as one of `fields`. Raises as
    UploadParser."""

    def __init__(self, body: BodyReader, content_type: str, fields: Container[str] = ()) -> None:
        self._body = body
        self._parser = UploadParser(content_type.encode("latin-1"), fields)
        self._events: deque[FileStart | bytes] = deque()
        self._ended = False

    async def part(self) -> FileStart | None:
        """The beginning of the next part; None: there is none. The rest of this part is dropped."""
        while event := await self._event():
            self._events.popleft()
            if isinstance(event, FileStart):
                return event
        return None

    async def piece(self) -> bytes:
        """The next bytes of the part; none at its end."""
        event = await self._event()
        if not isinstance(event, bytes):
            return b""
        self._events.popleft()
        return event

    async def _event(self) -> FileStart | bytes | None:
        """The next event, which stays the next one; None at the end of the form."""
        while not self._events and not self._ended:
            if piece := await self._body.piece():
                self._events.extend(event for event in self._parser.feed(piece) if event)
            else:
                self._ended = True
                self._parser.end()
        return self._events[0] if self._events else None
