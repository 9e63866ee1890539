"""The broker: takes the listening sockets of runs, and serves the connections that come to them.

    warden -> broker   {"link": {...}} + a socket whose other end the shim of a run gets. The
                       message says whose run that is, so nothing that comes through the
                       socket can change it
    shim -> broker     {"listener"} + the listening socket of the run, on its link
    broker -> shim     {"refused": text}, on the link
    broker -> warden   {"lost": {...}}: the link of this run has not arrived
    warden -> broker   {"ping"}
    broker -> warden   {"counts": {...}}, the answer: connections by outcome, bytes, open ones

run_link.py has the side of one run.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..config.network_profiles import NetworkConfig
from ..network_hosts import parse_pattern
from ..wire import messages
from .forward import Secret
from .open_connections import OpenConnections, Secrets
from .run_link import RunLink

RESOLVERS = 64


class Broker:
    """The broker of one warden, whose socket is `warden`.

    links  one of each run
    """

    def __init__(self, warden: socket.socket, network: NetworkConfig, secrets: Secrets) -> None:
        self.connections = OpenConnections(network, secrets)
        self.links: set[RunLink] = set()
        self.over = asyncio.Event()
        self._warden = warden
        self._lost: list[dict[str, Any]] = []

    async def serve(self) -> None:
        """Serve until the warden closes its end."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(RESOLVERS, thread_name_prefix="resolver"))
        self._warden.setblocking(False)
        loop.add_reader(self._warden, self._receive)
        messages.send(self._warden, {"ready": True})
        await self.over.wait()

    def close(self) -> None:
        """End all connections."""
        self.over.set()
        asyncio.get_running_loop().remove_reader(self._warden)
        for link in tuple(self.links):
            link.close()

    def _receive(self) -> None:
        try:
            message, fds = messages.receive(self._warden)
        except BlockingIOError:
            return
        except messages.Starved as starved:
            self._lose(starved.message["link"])
            return
        if message is None:
            self.over.set()
        elif "link" in message and len(fds) == 1:
            self._link(socket.socket(fileno=fds.pop()), message["link"])
        elif "ping" in message:
            self._tell({"counts": self.connections.counts()})
            self._tell_lost()
        messages.close_all(fds)

    def _link(self, sock: socket.socket, of: dict[str, Any]) -> None:
        """A run has begun."""

        def ended(is_lost: bool) -> None:
            self.links.discard(link)
            if is_lost:
                self._lose(of)

        link = RunLink(self.connections, sock, of, ended)
        self.links.add(link)

    def _lose(self, of: dict[str, Any]) -> None:
        """Have the warden link a run again: no descriptor was free for its link."""
        self._lost.append({"session": of["session"], "run": of["run"]})
        self._tell_lost()

    def _tell_lost(self) -> None:
        while self._lost and self._tell({"lost": self._lost[-1]}):
            self._lost.pop()

    def _tell(self, message: dict[str, Any]) -> bool:
        """Send a message to the warden; False: its socket is full."""
        try:
            messages.send(self._warden, message)
        except OSError:
            return False
        return True


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
