"""One connection of a run through the broker, from its first byte to its line in the audit log."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import h11

from .. import log
from ..errors import Invalid
from ..network_hosts import Address, HostPattern, HostPort, covered, parse_target
from . import forward, upstream
from .client_hello import HelloCheck, asks_again
from .outcomes import REFUSALS, Outcome, Stopped
from .relay import Meter, relay
from .run_client import HEAD_S, RunClient
from .shares import Share

FIRST_MAX = 16 * 1024
"""Bytes of the server that are read before its first message is known."""


@dataclass(frozen=True, slots=True)
class Permission:
    """The permission of one run.

    patterns  the hosts of its session
    listed    the hosts of its profile, whose addresses may be private
    """

    session: str
    owner: str
    run: int
    profile: str
    patterns: tuple[HostPattern, ...]
    listed: tuple[HostPattern, ...]
    connect_s: float
    idle_s: float
    secrets: tuple[forward.Secret, ...] = ()

    def check(self, target: HostPort) -> None:
        """Raise Stopped unless the target is allowed."""
        if not covered(target, self.patterns):
            raise Stopped("not-in-profile", f"{target} is not in profile {self.profile}")


class BrokeredConnection:
    """The connection of a client on `sock`."""

    def __init__(
        self,
        sock: socket.socket,
        permission: Permission,
        shares: Sequence[Share],
        resolving: asyncio.Semaphore,
    ) -> None:
        self._client = RunClient(sock)
        self._permission = permission
        self._meter = Meter(shares, permission.idle_s)
        self._resolving = resolving
        self._target: HostPort | None = None
        self._began = time.monotonic()

    async def serve(self, refused: Callable[[str], None]) -> tuple[Outcome, Meter]:
        """Serve the client; `refused` takes the reason of a refusal."""
        outcome: Outcome = "cut"
        reason = None
        try:
            outcome = "ok" if await self._serve() else "cut"
        except* Stopped as group:
            stopped = _first(group)
            assert isinstance(stopped, Stopped)
            outcome, reason = stopped.outcome, stopped.reason
            if outcome in REFUSALS:
                refused(reason)
            await self._client.refuse(stopped)
        except* OSError as group:
            reason = str(_first(group))
        finally:
            self._client.sock.close()
            self._audit(outcome, reason)
        return outcome, self._meter

    def _audit(self, outcome: Outcome, reason: str | None) -> None:
        target, meter = self._target, self._meter
        log.event(
            "network", session=self._permission.session, owner=self._permission.owner,
            run=self._permission.run, profile=self._permission.profile,
            host=target.host if target else None, port=target.port if target else None,
            sent=meter.sent, received=meter.received, outcome=outcome,
            seconds=round(time.monotonic() - self._began, 3), reason=reason,
        )  # fmt: skip

    async def _serve(self) -> bool:
        """Serve the client; False: it has gone before it has asked for anything."""
        try:
            async with asyncio.timeout(HEAD_S):
                request = await self._client.request()
        except TimeoutError:
            raise Stopped("bad-request", f"no request has come for {HEAD_S:g} s") from None
        if request is None:
            return False
        self._meter.check()
        if request.method == b"CONNECT":
            await self._tunnel(request)
        else:
            await self._forward(request)
        return True

    async def _tunnel(self, request: h11.Request) -> None:
        framed = {b"content-length", b"transfer-encoding"}
        if any(name in framed for name, _ in request.headers):
            raise Stopped("bad-request", "a CONNECT has no body")
        try:
            target = parse_target(request.target.decode("ascii"))
        except (Invalid, UnicodeDecodeError) as error:
            raise Stopped("bad-request", str(error)) from None
        server = await self._connect(target)
        with server:
            early = await self._client.open_tunnel()
            await (
                self._meter.wait()
            )  # a debt of the rate is not taken from the time of the greeting
            await self._greet(server, target, early)
            await self._meter.wait()
            async with self._meter.idle_bound():
                await relay(self._client.sock, server, self._meter)

    async def _greet(self, server: socket.socket, target: HostPort, early: bytes) -> None:
        """Pass the ClientHello on, and a second one if the server asks for it."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(HEAD_S):
                rest = await self._pass_hello(server, HelloCheck(target.host), early)
                first = b""
                while (again := asks_again(first)) is None or not first:
                    data = await loop.sock_recv(server, FIRST_MAX)
                    if not data:
                        break
                    first += data
                self._meter.add(len(first), False)
                await self._client.send(first)
                if again:
                    second = HelloCheck(target.host, is_second=True)
                    rest = await self._pass_hello(server, second, rest)
                self._meter.add(len(rest), True)
                await loop.sock_sendall(server, rest)
        except TimeoutError:
            raise Stopped("timeout", f"{target}: no TLS within {HEAD_S:g} s") from None
        except Invalid as error:
            raise Stopped("tls-name", f"{target}: {error}") from None

    async def _pass_hello(self, server: socket.socket, check: HelloCheck, data: bytes) -> bytes:
        """Read a hello that begins with `data`, and pass it on; the bytes behind it. Raises
        Invalid."""
        while not check.feed(data):
            data = await self._client.receive()
            if not data:
                raise Stopped("cut", "the client has gone before its ClientHello")
        self._meter.add(len(check.hello), True)
        await asyncio.get_running_loop().sock_sendall(server, check.hello)
        return check.rest

    async def _forward(self, request: h11.Request) -> None:
        wanted = forward.split(request.target)
        self._target = wanted.target
        self._permission.check(wanted.target)
        secret = forward.secret_of(request, wanted, self._permission.secrets)
        server = await self._connect(wanted.target)
        async with self._meter.idle_bound():
            await forward.forward(self._client, request, server, secret, wanted, self._meter)

    async def _connect(self, target: HostPort) -> socket.socket:
        self._target = target
        self._permission.check(target)
        seconds = self._permission.connect_s
        try:
            async with asyncio.timeout(seconds):
                await self._resolving.acquire()
                answers = await asyncio.shield(asyncio.create_task(self._resolve(target)))
                usable = upstream.allowed(target, answers, self._is_listed)
                return await upstream.connected(target, usable)
        except TimeoutError:
            raise Stopped("timeout", f"{target}: no connection within {seconds:g} s") from None

    async def _resolve(self, target: HostPort) -> list[Address]:
        """The addresses of `target`. Nothing ends a resolution that has begun, neither a time limit
        nor the end of the run, and it takes a thread: so it counts until its own end."""
        try:
            return await upstream.addresses(target)
        finally:
            self._resolving.release()

    def _is_listed(self, target: HostPort) -> bool:
        return covered(target, self._permission.listed)


def _first(group: BaseExceptionGroup) -> BaseException:
    """The first error of a group, however deep it is."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
