"""The audit log: a line for each act of a caller, with its outcome; and the metrics of requests.

A middleware around the whole application gives each request an id: the client's own X-Request-Id,
if it is harmless. The response has the id, and so has every line that is logged for the request.
At its end the request is counted, and is written to the audit log if it was an act (the record of
its route names it, http/route.py), was denied or failed. Handlers `annotate` what only they know,
such as the session.

    outcome   ok       done
              refused  it cannot be done so (4xx)
              denied   not for this caller: 401, 403, another owner's session or folder (404)
              failed   our own failure (5xx), or the response was broken off
              gone     the client left before the response

The log has no commands, contents or secrets. It has names, escaped (log.py).
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ... import log
from ...errors import AuthFailed, AuthInvalid, Forbidden, SandboxdError, Unavailable
from ..http.problems import GONE, problem_response
from ..http.route import WEBSOCKET, Route
from .metrics import NOWHERE

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_HEADER = b"x-request-id"


def annotate(request: HTTPConnection, **fields: Any) -> None:
    """Add `fields` to the line of the request, if it gets one."""
    _annotations(request.scope).update(fields)


def _annotations(scope: Scope) -> dict[str, Any]:
    annotations: dict[str, Any] = scope["state"].setdefault("annotations", {})
    return annotations


def audit(act: str, **fields: Any) -> None:
    """Write an act that is no request's: the daemon's own, or a command's."""
    log.event("audit", act=act, **{"request": None, "outcome": "ok", "caller": "sandboxd"} | fields)


class RouteAnnotation:
    """ASGI middleware of one route: it annotates the route, and the object that the path names."""

    def __init__(self, app: ASGIApp, route: Route) -> None:
        self._app = app
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        names: dict[str, str] = scope["path_params"]
        scope["state"]["route"] = self._route
        scope["state"]["method"] = scope.get("method")  # the effective one (request_checks.py)
        scope["state"]["ref"] = names.get("ref", names.get("name"))
        await self._app(scope, receive, send)


class AuditLogMiddleware:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        request = _Request(scope, receive, send, _id(scope))
        token = log.context.set({"request": request.id})
        try:
            await self._app(scope, request.receive, request.send)
        except asyncio.CancelledError:  # the server ends, and the request had its time of grace
            await request.end(Unavailable("the server ends; send the request again"))
        except SandboxdError as error:  # of a WebSocket; an HTTP request has a handler for it
            request.failed(error)
            raise
        except Exception as error:  # the server's own log has it; Starlette answers further out
            cause = error.__cause__ or error.__context__
            if request.status and isinstance(cause, ClientDisconnect):
                request.left()
                return
            if not (request.status and isinstance(cause, SandboxdError)):
                request.failed(error)
                raise
            # The response had begun, so it cannot report the error any more. Returning before its
            # end makes the server break the connection off.
            request.cut(cause)
        finally:
            request.over()
            log.context.reset(token)


def _id(scope: Scope) -> str:
    """The client's id for the request, else a new one."""
    sent = next((value for name, value in scope["headers"] if name == _HEADER), b"")
    return sent.decode() if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex


