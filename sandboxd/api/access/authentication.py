"""The authentication of requests: the caller of each, or its refusal.

There are three ways in:

    a signature          on any listener; the caller is the keypair
    a plain Unix socket  unsigned: the kernel names the user at the other end (http/peer.py)
    auth = "none"        over TCP every caller is ROOT; only for listeners on the loopback, and not
                         for web pages (request_checks.py, csrf.py)

A Guard is in front of each route that its record (http/route.py) does not open.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from starlette.types import ASGIApp, Receive, Scope, Send

from ...config.settings import Config
from ...errors import AuthFailed, Forbidden, RateLimited
from ..http.connections import mark_known
from ..http.peer import Peer, peer_of
from ..http.route import Access
from . import signature
from .callers import ROOT, Caller, caller_at
from .keys import Keys
from .rate_limit import WINDOW_S, RateLimiter
from .replay import WRITES, Replays
from .request_checks import by_network

ADMINS_ONLY = (
    "only admins can do this: root, the groups in admin_groups at a Unix socket, and the keypairs "
    "made with --admin"
)


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
        is_open = self.config.auth == "none"
        if is_open and by_network(scope):
            return ROOT
        peer = peer_of(scope)
        if peer and (is_open or not _signed(scope)):
            return self._user(scope, peer)
        now = self._clock()
        claim = signature.claim(_target(scope), scope["headers"], datetime.fromtimestamp(now, UTC))
        scope["state"]["claimed"] = claim.access_key
        keypair = await self.keys.find(claim.access_key)
        if keypair is None:
            raise AuthFailed("Access key not found")
        methods = _methods(scope)
        signed = next((m for m in methods if signature.verify(claim, m, keypair.secret_key)), None)
        if signed is None:
            raise AuthFailed("Signature mismatch")
        # No await from here to `remember`: two requests with one signature cannot both pass. A read
        # that was signed as POST could be sent as a write without its override.
        writes, running = not WRITES.isdisjoint((methods[0], signed)), time.monotonic()
        if writes:
            self._replays.refuse(claim, now, running)
        limit = keypair.rate_limit or self.config.rate_limit
        self._count(scope, keypair.access_key, limit, running)
        if writes:
            self._replays.remember(claim, now, running)
        await self.keys.used(keypair.access_key, now)
        return Caller(keypair.access_key, keypair.is_admin)

    def _user(self, scope: Scope, peer: Peer) -> Caller:
        """The user at a plain Unix socket. The requests of root are not counted."""
        caller = caller_at(peer, self.config.admin_groups)
        if caller is not ROOT:
            self._count(scope, caller.name, self.config.rate_limit, time.monotonic())
        return caller

    def _count(self, scope: Scope, caller: str, limit: int, running: float) -> None:
        """Count a request of `caller`. Raises RateLimited above the limit."""
        rate = scope["state"]["rate"] = self._rates.count(caller, limit, running)
        if rate.wait_s:
            raise RateLimited(
                f"{limit} requests in {WINDOW_S} s are allowed; the next one in {rate.wait_s} s"
            )

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
    """The methods that the client may have signed: first the effective one, then POST where the
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
        mark_known(scope, caller.name)
        with authenticator.at_once(caller):
            if self._access is Access.ADMIN and not caller.is_admin:
                raise Forbidden(ADMINS_ONLY)
            await self._app(scope, receive, send)
