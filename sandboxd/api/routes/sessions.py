"""The routes of sessions: describe, list by prefix, destroy, interrupt. See create_session.py."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TypedDict

from starlette.requests import Request
from starlette.responses import Response

from ...errors import Invalid
from ...model import Attachment
from ...store.sessions import SessionRow
from ..access.ownership import owner
from ..access.parameters import NoParameters, ParameterSet, parameters
from ..admission.admission import QueuePlace
from ..http.responses import JsonResponse
from ..options import limit_values
from ..sessions import workspace_facts
from ..sessions.session import Session
from ..sessions.session_network import SessionNetwork, described
from ..sessions.workspace_facts import WorkspaceFacts
from ..state import AppState, session, state
from .gql_items import iso


class MatchSessions(ParameterSet):
    """The parameters of a search: the beginning of a UUID or name."""

    id: str = ""


class DestroySession(ParameterSet):
    """The parameters of a destroy request. Each one is forced, and no session depends on another,
    so both values have the same effect."""

    forced: bool = False
    recursive: bool = False


class MatchingSession(TypedDict):
    """A session that a search shows."""

    id: str
    name: str
    status: str


class Matches(TypedDict):
    """The sessions that a search shows."""

    matches: list[MatchingSession]


class Statistics(TypedDict):
    """The usage of all runs of a session: milliseconds and bytes."""

    version: int
    status: str
    runs: int
    cpu_used: int
    wall_used_msec: int
    mem_max_bytes: int


class DestroyedSession(TypedDict):
    """The response to a destroy request."""

    stats: Statistics


class ScratchSize(TypedDict):
    """The file system of a session: bytes and inodes."""

    size: int
    inodes: int


class ComingEnd(TypedDict):
    """The time at which a session ends by itself, and the reason."""

    at: str | None
    reason: str


class SessionRuns(TypedDict):
    """The runs of a session: the id of the running one, and numbers."""

    active: str | None
    queued: int
    begun: int


class GuaranteeNames(TypedDict):
    """The names of the guarantees of the host."""

    held: list[str]
    missing: list[str]


class SandboxFacts(TypedDict):
    """The sandbox of a session."""

    runtime: str
    limits: dict[str, float]
    scratch: ScratchSize
    mounts: list[Attachment]
    network: SessionNetwork | None
    workspace: WorkspaceFacts | None
    queue: QueuePlace | None
    ends: ComingEnd | None
    ttlSeconds: float
    runs: SessionRuns
    terminals: int
    guarantees: GuaranteeNames


class SessionFacts(TypedDict):
    """A session. Several values are JSON texts, as clients read them."""

    sessionId: str
    sessionName: str
    domainName: str
    groupId: str
    userId: str
    lang: str
    image: str
    architecture: str
    registry: str
    tag: str | None
    containerId: None
    occupiedSlots: str
    occupyingSlots: str
    requestedSlots: str
    occupiedShares: str
    environ: str
    resourceOpts: str
    status: str
    statusInfo: str | None
    statusData: None
    age: int
    creationTime: str
    terminationTime: None
    numQueriesExecuted: int
    memoryLimit: int
    lastStat: None
    idleChecks: None
    sandbox: SandboxFacts


async def info(request: Request) -> JsonResponse[SessionFacts]:
    """GET /session/{ref}: the description of a session."""
    await parameters(request, NoParameters)
    return JsonResponse(_described(session(request), state(request)))


def _described(session: Session, app: AppState) -> SessionFacts:
    config = app.config
    row = session.row
    limits = asdict(config.limits.exec) | row.limits
    slots = json.dumps({"cpu": str(limits["cpus"]), "mem": str(limits["memory"])})
    registry, _, _ = row.image.rpartition("/")
    return {
        "sessionId": row.id,
        "sessionName": row.name,
        "domainName": "default",
        "groupId": "default",
        "userId": row.owner,
        "lang": row.image,
        "image": row.image,
        "architecture": platform.machine(),
        "registry": registry,
        "tag": row.tag or None,
        "containerId": None,
        "occupiedSlots": slots,
        "occupyingSlots": slots,
        "requestedSlots": slots,
        "occupiedShares": "{}",
        "environ": json.dumps(row.environ),
        "resourceOpts": json.dumps({"shmem": limits["shm"]}),
        "status": row.status,
        "statusInfo": row.status_info or None,
        "statusData": None,
        "age": int((time.time() - row.created_at) * 1000),
        "creationTime": datetime.fromtimestamp(row.created_at, UTC).isoformat(),
        "terminationTime": None,
        "numQueriesExecuted": session.requests,
        "memoryLimit": limits["memory"] // 1024,
        "lastStat": None,
        "idleChecks": None,
        "sandbox": _sandbox_facts(session, app, limits),
    }


def _sandbox_facts(session: Session, app: AppState, limits: dict[str, Any]) -> SandboxFacts:
    config, row, active = app.config, session.row, session.runs.active
    scratch = limit_values.scratch_size(limits["disk"], config.scratch.size)
    end = session.due_end(time.time())
    return {
        "runtime": row.runtime,
        "limits": limits,
        "scratch": {
            "size": scratch,
            "inodes": config.scratch.inodes_of(scratch),
        },
        "mounts": list(row.mounts),
        "network": described(row.network, config.network),
        "workspace": workspace_facts.facts(row, app.sessions.of(None)),
        "queue": session.place,
        "ends": {"at": iso(end.at), "reason": end.reason} if end else None,
        "ttlSeconds": row.ttl_s,
        "runs": {
            "active": active.id if active else None,
            "queued": session.runs.queued,
            "begun": row.runs,
        },
        "terminals": len(session.terminals),
        "guarantees": {
            "held": [one.name for one in app.guarantees if one.held],
            "missing": [one.name for one in app.guarantees if not one.held],
        },
    }


async def match(request: Request) -> JsonResponse[Matches]:
    """GET /session/_/match?id=PREFIX: the owner's sessions by the begin of a UUID or name."""
    prefix = (await parameters(request, MatchSessions)).id
    if not prefix:
        raise Invalid.of({"id": "the beginning of a UUID or name"})
    rows = [one.row for one in state(request).sessions.of(owner(request))]
    rows = [row for row in rows if row.id.startswith(prefix) or row.name.startswith(prefix)]
    matches: list[MatchingSession] = [
        {"id": row.id, "name": row.name, "status": row.status} for row in rows
    ]
    return JsonResponse({"matches": matches})


