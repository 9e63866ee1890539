"""The routes of virtual folders: create, list, describe, rename, remove."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from ...errors import Invalid
from ...model import FOLDER_NAME, SCRATCH_MIN
from ...runs.plan import Clamp
from ...store.folders import FolderRow, Permission
from ..access.ownership import creator, owner
from ..access.parameters import NoParameters, ParameterSet, parameters
from ..folders import registry
from ..folders.registry import Folder
from ..http.responses import JsonResponse
from ..options import granted_limits, limit_values
from ..processes.file_client import FileClient
from ..state import state
from ..telemetry.audit_log import annotate

HOST = "local"
"""The host of all folders. Clients have to name one; every name means this host."""


_Name = Annotated[str, Meta(extra_json_schema={"pattern": f"^{FOLDER_NAME.pattern}$"})]


class CreateFolder(ParameterSet):
    """The body of a create request."""

    aliases = {
        "folder_host": "host", "vfolder_host": "host", "groupId": "group", "group_id": "group",
        "unmanagedPath": "unmanaged_path", "usageMode": "usage_mode",
    }  # fmt: skip

    name: _Name
    host: str = HOST
    group: str = ""
    unmanaged_path: str = ""
    usage_mode: Literal["general", "data", "model"] = "general"
    permission: Permission = "rw"
    quota: Annotated[Any, limit_values.SIZE] = "0"


class RenameFolder(ParameterSet):
    """The body of a rename request."""

    new_name: _Name


class FolderOptions(ParameterSet):
    """The options of a folder; None leaves an option as it is."""

    permission: Permission | None = None


class ListFolders(ParameterSet):
    """The parameters of a list: `group_id` is of clients that show the folders of a group."""

    group_id: str = ""


class FolderById(ParameterSet):
    """The body of a request for the folder with this UUID."""

    aliases = {"vfolderId": "id", "vfolder_id": "id"}

    id: str


class FolderByName(ParameterSet):
    """The parameters of a request for the UUID of a folder."""

    name: str


class FolderFacts(TypedDict):
    """A folder. `max_size` is in bytes."""

    id: str
    name: str
    host: str
    status: str
    usage_mode: str
    permission: Permission
    cloneable: bool
    max_size: int
    created_at: str
    is_owner: bool
    creator: str
    user: str
    user_email: str
    group: None
    group_name: None
    ownership_type: str
    type: str
    unmanaged_path: None


class CreatedFolder(FolderFacts, granted_limits.ClampFields):
    """A new folder."""


class FolderUse(FolderFacts):
    """A folder with its use; `sessions` are those that it is attached to."""

    numFiles: int
    used_bytes: int
    created: str
    sessions: list[str]


class FolderId(TypedDict):
    """The UUID of a folder."""

    id: str


class FolderHosts(TypedDict):
    """The hosts of folders; there is one."""

    default: str
    allowed: list[str]


def folder(request: Request) -> Folder:
    """The folder that the path names, of the owner whom the request acts for. Raises NotFound."""
    return _find(request, request.path_params["name"])


def _find(request: Request, ref: str) -> Folder:
    folder = state(request).folders.find(owner(request), ref)
    annotate(request, folder=folder.row.id, name=folder.row.name)
    request.scope["state"]["target"] = folder
    return folder


async def create(request: Request) -> JsonResponse[CreatedFolder]:
    """POST /folders: a new, empty folder."""
    body = await parameters(request, CreateFolder)
    if body.unmanaged_path or body.group:
        field = "unmanaged_path" if body.unmanaged_path else "group"
        raise Invalid.of({field: "this server has folders of users only"})
    size, lowered = _size(body.quota, state(request).config.folders.size)
    mode = body.usage_mode
    row = registry.new_row(
        body.name, await creator(request), size, body.permission, usage_mode=mode
    )
    annotate(request, name=row.name, bytes=row.size)
    row = (await state(request).folders.make(row)).row
    annotate(request, folder=row.id)
    return JsonResponse({**described(row), **granted_limits.clamp_fields(lowered)}, 201)


def _size(quota: Any, most: int) -> tuple[int, list[Clamp]]:
    """The size of a folder with this `quota` in bytes, and the clamp if it exceeds `most`."""
    if quota in (0, "0", ""):
        return most, []
    size = limit_values.size_of(quota, "quota")
    if size < SCRATCH_MIN:
        raise Invalid.of({"quota": f"at least {SCRATCH_MIN} bytes"})
    return min(size, most), [granted_limits.clamp("quota", size, most)] if size > most else []


def described(row: FolderRow) -> FolderFacts:
    """A folder as clients see it."""
    created = datetime.fromtimestamp(row.created_at, UTC).isoformat()
    return {
        "id": row.id,
        "name": row.name,
        "host": HOST,
        "status": "ready",
        "usage_mode": row.usage_mode,
        "permission": row.permission,
        "cloneable": row.cloneable,
        "max_size": row.size,
        "created_at": created,
        "is_owner": True,
        "creator": row.owner,
        "user": row.owner,
        "user_email": row.owner,
        "group": None,
        "group_name": None,
        "ownership_type": "user",
        "type": "user",
        "unmanaged_path": None,
    }


async def listing(request: Request) -> JsonResponse[list[FolderFacts]]:
    """GET /folders: the folders of the owner."""
    await parameters(request, ListFolders)
    return JsonResponse([described(one.row) for one in state(request).folders.of(owner(request))])


async def info(request: Request) -> JsonResponse[FolderUse]:
    """GET /folders/{name}: the description of a folder, with its use."""
    await parameters(request, NoParameters)
    target = folder(request)
    async with FileClient(target) as helper:
        used = await helper.ask({"op": "usage"})
    users = [session.row.name for session in state(request).sessions.using(target.row.id)]
    facts = described(target.row)
    return JsonResponse(
        {
            **facts,
            "numFiles": int(used["files"]),
            "used_bytes": int(used["used"]),
            "created": facts["created_at"],
            "sessions": users,
        }
    )


async def rename(request: Request) -> Response:
    """POST /folders/{name}/rename: another name; in sessions the folder stays at its place."""
    target = folder(request)
    name = registry.check_name((await parameters(request, RenameFolder)).new_name)
    annotate(request, to=name)
    await state(request).folders.change(target, name=name)
    return Response(status_code=201)


async def update_options(request: Request) -> Response:
    """POST /folders/{name}/update-options: the permission for new sessions."""
    options = await parameters(request, FolderOptions)
    if options.permission is not None:
        await state(request).folders.change(folder(request), permission=options.permission)
    else:
        folder(request)
    return Response(status_code=201)


async def remove(request: Request) -> Response:
    """DELETE /folders/{name}: remove the folder with its files."""
    await parameters(request, NoParameters)
    return await _remove(request, folder(request))


async def remove_by_id(request: Request) -> Response:
    """DELETE /folders: remove the folder that the parameters name."""
    body = await parameters(request, FolderById)
    request.scope["state"]["ref"] = body.id
    return await _remove(request, _find(request, body.id))


async def _remove(request: Request, target: Folder) -> Response:
    del request.scope["state"]["target"]  # an error of the removal itself is no missing folder
    await state(request).folders.remove(target)
    state(request).tokens.forget(target.row.id)
    return Response(status_code=204)


async def id_of(request: Request) -> JsonResponse[FolderId]:
    """GET /folders/_/id: the UUID of the folder with this name."""
    name = (await parameters(request, FolderByName)).name
    return JsonResponse({"id": state(request).folders.find(owner(request), name).row.id})


async def hosts(request: Request) -> JsonResponse[FolderHosts]:
    """GET /folders/_/hosts: the places for folders."""
    await parameters(request, NoParameters)
    return JsonResponse({"default": HOST, "allowed": [HOST]})


async def allowed_types(request: Request) -> JsonResponse[list[str]]:
    """GET /folders/_/allowed_types: the kinds of owners of folders."""
    await parameters(request, NoParameters)
    return JsonResponse(["user"])
