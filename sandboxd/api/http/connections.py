"""What bounds all connections together: how many there are, of them from one address, and how
many bytes wait in memory for clients that do not read.

A connection whose client does not keep up is paused, and nothing more is written to it. One
that takes nothing at all for STALLED_S is given up; and where all that are paused hold more than
HELD_MAX, those that have been paused longest are given up first.
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
"""Connections that wait to be accepted, at most."""


def complain_less(loop: asyncio.AbstractEventLoop) -> None:
    """Have `loop` say once in COMPLAINT_S that there is no descriptor for a connection that waits
    to be accepted. asyncio says it for each, with a traceback, and tries again a second later."""
    said = -COMPLAINT_S

    def complain(loop: asyncio.AbstractEventLoop, about: dict[str, Any]) -> None:
        nonlocal said
        error = about.get("exception")
        if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
            loop.default_exception_handler(about)
        elif loop.time() - said >= COMPLAINT_S:
            said = loop.time()
            log.event("connections.wait", logging.ERROR, reason=error.strerror)

    loop.set_exception_handler(complain)


class Connections(ServerState):
    """uvicorn's state of all connections, with bounds, by `http`, which may change."""

    def __init__(self, http: HttpConfig) -> None:
        super().__init__()
        self.http = http
        self._room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2  # runs need some, too
        self._sources: Counter[str] = Counter()
        self._paused: dict[asyncio.Transport, tuple[int, asyncio.TimerHandle]] = {}
        self._held = 0

    def came(self, client: tuple[str, int] | None) -> int:
        """One more, from this address, if it has any; the status to refuse it with, else 0."""
        if client:
            self._sources[client[0]] += 1
        if len(self.connections) > min(self.http.connections, self._room):
            return 503
        return 429 if client and self._sources[client[0]] > self.http.source_connections else 0

    def went(self, client: tuple[str, int] | None) -> None:
        """One less."""
        if client:
            self._sources[client[0]] -= 1
            if not self._sources[client[0]]:
                del self._sources[client[0]]

    def paused(self, transport: asyncio.Transport) -> None:
        """The client does not keep up."""
        size = transport.get_write_buffer_size()
        timer = asyncio.get_running_loop().call_later(STALLED_S, transport.abort)
        self._paused[transport] = size, timer
        self._held += size
        while self._held > HELD_MAX:
            oldest = next(iter(self._paused))
            oldest.abort()
            self.goes_on(oldest)

    def goes_on(self, transport: asyncio.Transport) -> None:
        """It does again, or is gone."""
        if transport in self._paused:
            size, timer = self._paused.pop(transport)
            timer.cancel()
            self._held -= size


class Bounded(Delivering, asyncio.Protocol):
    """Part of a protocol: keeps `_all` informed of one connection. The rest says that it came."""

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
        """It does again."""
        super().resume_writing()
        self._all.goes_on(self.transport)
