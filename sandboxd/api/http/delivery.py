"""Whether an answer has been handed over: all of it is the kernel's, and somebody is there.

What is in the daemon's own buffers is lost if it is killed, and what is sent to a client that
has closed its socket was never told. So both protocols can be asked, through the scope of a
request (ASGI's `extensions`), to wait until the buffer is empty and to say what the socket says.

A client far away that has just vanished cannot be noticed so: its next call tells where it is.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Send

AT_ONCE = 16 * 1024
"""Bytes that any socket has room for when all before has left."""

_KEY = "sandboxd.handed_over"
_PRESENCE = "sandboxd.presence"

PATIENCE_S = 10.0
"""Seconds that a client has to take an answer in. What it has not got then it may ask for again,
over another connection."""


class Delivering:
    """Part of a protocol; the rest of it says when its `transport` was full and is no longer."""

    transport: Any
    _failure: Exception | None = None
    _lost = False
    _ended = False  # the client sends no more
    _watched: Any = None

    def offer(self, scope: Any) -> None:
        """Let the application of `scope` ask."""
        extensions = scope.setdefault("extensions", {})
        extensions[_KEY] = self._handed_over
        extensions[_PRESENCE] = lambda: self._expect_presence(scope)

    def _expect_presence(self, scope: Any) -> None:
        self._watched = scope
        if self._ended:
            self.transport.close()

    def noticed_loss(self, failure: Exception | None) -> None:
        """The connection is gone, by `failure` or in good order."""
        self._lost, self._failure = True, self._failure or failure

    async def _drained(self) -> None:
        """The transport takes more. Does not wait for a connection that is lost."""
        raise NotImplementedError

    async def _handed_over(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_S):
                self.transport.set_write_buffer_limits(0)
                await self._drained()
        except TimeoutError:
            return False
        finally:
            self.transport.set_write_buffer_limits()
        if self.transport.is_closing():
            await asyncio.sleep(0)  # why, the loop tells in its next round
        if self._lost:
            return self._failure is None
        sock = self.transport.get_extra_info("socket")
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0)


def expect_presence(scope: MutableMapping[str, Any]) -> None:
    """From now on the client of this request is gone when it sends no more. Others may close
    their half of the connection and still get their answer, which is of no use here: an answer
    that comes late or never would be sent to nobody for long."""
    if expect := scope.get("extensions", {}).get(_PRESENCE):
        expect()


async def hand_over(
    answer: Response,
    scope: MutableMapping[str, Any],
    send: Send,
    note: Callable[[], Awaitable[None]],
) -> None:
    """Send `answer`, and call `note` right before its last bytes, without which it is none.

    Raises ClientDisconnect when not all of it could be handed over.
    """
    body = bytes(answer.body)
    last = len(body) - 1 if len(body) > AT_ONCE else 0
    head = {"type": "http.response.start", "status": answer.status_code}
    await send(head | {"headers": answer.raw_headers})
    if last:
        await send({"type": "http.response.body", "body": body[:last], "more_body": True})
        await expect_handed_over(scope)
    await note()
    await send({"type": "http.response.body", "body": body[last:]})
    await expect_handed_over(scope)


async def expect_handed_over(scope: MutableMapping[str, Any]) -> None:
    """Return when all that was sent is the kernel's. Raises ClientDisconnect when it cannot be."""
    ask: Callable[[], Awaitable[bool]] | None = scope.get("extensions", {}).get(_KEY)
    if ask and not await ask():
        raise ClientDisconnect
