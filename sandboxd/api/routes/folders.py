"""Virtual folders: create, list, look at, rename, remove."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...errors import Invalid
from ...model import MIB
from ...store.folders import FolderRow, Permission
from ..access.ownership import creator, owner
from ..access.parameters import parameters
from ..folders import registry
from ..folders.registry import Folder
from ..http.responses import JsonResponse
from ..sessions import sizes
from ..sessions.file_client import FileClient
from ..state import state
from ..telemetry.audit_log import annotate

HOST = "local"
"""Where all folders are. Clients have to name a host, and whatever they name is this one."""

SIZE_MIN = 16 * MIB
"""Bytes of a folder at least: below that the file system itself would take most of it."""


class CreateFolder(msgspec.Struct):
    """The body of a create request."""

    name: str
    host: str = HOST
    group: str = ""
    unmanaged_path: str = ""
    usage_mode: Literal["general", "data", "model"] = "general"
    permission: Permission = "rw"
    quota: Any = "0"
    cloneable: bool = False


_ALIASES = {
    "folder_host": "host", "vfolder_host": "host", "groupId": "group", "group_id": "group",
    "unmanagedPath": "unmanaged_path", "usageMode": "usage_mode",
}  # fmt: skip


class RenameFolder(msgspec.Struct):
    """The body of a rename request."""

    new_name: str


class FolderOptions(msgspec.Struct):
    """What can be changed of a folder; None stays as it is."""

    permission: Permission | None = None
    cloneable: bool | None = None


class FolderById(msgspec.Struct):
    """The body of a request that names a folder there."""

    id: str


class FolderByName(msgspec.Struct):
    """The parameters of a question for a folder's UUID."""

    name: str


def folder(request: Request) -> Folder:
    """The folder that the path names, among those of who asks. Raises NotFound."""
    return _noted(request, state(request).folders.find(owner(request), request.path_params["name"]))


def _noted(request: Request, found: Folder) -> Folder:
    annotate(request, folder=found.row.id, name=found.row.name)
    return found


async def create(request: Request) -> Response:
    """POST /folders: a new, empty folder."""
    body = await parameters(request, CreateFolder, _ALIASES)
    if body.unmanaged_path or body.group:
        given = "unmanaged_path" if body.unmanaged_path else "group"
        raise Invalid("Input validation error", {given: "this server has folders of users only"})
    size, clamped = _size(body.quota, state(request).config.folders.size)
    rest = {"usage_mode": body.usage_mode, "cloneable": body.cloneable}
    row = registry.new_row(body.name, await creator(request), size, body.permission, **rest)
    annotate(request, name=row.name, bytes=row.size)
    made = _noted(request, await state(request).folders.make(row))
    answer = described(made.row)
    if clamped:
        answer["clamped"] = ["quota"]
    return JsonResponse(answer, 201)


def _size(quota: Any, most: int) -> tuple[int, bool]:
    """Bytes of a folder with this `quota`, and whether it had to be lowered to `most`."""
    if quota in (0, "0", ""):
        return most, False
    size = sizes.size_of(quota, "quota")
    if size < SIZE_MIN:
        raise Invalid("Input validation error", {"quota": f"at least {SIZE_MIN} bytes"})
    return min(size, most), size > most


def described(row: FolderRow) -> dict[str, Any]:
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


async def listing(request: Request) -> Response:
    """GET /folders: the folders of who asks."""
    return JsonResponse([described(one.row) for one in state(request).folders.of(owner(request))])


async def info(request: Request) -> Response:
    """GET /folders/{name}: a folder, with what is in use of it."""
    found = folder(request)
    async with FileClient(found) as helper:
        used = await helper.ask({"op": "usage"})
    room = {"numFiles": used.get("files"), "used_bytes": used.get("used")}
    users = [session.row.name for session in state(request).sessions.using(found.row.id)]
    answer = described(found.row) | room
    return JsonResponse(answer | {"created": answer["created_at"], "sessions": users})


async def rename(request: Request) -> Response:
    """POST /folders/{name}/rename: another name; sessions that have it keep their place of it."""
    found = folder(request)
    name = registry.check_name((await parameters(request, RenameFolder)).new_name)
    annotate(request, to=name)
    await state(request).folders.change(found, name=name)
    return Response(status_code=201)


async def update_options(request: Request) -> Response:
    """POST /folders/{name}/update-options: what new sessions may do in it."""
    found, options = folder(request), await parameters(request, FolderOptions)
    given = {
        key: value for key, value in msgspec.structs.asdict(options).items() if value is not None
    }
    await state(request).folders.change(found, **given)
    return Response(status_code=201)


async def remove(request: Request) -> Response:
    """DELETE /folders/{name}: the folder and all that is in it."""
    return await _remove(request, folder(request))


async def remove_by_id(request: Request) -> Response:
    """DELETE /folders: as `remove`, the body names it."""
    body = await parameters(request, FolderById, {"vfolderId": "id", "vfolder_id": "id"})
    request.scope["state"]["ref"] = body.id
    found = _noted(request, state(request).folders.find(owner(request), body.id))
    return await _remove(request, found)


async def _remove(request: Request, found: Folder) -> Response:
    await state(request).folders.remove(found)
    state(request).tokens.forget(found.row.id)
    return Response(status_code=204)


async def id_of(request: Request) -> Response:
    """GET /folders/_/id: the UUID of the folder of this name."""
    asked = await parameters(request, FolderByName)
    found = state(request).folders.find(owner(request), asked.name)
    return JsonResponse({"id": found.row.id})


async def hosts(_: Request) -> Response:
    """GET /folders/_/hosts: where folders can be."""
    return JsonResponse({"default": HOST, "allowed": [HOST]})


async def allowed_types(_: Request) -> Response:
    """GET /folders/_/allowed_types: whose folders there are."""
    return JsonResponse(["user"])
