"""The routes about the server itself: version, keys, health, status."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ... import __version__
from ..access.ownership import caller, owner
from ..access.parameters import NoParameters, parameters
from ..http.responses import JsonResponse
from ..state import state

API_VERSION = "v7.20230615"
"""The newest version that all clients speak without a warning."""


class Echo(msgspec.Struct):
    """The parameters of a test of one's keys."""

    echo: str


async def version(_: Request) -> Response:
    """GET /: the versions, by which a client chooses how to speak."""
    return JsonResponse({"version": API_VERSION, "manager": f"sandboxd {__version__}"})


async def healthz(request: Request) -> Response:
    """GET /healthz on the API's listeners: alive or not, without the problems."""
    return health_response(await state(request).health.alive())


async def readyz(request: Request) -> Response:
    """GET /readyz on the API's listeners: ready or not, without the problems."""
    return health_response(await state(request).health.ready())


def health_response(problems: dict[str, str], detail: bool = False) -> Response:
    """The response for these problems of the daemon; with `detail` it names them."""
    body: dict[str, Any] = {"status": "unavailable" if problems else "ok"}
    if detail and problems:
        body["wrong"] = problems
    return JsonResponse(body, 503 if problems else 200)


async def authorized(request: Request) -> Response:
    """GET or POST /auth: the test of a signature; the response repeats a text of the request."""
    echo = (await parameters(request, Echo)).echo
    return JsonResponse({"authorized": "yes", "echo": echo})


async def status(request: Request) -> Response:
    """GET /manager/status: the number of the owner's sessions; an admin's is that of all owners."""
    await parameters(request, NoParameters)
    asking = caller(request)
    everybody = asking.is_admin and owner(request) == asking.name
    sessions = state(request).sessions.of(None if everybody else owner(request))
    return JsonResponse({"status": "running", "active_sessions": len(list(sessions))})


async def announcement(request: Request) -> Response:
    """GET /manager/announcement: the text that clients show before lists; there is none."""
    await parameters(request, NoParameters)
    return JsonResponse({"enabled": False, "message": ""})
