"""A broker in the process of the test, with links to runs that the test plays."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sandboxd.broker.broker import Broker
from sandboxd.config.network_profiles import NetworkConfig, OwnerNetworkConfig, ProfileConfig
from sandboxd.wire import messages

from ..waiting import PATIENCE_S

LIMIT_S = PATIENCE_S


@dataclass
class Run:
    """The run of a test: its listening socket, and the shim's end of its link."""

    address: tuple[str, int]
    link: socket.socket

    async def messages(self) -> list[Any]:
        """The messages that the shim has got and not taken yet."""
        arrived = []
        with contextlib.suppress(BlockingIOError):
            while message := messages.receive_plain(self.link):
                arrived.append(message)
        return arrived

    async def connect(self) -> socket.socket:
        """A connection of a program."""
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self.address)
        return sock


@dataclass
class BrokerWorld:
    """A broker, and the warden's end of its socket."""

    broker: Broker
    warden: socket.socket
    stack: contextlib.ExitStack

    def run(self, session: str = "s", owner: str = "o", number: int = 1) -> Run:
        """A run with a link."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with listener, theirs:
            grant = {"owner": owner, "profile": "p", "hosts": []}
            of = grant | {"session": session, "run": number}
            messages.send(self.warden, {"link": of}, [theirs.fileno()])
            messages.send(ours, {"listener": True}, [listener.fileno()])
            ours.setblocking(False)
            self.stack.enter_context(ours)
            return Run(listener.getsockname(), ours)


@contextlib.asynccontextmanager
async def serving(connections: int, of_owner: int, **profile: Any) -> AsyncIterator[BrokerWorld]:
    """A broker with the profile p."""
    owner = OwnerNetworkConfig(connections=of_owner)
    config = ProfileConfig(("127.0.0.1:1",), (), connections, owner=owner, **profile)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    broker = Broker(theirs, NetworkConfig({"p": config}), {})
    with ours, theirs, contextlib.ExitStack() as stack:
        ours.setblocking(False)
        serving = asyncio.create_task(broker.serve())
        await asyncio.sleep(0)
        assert messages.receive_plain(ours) == {"ready": True}
        try:
            yield BrokerWorld(broker, ours, stack)
        finally:
            broker.close()
            await serving


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    while not condition():
        await asyncio.sleep(0)


def bounded(act: Callable[[], Awaitable[None]]) -> None:
    """Run a test with a limit of time, which no passing test reaches."""

    async def limited() -> None:
        async with asyncio.timeout(LIMIT_S):
            await act()

    asyncio.run(limited())
