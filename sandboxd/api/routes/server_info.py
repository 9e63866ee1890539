"""The routes about the server itself: version, keys, health, status."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from starlette.requests import Request
from starlette.responses import Response

from ... import __version__
from ...model import API_VERSION
from ..access.ownership import caller, owner
from ..access.parameters import NoParameters, ParameterSet, parameters
from ..http.responses import JsonResponse
from ..http.route import JSON
from ..state import state


class Echo(ParameterSet):
    """The parameters of a test of one's keys."""

    echo: str


class Versions(TypedDict):
    """The newest version of the API, and the name and version of this server."""

    version: str
    manager: str


class HealthReport(TypedDict):
    """The health of the daemon; `wrong` names its problems, on the listener for monitors only."""

    status: Literal["ok", "unavailable"]
    wrong: NotRequired[dict[str, str]]


class Authorized(TypedDict):
    """The text of the request, once its signature has been verified."""

    authorized: Literal["yes"]
    echo: str


class ServerStatus(TypedDict):
    """The number of sessions."""

    status: Literal["running"]
    active_sessions: int


class Announcement(TypedDict):
    """The text that clients show before lists."""

    enabled: bool
    message: str


async def openapi(request: Request) -> Response:
    """GET /openapi.json: the description of this API by OpenAPI 3.1, made from its routes."""
    document: bytes = request.app.state.openapi()
    return Response(document, media_type=JSON)


async def version(_: Request) -> JsonResponse[Versions]:
    """GET /: the versions, by which a client chooses how to speak."""
    return JsonResponse({"version": API_VERSION, "manager": f"sandboxd {__version__}"})


async def healthz(request: Request) -> JsonResponse[HealthReport]:
    """GET /healthz: alive or not; the listener for monitors names the problems."""
    return health_response(await state(request).health.alive())


async def readyz(request: Request) -> JsonResponse[HealthReport]:
    """GET /readyz: ready or not; the listener for monitors names the problems."""
    return health_response(await state(request).health.ready())


def health_response(problems: dict[str, str], detail: bool = False) -> JsonResponse[HealthReport]:
    """The response for these problems of the daemon; with `detail` it names them."""
    body: HealthReport = {"status": "unavailable" if problems else "ok"}
    if detail and problems:
        body["wrong"] = problems
    return JsonResponse(body, 503 if problems else 200)


async def authorized(request: Request) -> JsonResponse[Authorized]:
    """GET or POST /auth: the test of a signature; the response repeats a text of the request."""
    echo = (await parameters(request, Echo)).echo
    return JsonResponse({"authorized": "yes", "echo": echo})


async def status(request: Request) -> JsonResponse[ServerStatus]:
    """GET /manager/status: the number of the owner's sessions; an admin's is that of all owners."""
    await parameters(request, NoParameters)
    asking = caller(request)
    everybody = asking.is_admin and owner(request) == asking.name
    sessions = state(request).sessions.of(None if everybody else owner(request))
    return JsonResponse({"status": "running", "active_sessions": len(list(sessions))})


async def announcement(request: Request) -> JsonResponse[Announcement]:
    """GET /manager/announcement: the text that clients show before lists; there is none."""
    await parameters(request, NoParameters)
    return JsonResponse({"enabled": False, "message": ""})
