"""The routes of the files of a virtual folder: list, make directories, rename, move, remove.

Names are relative to the folder, with or without a leading "/". Their rules are those of /home/work
(files/paths.py), since the folder is there in the view of its helper.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypedDict

from starlette.requests import Request

from ...model import HOME
from ..access.parameters import ParameterSet, parameters
from ..folders.registry import Folder
from ..http.responses import JsonResponse
from ..processes.file_client import FileClient, path
from . import files
from .folders import folder


class ListFolderFiles(ParameterSet):
    """Parameters of a listing."""

    path: str = "."


class MakeDirectories(ParameterSet):
    """The body of a mkdir request."""

    path: str | list[str]
    parents: bool = False
    exist_ok: bool = False


class RenameFile(ParameterSet):
    """The body of a request to rename a file."""

    target_path: str
    new_name: str
    is_dir: bool = False  # clients say so; the helper sees it


class MoveFile(ParameterSet):
    """The body of a request to move a file."""

    src: str
    dst: str


class RemoveFiles(ParameterSet):
    """The body of a request to remove files."""

    files: list[str]
    recursive: bool = False


class FolderItem(TypedDict):
    """An entry of a directory; the times in ISO 8601."""

    name: str
    type: str
    size: int
    mode: str
    created: str
    modified: str


class FolderListing(files.Listing):
    """A directory in two forms: `items` for clients of 24.03 and later, the rest for older ones."""

    items: list[FolderItem]


class NoResult(TypedDict):
    """An empty object."""


class CreatedDirectory(TypedDict):
    """A directory, as the client named it."""

    item: str
    msg: None


class CreatedDirectories(TypedDict):
    """The directories; none can fail alone."""

    success: list[CreatedDirectory]
    failed: list[CreatedDirectory]


class Directories(TypedDict):
    """The new directories."""

    results: CreatedDirectories


def within(name: str, where: str) -> str:
    """A client's name as one relative to the folder. Raises Invalid naming `where`."""
    return path(name.lstrip("/") or ".", where)


async def _change(request: Request, question: dict[str, Any]) -> None:
    """Have the helper do a change."""
    async with FileClient(folder(request)) as helper:
        await helper.ask(question)


async def listing(request: Request) -> files.HelperResponse:
    """GET or POST /folders/{name}/files: a directory, in the two forms that clients read."""
    name = (await parameters(request, ListFolderFiles)).path
    target, question = folder(request), {"op": "list", "path": within(name, "path")}
    helper, answer = await files.opened(request, target, question | {"form": "items"})
    inside = str(answer.get("path", HOME)).removeprefix(HOME) or "/"
    content = _twice(target, helper, question, name, inside)
    return files.HelperResponse(helper, content, {"content-type": "application/json"})


async def _twice(
    target: Folder, helper: FileClient, question: dict[str, Any], name: str, inside: str
) -> AsyncIterator[bytes]:
    """A list of objects for clients of 24.03 and later, and a JSON text for older clients. The
    directory is read twice, so that one of any size takes no memory."""
    yield b'{"items":'
    async for packet in helper.data():
        if isinstance(packet, bytes):
            yield packet
    helper.close()  # the folder may allow no second helper
    async with FileClient(target) as again:
        await again.ask(question)
        async for piece in files.listed(again, name, inside, before=b","):
            yield piece


async def mkdir(request: Request) -> JsonResponse[Directories]:
    """POST /folders/{name}/mkdir: new directories."""
    body = await parameters(request, MakeDirectories)
    names = [body.path] if isinstance(body.path, str) else body.path
    paths = [within(name, "path") for name in names]
    question = {"op": "mkdir", "paths": paths, "parents": body.parents, "exist_ok": body.exist_ok}
    await _change(request, question)
    success: list[CreatedDirectory] = [{"item": name, "msg": None} for name in names]
    return JsonResponse({"results": {"success": success, "failed": []}}, 201)


async def rename(request: Request) -> JsonResponse[NoResult]:
    """POST /folders/{name}/rename-file: another name in the same directory."""
    body = await parameters(request, RenameFile)
    source = within(body.target_path, "target_path")
    question = {"op": "rename", "path": source, "name": path(body.new_name, "new_name")}
    await _change(request, question)
    return JsonResponse({}, 201)


async def move(request: Request) -> JsonResponse[NoResult]:
    """POST /folders/{name}/move-file: to another name, or into a directory."""
    body = await parameters(request, MoveFile)
    question = {"op": "move", "path": within(body.src, "src"), "to": within(body.dst, "dst")}
    await _change(request, question)
    return JsonResponse({}, 201)


async def remove(request: Request) -> JsonResponse[NoResult]:
    """DELETE or POST /folders/{name}/delete-files: all of the files, or none."""
    body = await parameters(request, RemoveFiles)
    paths = [within(name, "files") for name in body.files]
    question = {"op": "remove", "paths": paths, "recursive": body.recursive}
    await _change(request, question)
    return JsonResponse({})
