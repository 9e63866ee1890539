"""What clients ask about the server itself, before or beside their work."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..access.ownership import caller, owner
from ..access.parameters import parameters
from ..http.responses import JsonResponse
from ..state import state


class Echo(msgspec.Struct):
    """The parameters of a test of one's keys."""

    echo: str


async def authorized(request: Request) -> Response:
    """GET or POST /auth: whether a signature is right; the answer has what was sent."""
    asked = await parameters(request, Echo)
    return JsonResponse({"authorized": "yes", "echo": asked.echo})


async def status(request: Request) -> Response:
    """GET /manager/status: that the server runs, and how many sessions who asks has in it."""
    asking = caller(request)
    everybody = asking.is_admin and owner(request) == asking.name
    found = state(request).sessions.of(None if everybody else owner(request))
    return JsonResponse({"status": "running", "active_sessions": len(list(found))})


async def announcement(_: Request) -> Response:
    """GET /manager/announcement: clients show it before lists; there is none."""
    return JsonResponse({"enabled": False, "message": ""})
