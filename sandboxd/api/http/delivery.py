"""The delivery of a response: it is complete when the kernel has all bytes and the client is there.

Bytes in the daemon's own buffers are lost if the daemon is killed, and bytes to a client that has
closed its socket never arrive. So both protocols offer functions to the application, in the scope
of a request (ASGI's `extensions`): to wait until the buffer is empty, and to check the socket.

The check does not notice a remote client that has just vanished. The cursor in its next call does.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Send

Result = TypeVar("Result")

AT_ONCE = 16 * 1024
"""Bytes that any socket has room for once its buffer is empty."""

_KEY = "sandboxd.handed_over"
_PRESENCE = "sandboxd.presence"
_GONE = "sandboxd.gone"
_SOCKET = "sandboxd.socket"

PATIENCE_S = 10.0
"""Seconds in which a client has to read a response. After that it may ask again for the rest, over
another connection."""


class Delivering:
    """A part of a protocol. A subclass says when its full `transport` takes bytes again."""

    transport: Any
    _failure: Exception | None = None
    _lost = False
    _ended = False  # the client sends no more
    _watched: Any = None

    def offer(self, scope: Any) -> None:
        """Offer the functions to the application that gets `scope`."""
        extensions = scope.setdefault("extensions", {})
        extensions[_KEY] = self._handed_over
        extensions[_PRESENCE] = lambda: self._expect_presence(scope)
        extensions[_GONE] = self._is_gone
        extensions[_SOCKET] = self.transport.get_extra_info("socket")

    def _is_gone(self) -> bool:
        return self._lost

    def _expect_presence(self, scope: Any) -> None:
        self._watched = scope
        if self._ended:
            self.transport.close()

    def noticed_loss(self, failure: Exception | None) -> None:
        """The connection is gone, by `failure` or in good order."""
        self._lost, self._failure = True, self._failure or failure

    async def _drained(self) -> None:
        """Return when the transport takes bytes again, or its connection is lost."""
        raise NotImplementedError

    async def _handed_over(self) -> bool:
        if self.transport.get_write_buffer_size() and not await self._emptied():
            return False
        if self.transport.is_closing():
            await asyncio.sleep(0)  # the loop reports the reason in its next round
        if self._lost:
            return self._failure is None
        sock = self.transport.get_extra_info("socket")
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0)

    async def _emptied(self) -> bool:
        """Wait until the kernel has taken all bytes, or the connection is lost."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                self.transport.set_write_buffer_limits(0)
                await self._drained()
                return True
        except TimeoutError:
            return False
        finally:
            self.transport.set_write_buffer_limits()


def connection_of(scope: MutableMapping[str, Any]) -> int | None:
    """The descriptor of the connection that the request came on; None: a test has made it up."""
    sock = scope.get("extensions", {}).get(_SOCKET)
    return None if sock is None else int(sock.fileno())


def is_gone(scope: MutableMapping[str, Any]) -> bool:
    """The client of this request has closed its connection."""
    lost: Callable[[], bool] | None = scope.get("extensions", {}).get(_GONE)
    return bool(lost and lost())


def expect_presence(scope: MutableMapping[str, Any]) -> None:
    """Count the client of this request as gone as soon as it closes its half of the connection.

    Other clients may do so and still get their response. A response that may come late, or never,
    would keep a connection without a client for long."""
    if expect := scope.get("extensions", {}).get(_PRESENCE):
        expect()


async def attended(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled if the client hangs up. The whole body has been
    read. Raises ClientDisconnect."""
    expect_presence(request.scope)
    worker = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request.receive))
    try:
        await asyncio.wait((worker, gone), return_when=asyncio.FIRST_COMPLETED)
        if not worker.done():
            raise ClientDisconnect
        return worker.result()
    finally:
        for task in (worker, gone):
            task.cancel()
        await asyncio.gather(worker, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    """Return when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def hand_over(
    answer: Response,
    scope: MutableMapping[str, Any],
    send: Send,
    note: Callable[[], Awaitable[None]],
) -> None:
    """Send `answer`, and call `note` right before its last bytes, without which it is incomplete.

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
    """Return when the kernel has all bytes. Raises ClientDisconnect if it cannot get them."""
    ask: Callable[[], Awaitable[bool]] | None = scope.get("extensions", {}).get(_KEY)
    if ask and not await ask():
        raise ClientDisconnect
