"""The broker: takes the listening sockets of runs, and serves the connections that come to them.

    warden -> broker   {"link": {...}} + a socket whose other end the shim of a run gets. The
                       message says whose run that is, so nothing that comes through the
                       socket can change it
    shim -> broker     {"listener"} + the listening socket of the run, on its link
    broker -> shim     {"refused": text}, on the link
    warden -> broker   {"ping"}
    broker -> warden   {"counts": {...}}, the answer: connections by outcome, bytes, open ones

The listening socket belongs to the network namespace of the run; the sockets to the hosts belong to
the namespace of the broker. The end of a link ends the listening socket and all connections of the
run: its shim has ended. A run connects to nothing else of the broker.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .. import wire
from ..config_network import NetworkConfig, ProfileConfig
from ..errors import SandboxdError
from ..model import NetworkGrant
from ..network_hosts import parse_pattern
from .connection import BrokeredConnection, Permission
from .forward import Secret
from .shares import NetworkBounds, Share

CONNECTIONS_MAX = 2000
"""Open connections of all runs."""

ACCEPTED_AT_ONCE = 16

CONNECTIONS_A_SECOND = 100
"""New connections of one run in a second; further ones wait. Each has a line in the log."""

RESOLVERS = 64
SHARES_MAX = 10000

Secrets = dict[str, tuple[Secret, ...]]
"""Profile -> its secrets."""


class Broker:
    """The broker of one warden, whose socket is `warden`."""

    def __init__(self, warden: socket.socket, network: NetworkConfig, secrets: Secrets) -> None:
        self.network = network
        self.secrets = secrets
        self.outcomes: Counter[str] = Counter()
        self.bytes = {"sent": 0, "received": 0}
        self._warden = warden
        self._shares: dict[tuple[str, ...], Share] = {}
        self._links: set[RunLink] = set()
        self.over = asyncio.Event()

    async def serve(self) -> None:
        """Serve until the warden closes its end."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(RESOLVERS, thread_name_prefix="resolver"))
        self._warden.setblocking(False)
        loop.add_reader(self._warden, self._receive)
        wire.send(self._warden, {"ready": True})
        await self.over.wait()

    def _receive(self) -> None:
        try:
            message, fds = wire.receive(self._warden)
        except BlockingIOError:
            return
        except wire.Starved:
            return  # the run has no broker; its warden links it again after the next start
        if message is None:
            self.over.set()
        elif "link" in message and len(fds) == 1:
            self._links.add(RunLink(self, socket.socket(fileno=fds.pop()), message["link"]))
        elif "ping" in message:
            counts = {"outcomes": self.outcomes, "bytes": self.bytes, "open": self.connections}
            wire.send(self._warden, {"counts": counts})
        wire.close_all(fds)

    @property
    def connections(self) -> int:
        """Open connections of all runs."""
        return sum(len(link.tasks) for link in self._links)

    def end(self, link: RunLink) -> None:
        """The link is at its end."""
        self._links.discard(link)

    def resume(self) -> None:
        """A connection has ended: another one may begin, of any run."""
        for link in tuple(self._links):
            link.resume()

    def share(self, key: tuple[str, ...], bounds: NetworkBounds) -> Share:
        """The share of a session or an owner in a profile. It lasts beyond the run."""
        share = self._shares.get(key)
        if share is None:
            if len(self._shares) >= SHARES_MAX:
                idle = [key for key, one in self._shares.items() if not one.connections]
                for one in idle[: SHARES_MAX // 10]:
                    del self._shares[one]
            share = self._shares[key] = Share(bounds, time.monotonic)
        return share

    def count(self, outcome: str, sent: int, received: int) -> None:
        """A connection is over."""
        self.outcomes[outcome] += 1
        self.bytes["sent"] += sent
        self.bytes["received"] += received


class RunLink:
    """The link to one run: its listening socket, and its open connections."""

    def __init__(self, broker: Broker, sock: socket.socket, of: dict[str, Any]) -> None:
        self._broker = broker
        self._sock = sock
        self._listener: socket.socket | None = None
        self._is_accepting = False
        self.tasks: set[asyncio.Task[None]] = set()
        grant = NetworkGrant(of["owner"], of["profile"], tuple(of["hosts"]))
        profile = broker.network.profiles.get(grant.profile) or ProfileConfig()
        is_granted = not broker.network.refusal(grant)
        patterns = tuple(map(parse_pattern, grant.hosts)) or profile.patterns
        self._permission = Permission(
            of["session"], grant.owner, of["run"], grant.profile,
            patterns if is_granted else (), profile.patterns,
            broker.secrets.get(grant.profile, ()) if is_granted else (),
            profile.connect_s, profile.idle_s,
        )  # fmt: skip
        own = NetworkBounds(profile.connections, profile.bytes, profile.rate)
        every = NetworkBounds(profile.owner.connections, profile.owner.bytes, profile.owner.rate)
        self._shares = (
            broker.share(("session", of["session"]), own),
            broker.share(("owner", grant.owner, grant.profile), every),
        )
        pace = NetworkBounds(CONNECTIONS_A_SECOND, wire.NUMBER_MAX, CONNECTIONS_A_SECOND)
        self._pace = Share(pace, time.monotonic)
        self._pause: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        asyncio.get_running_loop().add_reader(sock, self._receive)

    def _receive(self) -> None:
        """Take the listening socket, or the end of the run. The shim is not trusted: a socket that
        does not listen gives no connections, and the socket is closed."""
        try:
            message, fds = wire.receive(self._sock)
        except BlockingIOError:
            return
        except (OSError, wire.WireError):
            message, fds = None, []
        if message is not None and len(fds) == 1 and self._listener is None:
            self._listen(fds.pop())
        wire.close_all(fds)
        if message is None:
            self.close()

    def _listen(self, fd: int) -> None:
        listener = socket.socket(fileno=fd)
        is_ours = listener.family == socket.AF_INET and listener.type == socket.SOCK_STREAM
        if is_ours and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            listener.setblocking(False)
            self._listener = listener
            self.resume()
        else:
            listener.close()

    def resume(self) -> None:
        """Accept connections, if there is room for them."""
        has_room = self._pause is None and all(share.has_room for share in self._shares)
        wanted = bool(self._listener and has_room and self._broker.connections < CONNECTIONS_MAX)
        if wanted == self._is_accepting or self._listener is None:
            return
        loop = asyncio.get_running_loop()
        self._is_accepting = wanted
        if wanted:
            loop.add_reader(self._listener, self._accept)
        else:
            loop.remove_reader(self._listener)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            if not self._is_accepting or self._listener is None:
                return
            try:
                sock, _ = self._listener.accept()
            except OSError:  # none is there any more, or no descriptor is free
                return
            for share in self._shares:
                share.connections += 1
            resolving = self._shares[0].resolving
            connection = BrokeredConnection(sock, self._permission, self._shares, resolving)
            task = asyncio.create_task(self._serve(connection))
            self.tasks.add(task)
            task.add_done_callback(self._ended)
            self._pace.spend(1)
            if delay := self._pace.delay:
                self._pause = asyncio.get_running_loop().call_later(delay, self._go_on)
            self.resume()

    def _go_on(self) -> None:
        """A pause is over."""
        self._pause = None
        self.resume()

    async def _serve(self, connection: BrokeredConnection) -> None:
        outcome, meter = await connection.serve(self._refused)
        self._broker.count(outcome, meter.sent, meter.received)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        for share in self._shares:
            share.connections -= 1
        if not task.cancelled() and (error := task.exception()):
            self._broker.count("fault", 0, 0)
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a connection has failed", "exception": error}
            )
        self._broker.resume()

    def _refused(self, reason: str) -> None:
        try:
            wire.send(self._sock, {"refused": reason})
        except (OSError, SandboxdError):
            pass  # the run has ended, or does not read: it has enough of them

    def close(self) -> None:
        """End the listening socket and all connections of the run."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._sock)
        self._sock.close()
        if self._pause:
            self._pause.cancel()
        if self._listener:
            if self._is_accepting:
                loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        for task in self.tasks:
            task.cancel()
        self._broker.end(self)


def run(warden: socket.socket, network: NetworkConfig, values: dict[tuple[str, str], str]) -> None:
    """Be the broker until the warden closes its end. `values`: the secrets by profile and id."""
    secrets = {
        name: tuple(
            Secret(parse_pattern(one.host).target, one.path, one.header, values[name, id])
            for id, one in profile.secrets.items()
        )
        for name, profile in network.profiles.items()
    }

    async def serve() -> None:
        await Broker(warden, network, secrets).serve()

    asyncio.run(serve())
