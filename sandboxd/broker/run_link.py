"""The link to one run: its listening socket, and its open connections.

The listening socket belongs to the network namespace of the run; the sockets to the hosts belong to
the namespace of the broker. The end of a link ends the listening socket and all connections of the
run: its shim has ended. A run connects to nothing else of the broker.

Connections beyond a bound wait in the listening socket for a place. Where none gets free for as
long as a connection may take (`connect_s`), those that wait are turned away, until there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from .. import log
from ..config.network_profiles import ProfileConfig
from ..errors import SandboxdError
from ..model import NetworkGrant
from ..network_hosts import parse_pattern
from ..wire import messages
from .connection import BrokeredConnection, Permission
from .open_connections import OpenConnections
from .outcomes import Stopped
from .run_client import turn_away
from .shares import NetworkBounds, Share

ACCEPTED_AT_ONCE = 16

CONNECTIONS_A_SECOND = 100
"""New connections of one run in a second; further ones wait. Each has a line in the log."""

STARVED_S = 1.0
"""The pause after a connection for which no descriptor was free: the listening socket is ready
again at once."""


class RunLink:
    """The link whose end is `sock`, to the run that `of` describes.

    `ended` is called at its end; True: the listening socket has been lost on its way.
    """

    def __init__(
        self,
        connections: OpenConnections,
        sock: socket.socket,
        of: dict[str, Any],
        ended: Callable[[bool], None],
    ) -> None:
        self._connections = connections
        self._sock = sock
        self._end = ended
        self._listener: socket.socket | None = None
        self._ready: Callable[[], None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        grant = NetworkGrant(of["owner"], of["profile"], tuple(of["hosts"]))
        profile = connections.network.profiles.get(grant.profile) or ProfileConfig()
        is_granted = not connections.network.refusal(grant)
        patterns = tuple(map(parse_pattern, grant.hosts)) or profile.patterns
        self._permission = Permission(
            of["session"], grant.owner, of["run"], grant.profile,
            patterns if is_granted else (), profile.patterns,
            profile.connect_s, profile.idle_s,
            connections.secrets.get(grant.profile, ()) if is_granted else (),
        )  # fmt: skip
        own = NetworkBounds(profile.connections, profile.bytes, profile.rate)
        every = NetworkBounds(profile.owner.connections, profile.owner.bytes, profile.owner.rate)
        self._shares = {
            "session": connections.share(("session", of["session"]), own),
            "owner": connections.share(("owner", grant.owner, grant.profile), every),
        }
        for share in self._shares.values():
            share.links += 1
        pace = NetworkBounds(CONNECTIONS_A_SECOND, messages.NUMBER_MAX, CONNECTIONS_A_SECOND)
        self._pace = Share(pace, time.monotonic)
        self._pause: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._is_impatient = False
        sock.setblocking(False)
        asyncio.get_running_loop().add_reader(sock, self._receive)

    def _receive(self) -> None:
        """Take the listening socket, or the end of the run. The shim is not trusted: a socket that
        does not listen gives no connections, and the socket is closed."""
        message, fds, is_lost = None, list[int](), False
        try:
            message, fds = messages.receive(self._sock)
        except BlockingIOError:
            return
        except (OSError, messages.WireError) as error:
            is_lost = isinstance(error, messages.Starved)
        if message is not None and len(fds) == 1 and self._listener is None:
            self._listen(fds.pop())
        messages.close_all(fds)
        if message is None:
            self.close(is_lost)

    def _listen(self, fd: int) -> None:
        listener = socket.socket(fileno=fd)
        is_ours = listener.family == socket.AF_INET and listener.type == socket.SOCK_STREAM
        if is_ours and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listener.setblocking(False)
            self._listener = listener
            self.resume()
        else:
            listener.close()

    # -- whether connections are accepted

    @property
    def _full(self) -> str:
        """The bound that leaves no room for a further connection; "": there is room."""
        for whose, share in self._shares.items():
            if not share.has_room:
                bound = f"the bound of profile {self._permission.profile}"
                return f"the {whose} has {share.connections} connections open, {bound}"
        return "" if self._connections.has_room else "the host has all connections in use"

    def resume(self) -> None:
        """Do with new connections what is right at this moment: accept them, have them wait, or
        turn them away."""
        if self._listener is None:
            return
        is_full = bool(self._full)
        if is_full and self.resume not in self._connections.paused:
            self._connections.paused[self.resume] = None
            loop = asyncio.get_running_loop()
            self._patience = loop.call_later(self._permission.connect_s, self._lose_patience)
        elif not is_full:
            self._have_room()
        if self._pause or (is_full and not self._is_impatient):
            self._watch(None)
        else:
            self._watch(self._turn_away if is_full else self._accept)

    def _have_room(self) -> None:
        self._connections.paused.pop(self.resume, None)
        self._is_impatient = False
        if self._patience:
            self._patience.cancel()
            self._patience = None

    def _lose_patience(self) -> None:
        self._patience, self._is_impatient = None, True
        self.resume()

    def _watch(self, ready: Callable[[], None] | None) -> None:
        """Call `ready` when a connection has come; None: nothing."""
        if ready == self._ready or self._listener is None:
            return
        loop = asyncio.get_running_loop()
        self._ready = ready
        if ready:
            loop.add_reader(self._listener, ready)
        else:
            loop.remove_reader(self._listener)

    def _pause_for(self, seconds: float) -> None:
        if self._pause:
            self._pause.cancel()
        self._pause = asyncio.get_running_loop().call_later(seconds, self._go_on)
        self.resume()

    def _go_on(self) -> None:
        """A pause is over."""
        self._pause = None
        self.resume()

    # -- connections

    def _take(self) -> socket.socket | None:
        """The next connection; None: none is there any more."""
        if self._listener is None:
            return None
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        except OSError:
            self._pause_for(STARVED_S)
            return None
        self._pace.spend(1)
        if delay := self._pace.delay:
            self._pause_for(delay)
        return sock

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            self.resume()  # connections of other runs may have taken the room
            if self._ready != self._accept or (sock := self._take()) is None:
                return
            self._connections.open += 1
            for share in self._shares.values():
                share.connections += 1
            shares = tuple(self._shares.values())
            connection = BrokeredConnection(sock, self._permission, shares, shares[0].resolving)
            task = asyncio.create_task(self._serve(connection))
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, sock))

    def _turn_away(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            self.resume()
            if self._ready != self._turn_away or (sock := self._take()) is None:
                return
            stopped = Stopped("too-many", self._full)
            turn_away(sock, stopped)
            self._refused(stopped.reason)
            self._connections.count(stopped.outcome, 0, 0)
            of = self._permission
            log.event(
                "network", session=of.session, owner=of.owner, run=of.run, profile=of.profile,
                outcome=stopped.outcome, reason=stopped.reason,
            )  # fmt: skip

    async def _serve(self, connection: BrokeredConnection) -> None:
        outcome, meter = await connection.serve(self._refused)
        self._connections.count(outcome, meter.sent, meter.received)

    def _ended(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        sock.close()  # a task that was cancelled before its first step has not done so
        self._tasks.discard(task)
        self._connections.open -= 1
        for share in self._shares.values():
            share.connections -= 1
        if not task.cancelled() and (error := task.exception()):
            self._connections.count("fault", 0, 0)
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a connection has failed", "exception": error}
            )
        self._connections.resume()

    def _refused(self, reason: str) -> None:
        with contextlib.suppress(OSError, SandboxdError):  # ended, or it has enough of them
            messages.send(self._sock, {"refused": reason})

    def close(self, is_lost: bool = False) -> None:
        """End the listening socket and all connections of the run."""
        asyncio.get_running_loop().remove_reader(self._sock)
        self._sock.close()
        self._watch(None)
        for timer in (self._pause, self._patience):
            if timer:
                timer.cancel()
        if self._listener:
            self._listener.close()
            self._listener = None
        for task in self._tasks:
            task.cancel()
        for share in self._shares.values():
            share.links -= 1
        self._connections.paused.pop(self.resume, None)
        self._end(is_lost)
