"""The route that creates a session: POST /session.

A client names an image, of which the runtime follows. Requests for things that this server does
not offer are refused, since a program would miss them later.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, NotRequired

from msgspec import Meta
from starlette.requests import Request

from ...errors import Exists, Invalid, StageError, Unavailable
from ...model import Workspace
from ...runs.plan import Clamp
from ...store.sessions import SessionRow
from ..access.ownership import creator
from ..access.parameters import ObjectKeys, ParameterSet, inner, parameters
from ..access.unix_caller import unix_connection
from ..access.unserved import is_empty
from ..admission.admission import QueuePlace
from ..folders.attachments import attachments, name_in_home
from ..http.responses import JsonResponse
from ..options import granted_limits, limit_values, requested_limits, texts, variables
from ..sessions import lifecycle, workspace_facts
from ..sessions.registry import new_id
from ..sessions.session import Session
from ..sessions.session_network import SessionNetwork, described, granted
from ..state import AppState, state
from ..telemetry.audit_log import annotate

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{2,62}[A-Za-z0-9_]", re.ASCII)
_RESERVED = ("from-template",)
_NAME_OR_NONE = Meta(extra_json_schema={"pattern": f"^(?:{_NAME.pattern})?$"})
NAME = Meta(extra_json_schema={"pattern": f"^{_NAME.pattern}$"})
TEXT_MAX = 512
"""Characters of an image or a tag."""


class SessionSettings(ParameterSet):
    """`config` of a create request."""

    aliases = {
        "mountMap": "mount_map", "resourceOpts": "resource_opts", "preopenPorts": "preopen_ports",
        "agentList": "agent_list", "workspacePlace": "workspace_place",
    }  # fmt: skip

    environ: variables.Variables = {}
    resources: Annotated[dict[str, Any], limit_values.schema(limit_values.RESOURCES)] = {}
    resource_opts: Annotated[dict[str, Any], limit_values.schema(limit_values.RESOURCE_OPTS)] = {}
    mounts: list[Any] = []
    mount_ids: list[Any] = []
    mount_map: dict[str, Any] = {}
    mount_id_map: dict[str, Any] = {}
    mount_options: dict[str, Any] = {}
    workspace: str = ""
    workspace_place: str = ""
    preopen_ports: Any = None
    agent_list: Any = None
    attach_network: Any = None
    network: str | dict[str, Any] = ""


class CreateSession(ParameterSet, rename={"reuse": "reuseIfExists"}):
    """The body of a create request."""

    aliases = {
        "session_name": "name", "clientSessionToken": "name", "lang": "image",
        "sessionType": "type", "clusterSize": "cluster_size", "arch": "architecture",
        "startupCommand": "startup_command", "bootstrapScript": "bootstrap_script",
        "startsAt": "starts_at", "callbackUrl": "callback_url", "callbackURL": "callback_url",
        "maxWaitSeconds": "max_wait", "enqueueOnly": "enqueue_only", "idleSeconds": "idle",
        "ttlSeconds": "ttl",
    }  # fmt: skip
    documented = {
        "cluster_size": "clusterSize", "startup_command": "startupCommand",
        "max_wait": "maxWaitSeconds", "enqueue_only": "enqueueOnly", "idle": "idleSeconds",
        "ttl": "ttlSeconds",
    }  # fmt: skip

    image: Annotated[str, Meta(max_length=TEXT_MAX)]
    name: Annotated[str, _NAME_OR_NONE] = ""
    config: Annotated[dict[str, Any], ObjectKeys(SessionSettings)] = {}
    reuse: bool = True
    type: str = "interactive"
    cluster_size: int = 1
    startup_command: str = ""
    bootstrap_script: str = ""
    starts_at: Any = None
    callback_url: Any = None
    dependencies: Any = None
    architecture: str = ""
    tag: Annotated[str, Meta(max_length=TEXT_MAX)] = ""
    max_wait: Annotated[float, Meta(ge=0)] = 0
    enqueue_only: bool = False
    idle: Annotated[float, Meta(ge=0, le=lifecycle.LIFE_MAX_S)] = 0
    ttl: Annotated[float, Meta(ge=0, le=lifecycle.LIFE_MAX_S)] = 0


class CreatedSession(granted_limits.ClampFields):
    """The session. `queue` is there while it waits, `network` if its runs may reach hosts."""

    sessionId: str
    sessionName: str
    status: str
    created: bool
    servicePorts: list[Any]
    queue: NotRequired[QueuePlace]
    network: NotRequired[SessionNetwork]


_ANY_ARCHITECTURE = ("", "x86_64")
"""The values of clients whose user has chosen none."""

_NOT_OFFERED = ("starts_at", "callback_url", "dependencies")
_CONFIG_NOT_OFFERED = (
    "preopen_ports", "agent_list", "attach_network",
)  # fmt: skip


async def create(request: Request) -> JsonResponse[CreatedSession]:
    """POST /session: the session with that name, created if there is none."""
    body = await parameters(request, CreateSession)
    settings = inner(body, "config", SessionSettings)
    _check_offered(body, settings)
    app = state(request)
    runtime = app.runtimes.resolve(printable(body.image, "image"))
    config = app.config
    limits, lowered = granted_limits.session_limits(
        _resources(settings), config.limits.exec, config.ceiling, config.run_files
    )
    app.sessions.admission.check_pids(limits.get("pids", 0), "config.resource_opts.pids")
    row = _row(app, await creator(request), body, settings)
    row = replace(row, runtime=runtime.name, limits=limits)
    row = replace(row, workspace=await _workspace(request, settings, row))
    annotate(request, name=row.name, runtime=runtime.name)
    if row.network:
        annotate(request, network=row.network.profile)
    own = lifecycle.own_runs(row, runtime, app.config)
    for _, plan in own:
        app.sessions.admission.check_plan(plan)
    may_wait = body.enqueue_only or body.max_wait > 0
    try:
        session, created = await app.sessions.get_or_create(
            row, own, body.reuse, body.max_wait, may_wait
        )
    except (StageError, Unavailable):
        for attachment in row.mounts:  # a folder may have been deleted meanwhile: NotFound
            app.folders.by_id(attachment.folder)
        raise
    _expect_same_workspace(session, row)
    if created and not body.enqueue_only:
        await _wait(session, min(body.max_wait, app.config.sessions.wait_s))
    annotate(request, session=session.row.id, created=created)
    if not created:
        lowered = []
    if created:
        session.runs.add_notice("; ".join(_notices(app, session, lowered)))
    answer = _answer(session, body, created, lowered)
    if network := described(session.row.network, config.network):
        answer["network"] = network
    return JsonResponse(answer, 201 if created else 200)


def _row(app: AppState, owner: str, body: CreateSession, settings: SessionSettings) -> SessionRow:
    """The row of the requested session, without its runtime and limits."""
    now = time.time()
    return SessionRow(
        id=new_id(),
        name=valid_name(body.name or f"session-{secrets.token_hex(6)}"),
        owner=owner,
        image=body.image,
        runtime="",
        created_at=now,
        environ=variables.checked(settings.environ, "config.environ"),
        type=body.type,
        tag=printable(body.tag, "tag"),
        idle_s=body.idle,
        ttl_s=body.ttl,
        renewed_at=now,
        startup_command=texts.stored(body.startup_command, "startupCommand"),
        network=granted(settings.network, owner, app.config.network),
        bootstrap_script=texts.stored(body.bootstrap_script, "bootstrap_script"),
        mounts=attachments(
            [*settings.mounts, *settings.mount_ids],
            settings.mount_map | settings.mount_id_map,
            settings.mount_options,
            lambda ref: app.folders.find(owner, ref).row,
        ),
    )


async def _workspace(
    request: Request, settings: SessionSettings, row: SessionRow
) -> Workspace | None:
    """The workspace of the new session `row`. Raises Forbidden, Invalid."""
    if not settings.workspace:
        if settings.workspace_place:
            raise Invalid.of({"config.workspace_place": "only with config.workspace"})
        return None
    connection = unix_connection(request.scope, "a workspace")
    path, place = workspace_facts.host_path(settings.workspace), ""
    if settings.workspace_place:
        place = name_in_home(settings.workspace_place, "workspace_place")
        workspace_facts.check_place(place, row.mounts)
    warden = state(request).sessions.services.warden
    granted = await warden.grant(row.id, path, place, connection)
    annotate(request, workspace=path, uid=granted.uid)
    return granted


def _expect_same_workspace(session: Session, wanted: SessionRow) -> None:
    """Raise Exists when a session that is used again has another workspace."""
    facts = [one and (one.path, one.place, one.uid, one.gid) for one in
             (session.row.workspace, wanted.workspace)]  # fmt: skip
    if facts[0] != facts[1]:
        data = {"existingSessionId": session.row.id}
        raise Exists(f"A session named {wanted.name} exists: with another workspace.", data)


def _notices(app: AppState, session: Session, lowered: list[Clamp]) -> Iterator[str]:
    """Remarks for the first run of a new session."""
    if lowered:
        values = "; ".join(f"{clamp.name} was lowered {clamp.text}" for clamp in lowered)
        yield f"limits of this session: {values}"
    if session.row.workspace:
        every = app.sessions.of(None)
        if shared := workspace_facts.sharing(session.row.workspace, every, session.row.id):
            yield f"{shared} other session(s) use the files of this workspace at the same time"


async def _wait(session: Session, seconds: float) -> None:
    """Wait until a pending session has begun or ended."""
    if pending := session.pending:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await pending.over.wait()


def _answer(
    session: Session, body: CreateSession, created: bool, lowered: list[Clamp]
) -> CreatedSession:
    """The response as clients read it. They stop at the status PENDING; TIMEOUT is the status for
    a client that has waited in vain."""
    waited = session.row.status == "PENDING" and body.max_wait > 0 and not body.enqueue_only
    answer: CreatedSession = {
        "sessionId": session.row.id,
        "sessionName": session.row.name,
        "status": "TIMEOUT" if waited else session.row.status,
        "created": created,
        "servicePorts": [],
    }
    if place := session.place:
        answer["queue"] = place
    return {**answer, **granted_limits.clamp_fields(lowered)}


def _check_offered(body: CreateSession, settings: SessionSettings) -> None:
    """Raise Invalid for a request of something that this server does not offer."""
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
    fields = [name for name in _NOT_OFFERED if not is_empty(getattr(body, name))]
    of_config = [name for name in _CONFIG_NOT_OFFERED if not is_empty(getattr(settings, name))]
    fields += [f"config.{name}" for name in of_config]
    if fields:
        data = dict.fromkeys(fields, "must be absent, null or empty")
        raise Invalid(f"This server does not offer {', '.join(fields)}.", data)


def printable(text: str, where: str) -> str:
    """`text`, if it may be part of the description of a session. Raises Invalid."""
    if len(text) > TEXT_MAX or not text.isprintable():
        raise Invalid.of({where: f"at most {TEXT_MAX} printable characters are expected"})
    return text


def valid_name(name: str) -> str:
    """`name`, if it is one for a session. Raises Invalid."""
    if not _NAME.fullmatch(name) or name in _RESERVED:
        allowed = "4 to 64 ASCII letters, digits, _ . or -, the first and last no . or -"
        raise Invalid.of({"name": allowed})
    return name


def _resources(settings: SessionSettings) -> dict[str, Any]:
    """The fields of model.Limits that the client requests."""
    return requested_limits.fields(settings.resources, settings.resource_opts)
