"""Who is let in: from a request to a caller, or to the refusal that it gets.

There are three ways in:

    a signature         on any listener; the caller is the keypair
    a Unix socket       unsigned: opening it took the right to, so the caller is LOCAL
    auth = "none"       everybody is LOCAL; only for listeners that nobody else can reach, and
                        not for web pages (request_checks.py, csrf.py)

Routes are guarded one by one (`guarded`), so that a path that does not exist is told as that to
everybody, and a new route is closed unless it is named as open.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from ...config import Config
from ...errors import AuthFailed, RateLimited
from . import signature
from .keys import Keys
from .rate_limit import WINDOW_S, RateLimiter
from .replay import WRITES, Replays
from .request_checks import by_unix


@dataclass(frozen=True, slots=True)
class Caller:
    """Who has sent a request: an access key, or LOCAL's name; whether it has an admin's rights."""

    name: str
    is_admin: bool


LOCAL = Caller("local", True)
"""Whoever can open the daemon's Unix socket, which is root."""


class Authenticator:
    """Says who a request is from."""

    def __init__(self, config: Config, keys: Keys, clock: Callable[[], float] = time.time) -> None:
        self.keys = keys
        self.config = config
        self._clock = clock
        self._replays = Replays()
        self._rates = RateLimiter()
        self._open: Counter[str] = Counter()

    async def admit(self, scope: Scope) -> Caller:
        """Who has sent the request. Raises AuthInvalid, AuthFailed, RateLimited, Unavailable."""
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
        # From here to `remember` nothing waits: two of one signature cannot pass together.
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
        """Held while a request of the caller is answered. Raises RateLimited for one too many."""
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
    """The methods that may have been signed: the one that is meant; and POST, if another is
    carried by it (X-Method-Override), as a client signs that does not know what we see.

    Nothing but POST: who overhears a signed GET, which may repeat, must not make a DELETE of it.
    """
    meant = scope.get("method", "GET")  # a WebSocket begins as a GET
    return (meant, "POST") if scope["state"].get("carrier") == "POST" else (meant,)


class _Guard:
    """Lets a request go on to its route with its caller in the state, or raises the refusal."""

    def __init__(self, route: ASGIApp) -> None:
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        door = scope["app"].state.sandboxd.door
        caller = scope["state"]["caller"] = await door.admit(scope)
        with door.at_once(caller):
            await self._route(scope, receive, send)


def guarded(
    routes: Sequence[Route | WebSocketRoute], open: Collection[str]
) -> list[Route | WebSocketRoute]:
    """`routes`, closed to whom the door does not let in, but for the paths in `open`."""
    for route in routes:
        if route.path not in open:
            route.app = _Guard(route.app)
    return list(routes)
