"""The routes that administer a session: restart, rename, log, history.

Log and history are also there for a session that is over, as long as the database has its row.
"""

from __future__ import annotations

from typing import Annotated, NoReturn, NotRequired, TypedDict

from msgspec import Meta
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ...errors import NotFound
from ...runs.console_items import Item
from ...store.sessions import SessionRow
from ..access.ownership import owner
from ..access.parameters import NoParameters, ParameterSet, parameters
from ..http.responses import JsonResponse
from ..state import session, state
from ..telemetry.audit_log import annotate
from .create_session import NAME, valid_name
from .gql_items import iso


class RenameSession(ParameterSet):
    """The parameters of a rename request."""

    aliases = {"session_name": "name", "clientSessionToken": "name"}

    name: Annotated[str, NAME]


class TaskLogs(ParameterSet):
    """The parameters of a request for the log of a batch session."""

    aliases = dict.fromkeys(("taskId", "kernel_id", "session_name", "sessionName"), "task_id")

    task_id: str


class ReadLog(ParameterSet):
    """The parameters of a request for a console. `offset`: bytes of output that the client has."""

    offset: Annotated[int, Meta(ge=0)] | None = None


class Log(TypedDict):
    """The console of a run as one text; with an `offset` its items behind that in base64, the
    offset behind them, the run, and whether nothing more will come."""

    logs: str
    console: NotRequired[list[Item]]
    offset: NotRequired[int]
    runId: NotRequired[str | None]
    over: NotRequired[bool]


class LogResult(TypedDict):
    """The response to a request for the log of a session."""

    result: Log


class StatusHistory(TypedDict):
    """The times of the statuses in ISO 8601, by their names; that of terminated may be null."""

    result: dict[str, str | None]


async def restart(request: Request) -> Response:
    """PATCH /session/{ref}: kill all runs; the files stay."""
    await parameters(request, NoParameters)
    await session(request).restart()
    return Response(status_code=204)


async def rename(request: Request) -> Response:
    """POST /session/{ref}/rename: another name for the session."""
    name = (await parameters(request, RenameSession)).name
    annotate(request, name=name)
    await state(request).sessions.rename(session(request), valid_name(name))
    return Response(status_code=204)


async def logs(request: Request) -> JsonResponse[LogResult]:
    """GET /session/{ref}/logs: the console of the run that was started last."""
    offset, ref = (await parameters(request, ReadLog)).offset, request.path_params["ref"]
    if offset is None:
        return JsonResponse({"result": {"logs": await _log(request, ref)}})
    run = session(request).runs.last
    if run is None:
        log: Log = {"logs": "", "console": [], "offset": 0, "runId": None, "over": True}
        return JsonResponse({"result": log})
    over = run.over  # before the console is read: afterwards it may have ended with more output
    part = await run.printed_since(offset)
    log = {"logs": "", "console": part.items, "offset": part.behind.seen, "runId": run.id,
           "over": over and not part.items}  # fmt: skip
    return JsonResponse({"result": log})


async def task_logs(request: Request) -> Response:
    """GET /session/_/logs?taskId=UUID: the console of the last run as plain text."""
    task = await parameters(request, TaskLogs)
    text = await _log(request, task.task_id)
    return Response(text.encode("utf-8", "replace"), media_type="text/plain; charset=utf-8")


async def _log(request: Request, ref: str) -> str:
    sessions = state(request).sessions
    try:
        live = sessions.find(owner(request), ref)
    except NotFound:
        return await sessions.log_of_ended(owner(request), ref)
    return await live.log()


async def status_history(request: Request) -> JsonResponse[StatusHistory]:
    """GET /session/{ref}/status-history: the time at which each status began."""
    await parameters(request, NoParameters)
    row = await _row(request)
    times = {status.lower(): iso(at) for status, at in row.history.items()}
    return JsonResponse({"result": times | {"terminated": times.get("terminated")}})


async def _row(request: Request) -> SessionRow:
    sessions, ref = state(request).sessions, request.path_params["ref"]
    try:
        return sessions.find(owner(request), ref).row
    except NotFound:
        return await sessions.ended(owner(request), ref)


async def commit(request: Request) -> NoReturn:
    """POST /session/{ref}/commit: refused, since this server has no images."""
    await parameters(request, NoParameters)
    session(request)
    raise HTTPException(
        501, "This server has no images. Keep files in a virtual folder, or download them."
    )
