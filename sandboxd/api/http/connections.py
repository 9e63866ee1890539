"""The bounds of all connections together: their number, their number from one address, and the
bytes in memory for clients that do not read.

A connection with a slow client is paused: nothing more is written to it. It is aborted when its
client reads nothing for STALLED_S. And while the paused connections together hold more than
HELD_MAX bytes, the one that was paused first is aborted.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
from collections import Counter
from typing import Any

from uvicorn.server import ServerState

from ... import log
from ...config import HttpConfig
from .delivery import Delivering

STALLED_S = 300.0

HELD_MAX = 128 << 20

COMPLAINT_S = 10.0

BACKLOG = 512
"""Connections that may wait to be accepted."""


def complain_less(loop: asyncio.AbstractEventLoop) -> None:
    """Have `loop` log once in COMPLAINT_S that no descriptor is left to accept a connection.
    asyncio logs it for each connection, with a traceback, and tries again a second later."""
    logged_at = -COMPLAINT_S

    def complain(loop: asyncio.AbstractEventLoop, about: dict[str, Any]) -> None:
        nonlocal logged_at
        error = about.get("exception")
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            loop.default_exception_handler(about)
        elif loop.time() - logged_at >= COMPLAINT_S:
            logged_at = loop.time()
            log.event("connections.wait", logging.ERROR, reason=error.strerror)

    loop.set_exception_handler(complain)


class Connections(ServerState):
    """uvicorn's state of all connections, with the bounds of `http`, which a reload replaces."""

    def __init__(self, http: HttpConfig) -> None:
        super().__init__()
        self.http = http
        self._room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2  # runs need some as well
        self._sources: Counter[str] = Counter()
        self._paused: dict[asyncio.Transport, tuple[int, asyncio.TimerHandle]] = {}
        self._held = 0

    def came(self, client: tuple[str, int] | None) -> int:
        """Count a connection from this address, if it has one. Returns the HTTP status to refuse
        it with, else 0."""
        if client:
            self._sources[client[0]] += 1
        if len(self.connections) > min(self.http.connections, self._room):
            return 503
        return 429 if client and self._sources[client[0]] > self.http.source_connections else 0

    def went(self, client: tuple[str, int] | None) -> None:
        """A counted connection is gone."""
        if client:
            self._sources[client[0]] -= 1
            if not self._sources[client[0]]:
                del self._sources[client[0]]

    def paused(self, transport: asyncio.Transport) -> None:
        """The client of a connection does not keep up."""
        size = transport.get_write_buffer_size()
        timer = asyncio.get_running_loop().call_later(STALLED_S, transport.abort)
        self._paused[transport] = size, timer
        self._held += size
        while self._held > HELD_MAX:
            oldest = next(iter(self._paused))
            oldest.abort()
            self.goes_on(oldest)

    def goes_on(self, transport: asyncio.Transport) -> None:
        """The client keeps up again, or is gone."""
        if transport in self._paused:
            size, timer = self._paused.pop(transport)
            timer.cancel()
            self._held -= size


class Bounded(Delivering, asyncio.Protocol):
    """A part of a protocol that reports one connection to `_all`, except for its begin."""

    client: Any
    _all: Connections

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._all.went(self.client)
        self._all.goes_on(self.transport)
        self.noticed_loss(exc)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not keep up."""
        super().pause_writing()
        self._all.paused(self.transport)

    def resume_writing(self) -> None:
        """The client keeps up again."""
        super().resume_writing()
        self._all.goes_on(self.transport)
