"""Sessions: get or create, look at, list by prefix, destroy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import platform
import re
import secrets
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...errors import Invalid
from ...store.sessions import SessionRow
from ..access.ownership import maker, owner
from ..access.parameters import fold, parameters, typed
from ..folders.attachments import attachments
from ..http.responses import JsonResponse
from ..sessions import lifecycle, sizes
from ..sessions.registry import new_id
from ..sessions.session import Session
from ..state import AppState, session, state
from ..telemetry.audit_log import annotate
from .gql_items import iso

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{2,62}[A-Za-z0-9_]", re.ASCII)
_RESERVED = ("from-template",)
TEXT_MAX = 512
"""Characters of an image or a tag."""


class SessionSettings(msgspec.Struct):
    """`config` of a create request."""

    environ: dict[str, Any] = {}
    resources: dict[str, Any] = {}
    resource_opts: dict[str, Any] = {}
    mounts: list[Any] = []
    mount_ids: list[Any] = []
    mount_map: dict[str, Any] = {}
    mount_id_map: dict[str, Any] = {}
    mount_options: dict[str, Any] = {}
    preopen_ports: list[Any] = []
    agent_list: list[Any] = []
    attach_network: str = ""


class CreateSession(msgspec.Struct, rename={"reuse": "reuseIfExists"}):
    """The body of a create request."""

    image: str
    name: str = ""
    config: dict[str, Any] = {}
    reuse: bool = True
    type: str = "interactive"
    cluster_size: int = 1
    startup_command: str = ""
    bootstrap_script: str = ""
    starts_at: str = ""
    callback_url: str = ""
    dependencies: list[Any] = []
    architecture: str = ""
    tag: str = ""
    max_wait: float = 0
    enqueue_only: bool = False


_ALIASES = {
    "session_name": "name", "clientSessionToken": "name", "lang": "image", "sessionType": "type",
    "clusterSize": "cluster_size", "arch": "architecture", "startupCommand": "startup_command",
    "bootstrapScript": "bootstrap_script", "startsAt": "starts_at", "callbackUrl": "callback_url",
    "callbackURL": "callback_url", "maxWaitSeconds": "max_wait", "enqueueOnly": "enqueue_only",
}  # fmt: skip
_CONFIG_ALIASES = {
    "mountMap": "mount_map", "resourceOpts": "resource_opts", "preopenPorts": "preopen_ports",
    "agentList": "agent_list",
}  # fmt: skip

_ANY_ARCHITECTURE = ("", "x86_64")
"""What clients send for whoever has asked for none."""

# asked for and not given would be worse than refused: the program would miss it later
_NOT_OFFERED = ("starts_at", "callback_url", "dependencies")
_CONFIG_NOT_OFFERED = (
    "preopen_ports", "agent_list", "attach_network",
)  # fmt: skip


async def create(request: Request) -> Response:
    """POST /session: the session of that name, made if there is none."""
    body = await parameters(request, CreateSession, _ALIASES)
    settings = typed(fold(body.config, _CONFIG_ALIASES), SessionSettings, "config")
    _check_offered(body, settings)
    here = state(request)
    runtime = here.runtimes.resolve(_printable(body.image, "image"))
    asked = _resources(settings)
    limits, lowered = sizes.granted(asked, here.config.ceiling)
    wanted = SessionRow(
        id=new_id(),
        name=valid_name(body.name or f"session-{secrets.token_hex(6)}"),
        owner=(who := await maker(request)),
        image=body.image,
        runtime=runtime.name,
        created_at=time.time(),
        limits=limits,
        environ=sizes.variables(settings.environ, "config.environ"),
        type=body.type,
        tag=_printable(body.tag, "tag"),
        startup_command=sizes.stored(body.startup_command, "startupCommand"),
        bootstrap_script=sizes.stored(body.bootstrap_script, "bootstrap_script"),
        mounts=attachments(
            [*settings.mounts, *settings.mount_ids],
            settings.mount_map | settings.mount_id_map,
            settings.mount_options,
            lambda ref: here.folders.find(who, ref).row,
        ),
    )
    annotate(request, name=wanted.name, runtime=runtime.name)
    first = lifecycle.own_runs(wanted, runtime, here.config)
    may_wait = body.enqueue_only or body.max_wait > 0
    found, created = await here.sessions.get_or_create(
        wanted, first, body.reuse, body.max_wait, may_wait
    )
    pending = found.pending
    if created and pending and not body.enqueue_only:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(body.max_wait, here.config.sessions.wait_s)):
                await pending.over.wait()
    annotate(request, session=found.row.id, created=created)
    if created and lowered:
        names = ", ".join(lowered)
        found.runs.notice = f"{names} of this session: lowered to what this server allows"
    answer = {
        "sessionId": found.row.id,
        "sessionName": found.row.name,
        "status": _told_status(found, body),
        "created": created,
        "servicePorts": [],
    }
    if waits := found.waits:
        answer["queue"] = asdict(waits)
    if created and lowered:
        answer["clamped"] = lowered
    return JsonResponse(answer, 201 if created else 200)


def _told_status(found: Session, body: CreateSession) -> str:
    """What clients make something of: they stop at PENDING, and at TIMEOUT, which is the same for
    one that has waited."""
    waited = found.row.status == "PENDING" and body.max_wait > 0 and not body.enqueue_only
    return "TIMEOUT" if waited else found.row.status


def _check_offered(body: CreateSession, settings: SessionSettings) -> None:
    """Raises Invalid for what a client asks for and would not get."""
    if body.type == "batch" and not body.startup_command:
        raise Invalid("Batch sessions must have a non-empty startup command.")
    if body.type not in ("interactive", "batch"):
        raise Invalid("This server offers sessions of the types interactive and batch.")
    if body.type != "batch" and body.startup_command:
        raise Invalid("A startup command needs a session of the type batch.")
    if body.cluster_size != 1:
        raise Invalid("This server runs on one host: clusterSize must be 1.")
    if body.architecture not in (*_ANY_ARCHITECTURE, platform.machine()):
        raise Invalid(f"This server runs programs of {platform.machine()} only.")
    given = [name for name in _NOT_OFFERED if getattr(body, name)]
    given += [f"config.{name}" for name in _CONFIG_NOT_OFFERED if getattr(settings, name)]
    if given:
        data = dict.fromkeys(given, "must be absent, null or empty")
        raise Invalid(f"This server does not offer {', '.join(given)}.", data)


def _printable(text: str, where: str) -> str:
    """`text`, if it can be kept: it is told again in the session's description."""
    if len(text) > TEXT_MAX or not text.isprintable():
        data = {where: f"at most {TEXT_MAX} printable characters are expected"}
        raise Invalid("Input validation error", data)
    return text


