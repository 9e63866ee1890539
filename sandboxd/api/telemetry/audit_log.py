"""Who did what, and how it went: the audit log, and what is counted of each request and run.

A middleware around everything (`Recorded`). It gives each request an id (the client's own
X-Request-Id, if it is harmless), which every line logged meanwhile has, and the answer too; and
when the request is over it is counted, and told if it was an act (ACTS) or was denied. What only
a handler knows, such as which session it was about, handlers `note` in passing.

    outcome   ok       done
              refused  it cannot be done so (4xx)
              denied   not for this caller: 401, 403, another owner's session or folder (404)
              failed   our own failure (5xx), or the answer was broken off
              gone     the client left before the answer

Commands, contents and secrets are never told; names are, escaped (log.py).
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ... import log
from ...errors import AuthFailed, AuthInvalid, Forbidden, SandboxdError
from ..http.problems import GONE
from .metrics import NOWHERE

ACTS = {
    ("POST", "/admin/drain"): "daemon.drain",
    ("POST", "/session"): "session.create",
    ("POST", "/session/_/create"): "session.create",
    ("DELETE", "/session/{ref}"): "session.delete",
    ("PATCH", "/session/{ref}"): "session.restart",
    ("POST", "/session/{ref}/rename"): "session.rename",
    ("POST", "/session/{ref}/interrupt"): "session.interrupt",
    ("POST", "/session/{ref}/commit"): "session.commit",
    ("POST", "/session/{ref}/upload"): "session.upload",
    ("GET", "/session/{ref}/download"): "session.download",
    ("POST", "/session/{ref}/download"): "session.download",
    ("GET", "/session/{ref}/download_single"): "session.download",
    ("POST", "/session/{ref}/download_single"): "session.download",
    ("POST", "/session/{ref}"): "run.execute",
    ("WEBSOCKET", "/stream/session/{ref}/execute"): "run.execute",
    ("WEBSOCKET", "/stream/session/{ref}/pty"): "session.terminal",
    ("POST", "/folders"): "folder.create",
    ("DELETE", "/folders"): "folder.delete",
    ("DELETE", "/folders/{name}"): "folder.delete",
    ("POST", "/folders/{name}/rename"): "folder.rename",
    ("POST", "/folders/{name}/update-options"): "folder.change",
    ("POST", "/folders/{name}/mkdir"): "folder.mkdir",
    ("POST", "/folders/{name}/rename-file"): "folder.move-file",
    ("POST", "/folders/{name}/rename_file"): "folder.move-file",
    ("POST", "/folders/{name}/move-file"): "folder.move-file",
    ("POST", "/folders/{name}/delete-files"): "folder.delete-files",
    ("DELETE", "/folders/{name}/delete-files"): "folder.delete-files",
    ("POST", "/folders/{name}/delete_files"): "folder.delete-files",
    ("DELETE", "/folders/{name}/delete_files"): "folder.delete-files",
    ("POST", "/folders/{name}/request-upload"): "folder.request-upload",
    ("POST", "/folders/{name}/request-download"): "folder.request-download",
    ("PATCH", "/folders/_/tus/upload"): "folder.upload",
    ("GET", "/folders/_/download"): "folder.download",
}
"""What is told of, by method and route; the rest only looks at something."""

POLLED = ("POST", "/session/{ref}")
"""The route whose requests are acts only if they `note` a run: the others poll for one."""

STREAMS = ("/events/session",)
"""Routes whose requests last as long as the client likes, besides WebSockets."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_HEADER = "x-request-id"


def annotate(request: HTTPConnection, **fields: Any) -> None:
    """Have `fields` told with the request, if it is told."""
    _notes(request.scope).update(fields)


def _notes(scope: Scope) -> dict[str, Any]:
    notes: dict[str, Any] = scope["state"].setdefault("notes", {})
    return notes


def act(what: str, **fields: Any) -> None:
    """Tell an act that is no request's: the daemon's own, or a command's."""
    told = {"request": None, "outcome": "ok", "caller": "sandboxd"} | fields
    log.event("audit", act=what, **told)


