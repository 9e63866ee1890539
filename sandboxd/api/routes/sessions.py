"""The routes of sessions: describe, list by prefix, destroy, interrupt. See create_session.py."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...errors import Invalid
from ...store.sessions import SessionRow
from ..access.ownership import owner
from ..access.parameters import NoParameters, parameters
from ..http.responses import JsonResponse
from ..sessions import lifecycle, sizes
from ..sessions.session import Session
from ..state import AppState, session, state
from .gql_items import iso


class MatchSessions(msgspec.Struct):
    """The parameters of a search: the beginning of a UUID or name."""

    id: str = ""


class DestroySession(msgspec.Struct):
    """The parameters of a destroy request. Each one is forced, and no session depends on another,
    so both values have the same effect."""

    forced: bool = False
    recursive: bool = False


async def info(request: Request) -> Response:
    """GET /session/{ref}: the description of a session."""
    await parameters(request, NoParameters)
    return JsonResponse(_described(session(request), state(request)))


def _described(session: Session, here: AppState) -> dict[str, Any]:
    config = here.config
    row = session.row
    limits = asdict(config.limits.exec) | row.limits
    slots = json.dumps({"cpu": str(limits["cpus"]), "mem": str(limits["memory"])})
    registry, _, _ = row.image.rpartition("/")
    active = session.runs.active
    scratch = sizes.scratch_size(limits["disk"], config.scratch.size)
    end = lifecycle.end(row, session.used_at, session.busy, config.sessions)
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
        "sandbox": {
            "runtime": row.runtime,
            "limits": limits,
            "scratch": {
                "size": scratch,
                "inodes": sizes.scratch_inodes(scratch, config.scratch.inodes),
            },
            "mounts": [asdict(mount) for mount in row.mounts],
            "queue": asdict(waits) if (waits := session.waits) else None,
            "ends": {"at": iso(end.at), "reason": end.reason} if end else None,
            "runs": {
                "active": active.id if active else None,
                "queued": session.runs.waiting,
                "begun": row.runs,
            },
            "terminals": len(session.terminals),
            "guarantees": {
                "held": [one.name for one in here.guarantees if one.held],
                "missing": [one.name for one in here.guarantees if not one.held],
            },
        },
    }


async def match(request: Request) -> Response:
    """GET /session/_/match?id=PREFIX: the owner's sessions by the begin of a UUID or name."""
    prefix = (await parameters(request, MatchSessions)).id
    if not prefix:
        raise Invalid("Input validation error", {"id": "the beginning of a UUID or name"})
    rows = [one.row for one in state(request).sessions.of(owner(request))]
    rows = [row for row in rows if row.id.startswith(prefix) or row.name.startswith(prefix)]
    matches = [{"id": row.id, "name": row.name, "status": row.status} for row in rows]
    return JsonResponse({"matches": matches})


async def destroy(request: Request) -> Response:
    """DELETE /session/{ref}: end all runs of the session, and remove its files."""
    await parameters(request, DestroySession)
    target = session(request)
    del request.scope["state"]["target"]  # an error of the end itself is no missing session
    row = await state(request).sessions.destroy(target)
    return JsonResponse({"stats": _stats(row)})


def _stats(row: SessionRow) -> dict[str, Any]:
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


async def interrupt(request: Request) -> Response:
    """POST /session/{ref}/interrupt: SIGINT to the running step, if there is one."""
    await parameters(request, NoParameters)
    await session(request).runs.interrupt()
    return Response(status_code=204)
