"""The routes for admins, about the daemon and its host.

The names of cgroups and directories in a report of leaks, and the details of a guarantee, are the
subject of these responses. Other responses name nothing of the host.
"""

from __future__ import annotations

from dataclasses import asdict

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...errors import Invalid
from ..access.parameters import NoParameters, parameters
from ..http.responses import JsonResponse
from ..state import state

DEADLINE_MAX_S = 30 * 24 * 3600.0


class DrainRequest(msgspec.Struct):
    """The body of a request to drain; `deadline` in seconds from now, null: none."""

    deadline: float | None = None
    undo: bool = False


async def show_drain(request: Request) -> Response:
    """GET /admin/drain: the progress of the drain."""
    await parameters(request, NoParameters)
    return JsonResponse(state(request).drain.progress())


async def change_drain(request: Request) -> Response:
    """POST /admin/drain: begin, change the deadline, or undo. Raises Invalid."""
    body, drain = await parameters(request, DrainRequest), state(request).drain
    if body.deadline is not None and not 0 <= body.deadline <= DEADLINE_MAX_S:
        allowed = f"seconds from 0 to {DEADLINE_MAX_S:g}"
        raise Invalid("Input validation error", {"deadline": allowed})
    if body.undo and body.deadline is not None:
        raise Invalid("Input validation error", {"deadline": "must be absent with undo"})
    if body.undo:
        drain.undo()
    else:
        drain.begin(body.deadline)
    return JsonResponse(drain.progress())


async def leaks(request: Request) -> Response:
    """GET /admin/leaks: the report of a sweep that is done now, and the resources of each slot."""
    await parameters(request, NoParameters)
    return JsonResponse(await state(request).leaks.check())


async def guarantees(request: Request) -> Response:
    """GET /admin/guarantees: the guarantees of the host, as probed at the start of the daemon.

    The form is that of `sandboxd doctor --json`. The description of a session has their names.
    """
    await parameters(request, NoParameters)
    return JsonResponse({"guarantees": [asdict(one) for one in state(request).guarantees]})