class _Named:
    """Notes which route a request has come to, and what it names."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        named: dict[str, str] = scope["path_params"]
        scope["state"]["route"] = self._path
        scope["state"]["method"] = scope.get("method")  # the one that is meant (request_checks.py)
        scope["state"]["ref"] = named.get("ref", named.get("name"))
        await self._app(scope, receive, send)


def named(routes: Sequence[Route | WebSocketRoute]) -> list[Route | WebSocketRoute]:
    """`routes`, each of which tells `Recorded` which one it is."""
    for route in routes:
        route.app = _Named(route.app, route.path)
    return list(routes)


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
        except SandboxdError as error:  # in a WebSocket; elsewhere there is a handler for it
            request.failed(error)
            raise
        except Exception as error:  # told in the log; what answers it is further out
            cause = error.__cause__ or error.__context__
            if request.status and isinstance(cause, ClientDisconnect):
                request.left()
                return
            if not (request.status and isinstance(cause, SandboxdError)):
                request.failed(error)
                raise
            # The answer had begun: it cannot say so any more. Returning without its end makes
            # the server break the connection off.
            request.cut(cause)
        finally:
            request.over()
            log.context.reset(token)


def _id(scope: Scope) -> str:
    """The client's id for the request, else one of ours."""
    given = next((value for name, value in scope["headers"] if name == _HEADER.encode()), b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


class _Request:
    """What is seen of one request from outside of its handler."""

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
        """What comes from the client."""
        message = await self._receive()
        self._received += _size(message, "body", "bytes", "text")
        self._gone |= message["type"].endswith(".disconnect")
        return message

    async def send(self, message: Message) -> None:
        """What goes to the client, with the request's id in its head."""
        kind = message["type"]
        if kind.endswith("http.response.start") or kind == "websocket.accept":
            self.status = message.get("status", 101)
            message.setdefault("headers", [])
            MutableHeaders(scope=message)[_HEADER] = self.id
        if kind == "websocket.accept":  # it may last for hours: tell its beginning, too
            self._tell("opened", None)
        await self._send(message)
        self._sent += _size(message, "body", "bytes", "text")
        if kind.endswith("http.response.body"):
            self._ended = not message.get("more_body", False)

    def failed(self, error: BaseException) -> None:
        """A mistake of ours, which the server logs with its traceback."""
        self._error = error
        self.status = self.status or 500

    def left(self) -> None:
        """The client went before it had the whole answer, which may have been sent all the same
        (delivery.py)."""
        self._gone, self._ended = True, False

    def cut(self, error: BaseException) -> None:
        """The answer could not be brought to its end."""
        self._error = error
        self._cut = True

    def over(self) -> None:
        """Count it, and tell it."""
        metrics = self._state.metrics
        seconds = time.monotonic() - self._began
        stream = self._method == "WEBSOCKET" or self._route in STREAMS
        metrics.request(self._method, self._route, self.status, None if stream else seconds)
        metrics.received.inc(self._received)
        metrics.sent.inc(self._sent)
        metrics.cut.inc(self._cut)
        metrics.rate_limited.inc(self.status == 429)
        outcome = self._outcome()
        metrics.denied.inc(outcome == "denied")
        self._tell(outcome, seconds)

    @property
    def _state(self) -> Any:
        return self._scope["app"].state.sandboxd

    @property
    def _route(self) -> str:
        return str(self._scope["state"].get("route", NOWHERE))

    @property
    def _method(self) -> str:
        if self._scope["type"] == "websocket":
            return "WEBSOCKET"
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
        """The caller may not have it: a stranger, without the right to it, or not its owner."""
        refusal, ref = (self._scope["state"].get(name) for name in ("refusal", "ref"))
        if self.status in (401, 403) or isinstance(refusal, (AuthFailed, AuthInvalid, Forbidden)):
            return True
        return self.status == 404 and ref is not None and self._state.is_anybodys(ref)

    def _tell(self, outcome: str, seconds: float | None) -> None:
        notes, asked = _notes(self._scope), self._scope["state"]
        key = (self._method, self._route)
        act = None if key == POLLED and "run" not in notes else ACTS.get(key)
        bad = outcome in ("denied", "failed")
        told = act is not None or bad
        path = self._route if self._route != NOWHERE else self._scope["path"]
        error = self._error or asked.get("refusal")
        caller = asked.get("caller")
        log.event(
            "audit" if told else "request",
            logging.WARNING if bad else logging.INFO if told else logging.DEBUG,
            act=act or f"{self._method} {path}",
            outcome=outcome,
            status=self.status or None,
            caller=caller.name if caller else asked.get("claimed"),
            peer=_peer(self._scope),
            ref=asked.get("ref") if "session" not in notes and "folder" not in notes else None,
            **notes,
            received=self._received,
            sent=self._sent,
            ms=None if seconds is None else round(seconds * 1000),
            error=str(error) if error else None,
        )


def _peer(scope: Scope) -> str:
    """The address of who asks; "unix" on a Unix socket."""
    client = scope.get("client")
    return str(client[0]) if client and client[0] else "unix"


def _size(message: Message, *names: str) -> int:
    """Bytes of a message's content; of a text its characters, which is near enough."""
    return sum(len(message.get(name) or b"") for name in names)
