"""The files of a virtual folder: list, make directories, rename, move, remove.

Names are relative to the folder; "/" before one means the same. The rules for them are those of
/home/work (files/paths.py), as the folder's helper sees the folder there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...model import HOME
from ..access.parameters import parameters
from ..folders.registry import Folder
from ..http.responses import JsonResponse
from ..sessions.file_client import FileClient, path
from . import files
from .folders import folder


class ListFolderFiles(msgspec.Struct):
    """Parameters of a listing."""

    path: str = "."


class MakeDirectories(msgspec.Struct):
    """The body of a mkdir request."""

    path: str | list[str]
    parents: bool = False
    exist_ok: bool = False


class RenameFile(msgspec.Struct):
    """The body of a request to rename a file."""

    target_path: str
    new_name: str


class MoveFile(msgspec.Struct):
    """The body of a request to move a file."""

    src: str
    dst: str


class RemoveFiles(msgspec.Struct):
    """The body of a request to remove files."""

    files: list[str]
    recursive: bool = False


def within(name: str, where: str) -> str:
    """A client's name as one relative to the folder. Raises Invalid naming `where`."""
    return path(name.lstrip("/") or ".", where)


async def _done(
    request: Request, question: dict[str, Any], status: int, told: Any = None
) -> Response:
    async with FileClient(folder(request)) as helper:
        await helper.ask(question)
    return JsonResponse(told or {}, status)


async def listing(request: Request) -> Response:
    """GET or POST /folders/{name}/files: a directory, in the two forms that clients read."""
    asked = await parameters(request, ListFolderFiles)
    found, question = folder(request), {"op": "list", "path": within(asked.path, "path")}
    helper, answer = await files.opened(found, question | {"form": "items"})
    inside = str(answer.get("path", HOME)).removeprefix(HOME) or "/"
    content = _twice(found, helper, question, asked.path, inside)
    return files.HelperResponse(helper, content, {"content-type": "application/json"})


async def _twice(
    found: Folder, helper: FileClient, question: dict[str, Any], asked: str, inside: str
) -> AsyncIterator[bytes]:
    """A list of objects for clients of 24.03 and later, a JSON text for those before. Read
    twice, so that a directory of any size takes no memory."""
    yield b'{"items":'
    async for packet in helper.data():
        if isinstance(packet, bytes):
            yield packet
    helper.close()  # one may be all that this folder has room for
    async with FileClient(found) as again:
        await again.ask(question)
        async for piece in files.listed(again, asked, inside, before=b","):
            yield piece


async def mkdir(request: Request) -> Response:
    """POST /folders/{name}/mkdir: new directories."""
    body = await parameters(request, MakeDirectories)
    names = [body.path] if isinstance(body.path, str) else body.path
    paths = [within(name, "path") for name in names]
    question = {"op": "mkdir", "paths": paths, "parents": body.parents, "exist_ok": body.exist_ok}
    made = [{"item": name, "msg": None} for name in names]
    return await _done(request, question, 201, {"results": {"success": made, "failed": []}})


async def rename(request: Request) -> Response:
    """POST /folders/{name}/rename-file: another name in the same directory."""
    body = await parameters(request, RenameFile)
    source = within(body.target_path, "target_path")
    question = {"op": "rename", "path": source, "name": path(body.new_name, "new_name")}
    return await _done(request, question, 201)


async def move(request: Request) -> Response:
    """POST /folders/{name}/move-file: to another name, or into a directory."""
    body = await parameters(request, MoveFile)
    question = {"op": "move", "path": within(body.src, "src"), "to": within(body.dst, "dst")}
    return await _done(request, question, 201)


async def remove(request: Request) -> Response:
    """DELETE or POST /folders/{name}/delete-files: all of the files, or none."""
    body = await parameters(request, RemoveFiles)
    paths = [within(name, "files") for name in body.files]
    question = {"op": "remove", "paths": paths, "recursive": body.recursive}
    return await _done(request, question, 200)
