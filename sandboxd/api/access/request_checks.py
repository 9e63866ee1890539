"""The checks of every request before its route is known, and the headers of every response.

X-Method-Override names the effective method, for clients that can send only some methods. The
version header must have a known version. Where requests are unsigned, those of web pages (csrf.py)
and of proxies (forwarded.py) are refused. The headers of a response tell the rest of the caller's
rate limit.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...errors import Refused
from ..http import body_budget, problems
from ..http.peer import peer_of
from .csrf import refuse_pages
from .forwarded import refuse_forwarded
from .rate_limit import UNCOUNTED, WINDOW_S, RollingWindow

VERSIONS = frozenset((
    "v4.20181215", "v4.20190115", "v4.20190315", "v4.20190615", "v5.20191215", "v6.20200815",
    "v6.20210815", "v6.20220315", "v6.20220615", "v6.20221201", "v6.20230315", "v7.20230615",
    "v8.20240315", "v8.20240915", "v9.20250722",
))  # fmt: skip
"""The versions of the API that a client may name; the batch mode is the same in all of them. A
request without one means version 5."""

_VERSION_HEADERS = (b"x-backendai-version", b"x-sorna-version")


class RequestChecks:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope = _overridden(scope)

        async def counted(message: Message) -> None:
            if message["type"].endswith("http.response.start"):
                _add_rate_headers(message, scope["state"].get("rate", UNCOUNTED))
            await send(message)

        try:
            _check(scope)
        except Refused as error:
            await problems.problem_response(error)(scope, receive, counted)
        else:
            await self._app(scope, receive, counted)
        finally:
            body_budget.release(scope)


def _check(scope: Scope) -> None:
    """Raise Refused for a request that no route would serve."""
    if version_of(scope["headers"]) not in VERSIONS | {None}:
        raise Refused("Unsupported API version.")
    if by_unix(scope):
        refuse_forwarded(scope["headers"])
    elif scope["app"].state.sandboxd.config.auth == "none" and by_network(scope):
        refuse_pages(scope["headers"])


def by_unix(scope: Scope) -> bool:
    """The request came over a plain Unix socket, where the kernel names the caller."""
    return peer_of(scope) is not None


def by_network(scope: Scope) -> bool:
    """The request came over TCP: of a Unix socket, ASGI names the path and no port."""
    _, port = scope.get("server") or ("", None)
    return port is not None


def version_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The version of the API that the request names; None if it names none."""
    named = {name: value.decode("latin-1") for name, value in headers if name in _VERSION_HEADERS}
    return next((named[name] for name in _VERSION_HEADERS if name in named), None)


def _overridden(scope: Scope) -> Scope:
    """The scope with the effective method. A copy: for the server the method that was sent
    decides about the form of the response."""
    scope = dict(scope, state=scope.get("state", {}))
    override = next((v for name, v in scope["headers"] if name == b"x-method-override"), b"")
    if override and scope["type"] == "http":
        scope["state"]["carrier"] = scope["method"]
        scope["method"] = override.decode("latin-1").strip().upper()
    return scope


def _add_rate_headers(message: Message, rate: RollingWindow) -> None:
    message["headers"] = [*message.get("headers", ()), *_rate_headers(rate)]
    if rate.wait_s:
        MutableHeaders(scope=message)["retry-after"] = str(rate.wait_s)


@functools.lru_cache(maxsize=16)
def _rate_headers(rate: RollingWindow) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-ratelimit-limit", b"%d" % rate.limit),
        (b"x-ratelimit-remaining", b"%d" % rate.remaining),
        (b"x-ratelimit-window", b"%d" % WINDOW_S),
    ]