async def destroy(request: Request) -> JsonResponse[DestroyedSession]:
    """DELETE /session/{ref}: end all runs of the session, and remove its files."""
    await parameters(request, DestroySession)
    target = session(request)
    del request.scope["state"]["target"]  # an error of the end itself is no missing session
    row = await state(request).sessions.destroy(target)
    return JsonResponse({"stats": _stats(row)})


def _stats(row: SessionRow) -> Statistics:
    """The usage of the session's runs in the form that clients read: version 1, in which all
    values except the status are whole numbers."""
    return {
        "version": 1,
        "status": "terminated",
        "runs": row.usage.get("runs", 0),
        "cpu_used": row.usage.get("cpu_ms", 0),
        "wall_used_msec": row.usage.get("wall_ms", 0),
        "mem_max_bytes": row.usage.get("mem_peak", 0),
    }


class Interrupt(ParameterSet):
    """The parameters of an interrupt. `terminate`: the run shall end with the running step."""

    terminate: bool = False


async def interrupt(request: Request) -> Response:
    """POST /session/{ref}/interrupt: SIGINT to the running step, if there is one. With `terminate`
    the run gets SIGTERM, its grace, and SIGKILL."""
    wanted = await parameters(request, Interrupt)
    await session(request).runs.interrupt(wanted.terminate)
    return Response(status_code=204)