def valid_name(name: str) -> str:
    """`name`, if a session can be called so. Raises Invalid."""
    if not _NAME.fullmatch(name) or name in _RESERVED:
        allowed = "4 to 64 ASCII letters, digits, _ . or -, the first and last no . or -"
        raise Invalid("Input validation error", {"name": allowed})
    return name


def _resources(settings: SessionSettings) -> dict[str, Any]:
    """The fields of model.Limits that the client asks for."""
    asked: dict[str, Any] = {}
    for name, value in settings.resources.items():
        field = sizes.RESOURCES.get(name)
        if field and value is not None:
            asked[field] = sizes.amount(field, value, f"config.resources.{name}")
        elif not field and value not in (None, 0, "0", ""):
            data = {f"config.resources.{name}": "this host offers cpu and mem"}
            raise Invalid("Input validation error", data)
    for name, field in sizes.RESOURCE_OPTS.items():
        if (value := settings.resource_opts.get(name)) is not None:
            asked[field] = sizes.amount(field, value, f"config.resource_opts.{name}")
    if asked.get("disk", sizes.SCRATCH_STEP) < sizes.SCRATCH_STEP:
        data = {"config.resource_opts.disk": f"at least {sizes.SCRATCH_STEP} bytes are needed"}
        raise Invalid("Input validation error", data)
    return asked


async def info(request: Request) -> Response:
    """GET /session/{ref}: what is known about a session."""
    return JsonResponse(_described(session(request), state(request)))


def _described(session: Session, here: AppState) -> dict[str, Any]:
    config = here.config
    row = session.row
    limits = asdict(config.limits.exec) | row.limits
    slots = json.dumps({"cpu": str(limits["cpus"]), "mem": str(limits["memory"])})
    registry, _, _ = row.image.rpartition("/")
    active = session.runs.active
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
                "size": sizes.scratch_size(limits["disk"], config.scratch.size),
                "inodes": config.scratch.inodes,
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
    """GET /session/_/match?id=PREFIX: the owner's sessions whose UUID or name begins so."""
    prefix = request.query_params.get("id", "")
    if not prefix:
        raise Invalid("Input validation error", {"id": "the beginning of a UUID or name"})
    rows = [found.row for found in state(request).sessions.of(owner(request))]
    found = [row for row in rows if row.id.startswith(prefix) or row.name.startswith(prefix)]
    matches = [{"id": row.id, "name": row.name, "status": row.status} for row in found]
    return JsonResponse({"matches": matches})


async def destroy(request: Request) -> Response:
    """DELETE /session/{ref}: end everything of it; its files are gone with it."""
    row = await state(request).sessions.destroy(session(request))
    return JsonResponse({"stats": _stats(row)})


def _stats(row: SessionRow) -> dict[str, Any]:
    """What the session's runs have used, as the clients format it: version 1, whose values are
    whole numbers but for the status."""
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
    await session(request).runs.interrupt()
    return Response(status_code=204)
