"""The bounds of all connections together: their permits (connection_permits.py), the bytes of heads
that are not complete, and the bytes in memory for clients that do not read.

A connection with a slow client is paused: nothing more is written to it. It is aborted when its
client reads nothing for STALLED_S. And while the paused connections together hold more than
HELD_MAX bytes, the one that was paused first is aborted.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import time
from collections import OrderedDict
from collections.abc import MutableMapping
from email.utils import formatdate
from typing import Any

from uvicorn.server import ServerState

from ... import log
from ...config.settings import HttpConfig
from .body_budget import BodyBudget
from .connection_permits import Permit, PermitBounds, Permits, source_of
from .delivery import Delivering
from .peer import Peer, offer_peer, peer_at

STALLED_S = 300.0

HELD_MAX = 128 << 20

COMPLAINT_S = 10.0

HEADS_MAX = 16 << 20
"""Bytes of all heads that are not complete. A head that comes in one piece does not count."""

READ_MAX = 64 * 1024
"""Bytes that are read from a connection at once. asyncio's own 256 KiB wait in memory for each
request whose body is not taken, and hold 40,000 messages of a WebSocket."""

RESERVED_PART = 4
"""The part of all connections that is root's at the Unix socket: one in RESERVED_PART."""

_PROXY = "proxy"
"""The source of the connections to Unix sockets on which requests are signed."""

BACKLOG = 512
"""Connections that may wait to be accepted."""

SERVER = "BackendAI"
"""The value of the header Server."""


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
    """uvicorn's state of all connections, with the bounds of `http`, which a reload replaces.

    Requests are signed on the Unix sockets whose paths are in `keyed`.
    """

    _second: int
    _headers: list[tuple[bytes, bytes]]

    def __init__(
        self, http: HttpConfig, bodies: BodyBudget, keyed: frozenset[str] = frozenset()
    ) -> None:
        super().__init__()
        self.http = http
        self._keyed = keyed
        self.bodies = bodies
        self._room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2  # runs need some as well
        self._common, self._reserved = Permits(), Permits()
        self._holders: dict[Permit, Bounded] = {}
        self._heads: OrderedDict[Bounded, int] = OrderedDict()
        self._heads_size = 0
        self._paused: dict[asyncio.Transport, tuple[int, asyncio.TimerHandle]] = {}
        self._held = 0

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """Date and Server, for a response that begins now."""
        now = int(time.time())
        if now != self._second:
            date = formatdate(now, usegmt=True).encode()
            self._second, self._headers = now, [(b"date", date), (b"server", SERVER.encode())]
        return self._headers

    @default_headers.setter
    def default_headers(self, _: object) -> None:
        """Make the headers anew, whatever uvicorn wants them to be."""
        self._second, self._headers = -1, []

    def _permits_for(self, is_operator: bool) -> tuple[Permits, PermitBounds]:
        """The permits for peers of this kind, and their bounds.

        Root has permits of its own at the Unix socket, so that no other client can fill them.
        """
        reserved = self._room // RESERVED_PART
        permits = min(self.http.connections, reserved if is_operator else self._room - reserved)
        bounds = PermitBounds(permits, self.http.source_connections, self.http.requests)
        return self._reserved if is_operator else self._common, bounds

    def peer_of(self, transport: asyncio.BaseTransport) -> Peer | None:
        """The user at the other end; None: its requests are signed, or need no signature."""
        sock = transport.get_extra_info("socket")
        if sock is None or sock.family != socket.AF_UNIX or sock.getsockname() in self._keyed:
            return None
        return peer_at(sock)

    def arrive(self, holder: Bounded) -> int:
        """A connection has come. Returns the HTTP status to refuse it with, else 0."""
        permits, bounds = self._permits_for(holder.is_operator)
        arrival = permits.arrive(holder.source, bounds)
        if arrival.replaced:
            other = self._holders.pop(arrival.replaced)
            other.permit = None
            other.give_way()
        if arrival.permit:
            holder.permit = arrival.permit
            self._holders[arrival.permit] = holder
        return arrival.status

    def speak(self, holder: Bounded) -> None:
        """The connection has sent the head of a request."""
        if holder.permit:
            self._permits_for(holder.is_operator)[0].speak(holder.permit)

    def mark_known(self, holder: Bounded, owner: str) -> None:
        """A request of `owner` on the connection was authenticated."""
        if holder.permit:
            permits, bounds = self._permits_for(holder.is_operator)
            permits.mark_known(holder.permit, owner, bounds)

    def leave(self, holder: Bounded) -> None:
        """The connection is gone, or goes on as one of another protocol."""
        if holder.permit:
            self._permits_for(holder.is_operator)[0].leave(holder.permit)
            del self._holders[holder.permit]
            holder.permit = None
        self.head(holder, 0)

    def head(self, holder: Bounded, size: int) -> None:
        """The connection has sent `size` bytes of a head that is not complete. While all such heads
        together are larger than HEADS_MAX, the connection with the oldest one gives way."""
        self._heads_size += size - self._heads.get(holder, 0)
        if size:
            self._heads[holder] = size
        else:
            self._heads.pop(holder, None)
        while self._heads_size > HEADS_MAX:
            oldest, its_size = self._heads.popitem(last=False)
            self._heads_size -= its_size
            oldest.give_way()

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
    peer: Peer | None = None
    permit: Permit | None = None
    _all: Connections

    def offer(self, scope: Any) -> None:
        """Offer the functions of a connection to the application that gets `scope`."""
        super().offer(scope)
        scope["extensions"][_KNOWN] = self.mark_known
        offer_peer(scope, self.peer)

    @property
    def is_operator(self) -> bool:
        """Root has connected, at a plain Unix socket."""
        return self.peer is not None and self.peer.uid == 0

    @property
    def source(self) -> str:
        """The origin of the connection, which has a share of the permits; "": root has no share."""
        if self.peer:
            return "" if self.is_operator else f"uid:{self.peer.uid}"
        return source_of(self.client[0]) if self.client else _PROXY

    def mark_known(self, owner: str) -> None:
        """A request of `owner` was authenticated."""
        self._all.mark_known(self, owner)

    def give_way(self) -> None:
        """Close the connection, whose permit or memory another one needs."""
        raise NotImplementedError

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._all.leave(self)
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


_KNOWN = "sandboxd.known"


def mark_known(scope: MutableMapping[str, Any], owner: str) -> None:
    """A request of `owner` was authenticated: its connection keeps its permit."""
    if tell := scope.get("extensions", {}).get(_KNOWN):
        tell(owner)
