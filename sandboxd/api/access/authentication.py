"""The authentication of requests: the caller of each, or its refusal.

There are three ways in:

    a signature         on any listener; the caller is the keypair
    a Unix socket       unsigned: only root can open the socket, so the caller is LOCAL
    auth = "none"       every caller is LOCAL; only for listeners on the loopback, and not for web
                        pages (request_checks.py, csrf.py)

A Guard is in front of each route that its record (http/route.py) does not open.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.types import ASGIApp, Receive, Scope, Send

from ...config import Config
from ...errors import AuthFailed, Forbidden, RateLimited
from ..http.connections import know
from ..http.route import Access
from . import signature
from .keys import Keys
from .rate_limit import WINDOW_S, RateLimiter
from .replay import WRITES, Replays
from .request_checks import by_unix


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request: its access key, or LOCAL's name, and its rights."""

    name: str
    is_admin: bool


LOCAL = Caller("local", True)
"""The caller on the daemon's Unix socket, which only root can open."""


class Authenticator:
    """Finds the caller of each request."""

    def __init__(self, config: Config, keys: Keys, clock: Callable[[], float] = time.time) -> None:
        self.keys = keys
        self.config = config
        self._clock = clock
        self._replays = Replays()
        self._rates = RateLimiter()
        self._open: Counter[str] = Counter()

    async def admit(self, scope: Scope) -> Caller:
        """The caller of the request. Raises AuthInvalid, AuthFailed, RateLimited, Unavailable."""
        if self.config.auth == "none" or (by_unix(scope) and not _signed(scope)):
            return LOCAL
        now = self._clock()
        claim = signature.claim(_target(scope), scope["headers"], datetime.fromtimestamp(now, UTC))
        scope["state"]["claimed"] = claim.access_key
        keypair = await self.keys.find(claim.access_key)
        if keypair is None:
            raise AuthFailed("Access key not found")
        if not any(signature.verify(claim, m, keypair.secret_key) for m in _methods(scope)):
            raise AuthFailed("Signature mismatch")
        # No await from here to `remember`: two requests with one signature cannot both pass.
        writes, running = scope.get("method") in WRITES, time.monotonic()
        if writes:
            self._replays.refuse(claim, now, running)
        limit = keypair.rate_limit or self.config.rate_limit
        rate = self._rates.count(keypair.access_key, limit, running)
        scope["state"]["rate"] = rate
        if rate.wait_s:
            raise RateLimited(
                f"{limit} requests in {WINDOW_S} s are allowed; the next one in {rate.wait_s} s"
            )
        if writes:
            self._replays.remember(claim, now, running)
        await self.keys.used(keypair.access_key, now)
        return Caller(keypair.access_key, keypair.is_admin)

    @contextmanager
    def at_once(self, caller: Caller) -> Iterator[None]:
        """Counts a request of the caller while it is served. Raises RateLimited above the limit."""
        most = self.config.http.requests
        if self._open[caller.name] >= most:
            raise RateLimited(f"{most} requests at once are allowed, open streams among them")
        self._open[caller.name] += 1
        try:
            yield
        finally:
            self._open[caller.name] -= 1
            if not self._open[caller.name]:
                del self._open[caller.name]


def _signed(scope: Scope) -> bool:
    return any(name == b"authorization" and value for name, value in scope["headers"])


def _target(scope: Scope) -> bytes:
    """Path and query as they were sent."""
    path, query = bytes(scope["raw_path"]), bytes(scope["query_string"])
    return path + b"?" + query if query else path


def _methods(scope: Scope) -> Sequence[str]:
    """The methods that the client may have signed: the effective one, and POST where the
    effective one came with a POST (X-Method-Override), for clients that sign what they send.

    Nothing but POST: an eavesdropper must not turn a signed GET, which may repeat, into a DELETE.
    """
    effective = scope.get("method", "GET")  # a WebSocket begins as a GET
    return (effective, "POST") if scope["state"].get("carrier") == "POST" else (effective,)


class Guard:
    """ASGI middleware of one route: it puts the caller into the state, or raises the refusal."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        authenticator: Authenticator = scope["app"].state.sandboxd.authenticator
        caller = scope["state"]["caller"] = await authenticator.admit(scope)
        know(scope, caller.name)
        with authenticator.at_once(caller):
            if self._access is Access.ADMIN and not caller.is_admin:
                raise Forbidden("only admins can do this")
            await self._app(scope, receive, send)
