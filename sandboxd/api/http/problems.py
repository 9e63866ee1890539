"""The problem documents: one table from exceptions to the refusals that clients get.

A problem document (RFC 9457) has type, title and, where they help, msg and data. The entry of a
class is also that of its subclasses that have none. The document of an unexpected exception says
nothing of its cause, which is in the log.
"""

from __future__ import annotations

import errno
import logging
from http import HTTPStatus
from typing import Any, NotRequired, Protocol, TypedDict

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute

from ... import log
from ...errors import (
    AuthFailed,
    AuthInvalid,
    ConfigError,
    Deleted,
    Draining,
    Exists,
    FolderExists,
    Forbidden,
    Full,
    Gone,
    Invalid,
    NoSpace,
    NotFound,
    OutsideHome,
    QuotaExceeded,
    RateLimited,
    Refused,
    SandboxdError,
    StageError,
    Unavailable,
)
from ...store.database import Unwritable
from ...wire.file_calls import FileWireError
from ...wire.messages import Starved, WireError
from .responses import to_json

TYPE = "https://api.backend.ai/probs/"
MEDIA_TYPE = "application/problem+json"

_PARAMS = (400, "invalid-api-params", "Missing or invalid API parameters.")
_BUSY = (503, "service-unavailable", "Service unavailable.")
_INTERNAL = (500, "internal-server-error", "Internal server error.")

TABLE: dict[type[SandboxdError], tuple[int, str, str]] = {
    SandboxdError: _INTERNAL,
    ConfigError: _INTERNAL,
    Starved: _BUSY,
    WireError: _INTERNAL,
    FileWireError: _INTERNAL,
    Refused: (400, "generic-bad-request", "Bad request."),
    Invalid: _PARAMS,
    OutsideHome: _PARAMS,
    NotFound: (404, "object-not-found", "No such object."),
    Deleted: (404, "object-not-found", "No such object."),
    Exists: (
        400,
        "session-already-exists",
        "The session already exists but you requested not to reuse existing one.",
    ),
    FolderExists: (400, "vfolder-already-exists", "The virtual folder already exists."),
    AuthInvalid: (
        400,
        "invalid-auth-params",
        "Missing or invalid authorization parameters.",
    ),
    AuthFailed: (401, "auth-failed", "Credential/signature mismatch."),
    Forbidden: (403, "insufficient-privilege", "Insufficient privilege."),
    NoSpace: (507, "insufficient-storage", "The server has no space left."),
    Unwritable: (507, "insufficient-storage", "The server has no space left."),
    RateLimited: (429, "rate-limit-exceeded", "You have reached your API query rate limit."),
    QuotaExceeded: (412, "quota-exceeded", "You have reached your resource limit."),
    StageError: _BUSY,
    Unavailable: _BUSY,
    Full: (503, "instance-not-available", "There is no available instance."),
    Draining: (503, "server-frozen", "The server takes on nothing new at the moment."),
    Gone: _BUSY,
}

_HEADERS = {401: {"www-authenticate": "BackendAI"}}
RETRY_S = 1
"""The default of the header Retry-After for the statuses 429 and 503."""

GONE = 499
"""The status in log and metrics for a client that has closed its connection; it is never sent."""

SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""The errors of the operating system for a shortage, except of disk space."""

_GENERIC = ("generic-bad-request", "Bad request.")
_FRAMEWORK = {
    404: ("url-not-found", "Unknown URL path."),
    405: ("method-not-allowed", "HTTP Method Not Allowed."),
    501: ("not-implemented", "This API query is not implemented."),
}

_BARE = {
    429: ("rate-limit-exceeded", "You have reached your API query rate limit."),
    503: _BUSY[1:],
}
"""Type and title for statuses whose `msg` names the cause."""


class Problem(TypedDict):
    """A problem document (RFC 9457). `data` names the field and what is allowed."""

    type: str
    title: str
    msg: NotRequired[str]
    data: NotRequired[Any]
    errors: NotRequired[list[dict[str, Any]]]


def titles(status: int) -> list[str]:
    """The types and titles of the problem documents with this status, a line for each."""
    known = [(suffix, title) for number, suffix, title in TABLE.values() if number == status]
    if not known or status in _FRAMEWORK | _BARE:
        known.append((_FRAMEWORK | _BARE).get(status, _GENERIC))
    return [f"- `{suffix}`: {title}" for suffix, title in dict.fromkeys(known)]


def document(suffix: str, title: str, msg: str = "", data: Any = None) -> dict[str, Any]:
    """The members of a problem document; `msg` and `data` only where there is something."""
    body: dict[str, Any] = {"type": TYPE + suffix, "title": title}
    if msg:
        body["msg"] = msg
    if data is not None:
        body["data"] = data
    return body


def of_status(status: int, msg: str = "", data: Any = None) -> dict[str, Any]:
    """The problem document for a bare HTTP status."""
    suffix, title = (_FRAMEWORK | _BARE).get(status, _GENERIC)
    return document(suffix, title, msg or HTTPStatus(status).phrase, data)


def of_error(error: SandboxdError) -> tuple[int, dict[str, Any]]:
    """Status and problem document for an exception."""
    status, suffix, title = next(TABLE[c] for c in type(error).__mro__ if c in TABLE)
    if status == 500:
        return status, document(suffix, title)
    if isinstance(error, NotFound):
        title = f"No such {error.kind}."
    data = error.data if isinstance(error, Refused) else None
    if isinstance(error, StageError):
        data = {"stage": error.public_stage, "errno": error.errno}
    return status, document(suffix, title, error.public, data)


def client_text(error: SandboxdError) -> str:
    """The text of `error` for a client that gets no problem document: in a frame, in a console.

    The whole text goes to the log, where it says more. A problem document does not need that: the
    line of its request in the audit log has the whole text.
    """
    if error.public != str(error):
        log.event("error", logging.WARNING, error=str(error))
    return error.public


def _response(status: int, body: dict[str, Any], headers: Any = None) -> Response:
    return Response(to_json(body), status, headers, MEDIA_TYPE)


class Target(Protocol):
    """The session or folder of a request. `closed`: it is being deleted."""

    @property
    def kind(self) -> str:
        """The word for it in a refusal."""

    closed: bool


def _of_target(request: Request, error: SandboxdError) -> SandboxdError:
    """The error of a request whose target is being deleted meanwhile: whatever failed because of
    that, the client need not try again."""
    target: Target | None = request.scope["state"].get("target")
    is_own_failure = isinstance(error, (StageError, Unavailable)) and not isinstance(error, Gone)
    return Deleted(target.kind) if target and target.closed and is_own_failure else error


async def on_sandboxd_error(request: Request, error: Exception) -> Response:
    """Handler for the exceptions of sandboxd."""
    assert isinstance(error, SandboxdError)
    error = _of_target(request, error)
    request.scope["state"]["refusal"] = error  # for the log
    return problem_response(error)


def problem_response(error: SandboxdError) -> Response:
    """The response for `error`; also to a WebSocket that is not open yet."""
    status, body = of_error(error)
    headers = dict(_HEADERS.get(status, {}))
    if status in (429, 503):
        headers["retry-after"] = str(getattr(error, "retry_s", RETRY_S))
    return _response(status, body, headers)


async def on_os_error(request: Request, error: Exception) -> Response:
    """Handler for errors of the operating system. A shortage is temporary, so the status is 503.
    Raises all other errors again."""
    assert isinstance(error, OSError)
    if error.errno not in SHORT:
        raise error
    return await on_sandboxd_error(
        request, Unavailable(f"the server is short of a resource: {error.strerror}")
    )


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Handler for unknown paths and methods, and for statuses that a route raises."""
    assert isinstance(error, HTTPException)
    status, msg, data = error.status_code, error.detail, None
    if status in (404, 405):
        path = request.url.path
        msg = f"This server does not offer {request.scope.get('method', 'GET')} {path}."
        if any(_takes_websocket(route, path) for route in request.app.routes):
            msg = f"{path} needs a WebSocket connection."
        data = path if status == 404 else None
    return _response(status, of_status(status, msg, data), error.headers)


def _takes_websocket(route: BaseRoute, path: str) -> bool:
    return isinstance(route, WebSocketRoute) and bool(route.path_regex.match(path))


async def on_disconnect(_: Request, error: Exception) -> Response:
    """Handler for a client that went away; its response is never sent."""
    return Response(status_code=GONE)


async def on_unexpected(_: Request, error: Exception) -> Response:
    """Handler for all other exceptions; Starlette raises them again, so that uvicorn logs them."""
    return _response(500, document(*_INTERNAL[1:]))
