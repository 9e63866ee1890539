"""What holds for every request before there is a route for it, and for every answer after.

X-Method-Override says which method is meant, for clients that can send only some of them. The
version header must be one that we know. Where nobody signs, web pages are kept out (csrf.py).
Answers say how many requests are left.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...errors import Refused
from ..http import problems
from .csrf import refuse_pages
from .rate_limit import UNCOUNTED, WINDOW_S, RollingWindow

VERSIONS = frozenset((
    "v4.20181215", "v4.20190115", "v4.20190315", "v4.20190615", "v5.20191215", "v6.20200815",
    "v6.20210815", "v6.20220315", "v6.20220615", "v6.20221201", "v6.20230315", "v7.20230615",
    "v8.20240315", "v8.20240915", "v9.20250722",
))  # fmt: skip
"""The versions of the API that its clients may name; the batch mode is the same in all of them.
Without a name, version 5 is meant."""

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
                _tell_rate(MutableHeaders(scope=message), scope["state"].get("rate", UNCOUNTED))
            await send(message)

        try:
            _check(scope)
        except Refused as error:
            await problems.answer(error)(scope, receive, counted)
        else:
            await self._app(scope, receive, counted)


def _check(scope: Scope) -> None:
    """Raises Refused, for what no route would serve."""
    if version_of(scope["headers"]) not in VERSIONS | {None}:
        raise Refused("Unsupported API version.")
    if scope["app"].state.sandboxd.config.auth == "none" and not by_unix(scope):
        refuse_pages(scope["headers"])


def by_unix(scope: Scope) -> bool:
    """The request came over a Unix socket: ASGI names its path then, and no port."""
    path, port = scope.get("server") or ("", 0)
    return port is None and str(path).startswith("/")


def version_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The API's version as the request has it; None when it has none."""
    found = {name: value.decode("latin-1") for name, value in headers if name in _VERSION_HEADERS}
    return next((found[name] for name in _VERSION_HEADERS if name in found), None)


def _overridden(scope: Scope) -> Scope:
    """The scope with the method that is meant. A copy: the server goes by the one that was sent,
    which decides about the form of the answer."""
    scope = dict(scope, state=scope.get("state", {}))
    meant = next((value for name, value in scope["headers"] if name == b"x-method-override"), b"")
    if meant and scope["type"] == "http":
        scope["state"]["carrier"] = scope["method"]
        scope["method"] = meant.decode("latin-1").strip().upper()
    return scope


def _tell_rate(headers: MutableHeaders, rate: RollingWindow) -> None:
    headers["x-ratelimit-limit"] = str(rate.limit)
    headers["x-ratelimit-remaining"] = str(rate.remaining)
    headers["x-ratelimit-window"] = str(WINDOW_S)
    if rate.wait_s:
        headers["retry-after"] = str(rate.wait_s)