class _Request:
    """One request, seen from outside of its handler."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, id: str) -> None:
        self.id = id
        self.status = 0
        self._scope = scope
        self._receive = receive
        self._send = send
        self._began = time.monotonic()
        self._received = self._sent = 0
        self._gone = self._ended = self._cut = False
        self._error: BaseException | None = None

    async def receive(self) -> Message:
        """The next message from the client."""
        message = await self._receive()
        self._received += _size(message, "body", "bytes", "text")
        self._gone |= message["type"].endswith(".disconnect")
        return message

    async def send(self, message: Message) -> None:
        """Send a message to the client, with the request's id in the head of the response."""
        kind = message["type"]
        if kind.endswith("http.response.start") or kind == "websocket.accept":
            self.status = message.get("status", 101)
            message["headers"] = [*message.get("headers", ()), (_HEADER, self.id.encode())]
        if kind == "websocket.accept":  # it may last for hours: its begin gets a line, too
            self._log("opened", None)
        await self._send(message)
        self._sent += _size(message, "body", "bytes", "text")
        if kind.endswith("http.response.body"):
            self._ended = not message.get("more_body", False)

    def failed(self, error: BaseException) -> None:
        """The request has failed by our fault; the server logs the traceback."""
        self._error = error
        self.status = self.status or 500

    async def end(self, error: SandboxdError) -> None:
        """Answer with `error`, or break off the response that has begun."""
        if self.status:
            self.cut(error)
            return
        self._error = error
        await problem_response(error)(self._scope, self._receive, self.send)

    def left(self) -> None:
        """The client went before it had the whole response, though all of it may have been sent
        (delivery.py)."""
        self._gone, self._ended = True, False

    def cut(self, error: BaseException) -> None:
        """The response could not be completed."""
        self._error = error
        self._cut = True

    def over(self) -> None:
        """Count the request, and log it."""
        metrics, route = self._app_state.metrics, self._route
        seconds = time.monotonic() - self._began
        streams = route is not None and route.streams
        path = route.path if route else NOWHERE
        metrics.request(self._method, path, self.status, None if streams else seconds)
        metrics.received.inc(self._received)
        metrics.sent.inc(self._sent)
        outcome = self._outcome()
        if self._cut:
            metrics.cut.inc()
        if self.status == 429:
            metrics.rate_limited.inc()
        if outcome == "denied":
            metrics.denied.inc()
        self._log(outcome, seconds)

    @property
    def _app_state(self) -> Any:
        return self._scope["app"].state.sandboxd

    @property
    def _route(self) -> Route | None:
        route: Route | None = self._scope["state"].get("route")
        return route

    @property
    def _method(self) -> str:
        if self._scope["type"] == "websocket":
            return WEBSOCKET
        return str(self._scope["state"].get("method") or self._scope["method"])

    def _outcome(self) -> str:
        if self._error or self.status >= 500:
            return "failed"
        if self.status in (0, GONE) or (self._gone and not self._ended and self.status != 101):
            return "gone"
        if self.status < 400:
            return "ok"
        return "denied" if self._is_denied() else "refused"

    def _is_denied(self) -> bool:
        """The caller is a stranger, lacks the right, or is not the owner."""
        refusal, ref = (self._scope["state"].get(name) for name in ("refusal", "ref"))
        if self.status in (401, 403) or isinstance(refusal, (AuthFailed, AuthInvalid, Forbidden)):
            return True
        return self.status == 404 and ref is not None and self._app_state.is_anybodys(ref)

    def _log(self, outcome: str, seconds: float | None) -> None:
        annotations, state, route = _annotations(self._scope), self._scope["state"], self._route
        act = route.act_of(self._method, annotations) if route else ""
        is_bad = outcome in ("denied", "failed")
        is_audited = bool(act) or is_bad
        level = logging.WARNING if is_bad else logging.INFO if is_audited else logging.DEBUG
        if not log.is_written(level):
            return
        path = route.path if route else self._scope["path"]
        error = self._error or state.get("refusal")
        is_named = "session" in annotations or "folder" in annotations
        log.event(
            "audit" if is_audited else "request",
            level,
            act=act or f"{self._method} {path}",
            outcome=outcome,
            status=self.status or None,
            caller=_caller(state),
            peer=_peer(self._scope),
            ref=None if is_named else state.get("ref"),
            **annotations,
            received=self._received,
            sent=self._sent,
            ms=None if seconds is None else round(seconds * 1000),
            error=str(error) if error else None,
        )


def _caller(state: Mapping[str, Any]) -> str | None:
    """The name of the caller; of one that is not authenticated, as it was claimed."""
    caller = state.get("caller")
    return caller.name if caller else state.get("claimed")


def _peer(scope: Scope) -> str:
    """The address of the client; "unix" on a Unix socket."""
    client = scope.get("client")
    return str(client[0]) if client and client[0] else "unix"


def _size(message: Message, *names: str) -> int:
    """Bytes of a message's content; of a text its characters, which is near enough."""
    return sum(len(message.get(name) or b"") for name in names)
