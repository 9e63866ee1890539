"""The routes for admins, about the daemon and its host.

The names of cgroups and directories in a report of leaks, and the details of a guarantee, are the
subject of these responses. Other responses name nothing of the host.
"""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from msgspec import Meta
from starlette.requests import Request

from ...errors import Invalid
from ...model import Guarantee
from ..access.parameters import NoParameters, ParameterSet, parameters
from ..http.responses import JsonResponse
from ..operation.drain import DrainProgress
from ..state import state

DEADLINE_MAX_S = 30 * 24 * 3600.0


class DrainRequest(ParameterSet):
    """The body of a request to drain; `deadline` in seconds from now, null: none."""

    deadline: Annotated[float, Meta(ge=0, le=DEADLINE_MAX_S)] | None = None
    undo: bool = False


class Guarantees(TypedDict):
    """The guarantees of the host, in the form of `sandboxd doctor --json`."""

    guarantees: list[Guarantee]


async def show_drain(request: Request) -> JsonResponse[DrainProgress]:
    """GET /admin/drain: the progress of the drain."""
    await parameters(request, NoParameters)
    return JsonResponse(state(request).drain.progress())


async def change_drain(request: Request) -> JsonResponse[DrainProgress]:
    """POST /admin/drain: begin, change the deadline, or undo. Raises Invalid."""
    body, drain = await parameters(request, DrainRequest), state(request).drain
    if body.undo and body.deadline is not None:
        raise Invalid.of({"deadline": "must be absent with undo"})
    if body.undo:
        drain.undo()
    else:
        drain.begin(body.deadline)
    return JsonResponse(drain.progress())


async def leaks(request: Request) -> JsonResponse[dict[str, Any]]:
    """GET /admin/leaks: the report of a sweep that is done now, and the resources of each slot."""
    await parameters(request, NoParameters)
    return JsonResponse(await state(request).leaks.check())


async def guarantees(request: Request) -> JsonResponse[Guarantees]:
    """GET /admin/guarantees: the guarantees of the host, as probed at the start of the daemon.

    The form is that of `sandboxd doctor --json`. The description of a session has their names.
    """
    await parameters(request, NoParameters)
    return JsonResponse({"guarantees": list(state(request).guarantees)})
