"""The files of a virtual folder: list, make directories, rename, move, remove.

Names are relative to the folder; "/" before one means the same. The rules for them are those of
/home/work (files/paths.py), as the folder's helper sees the folder there.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..model import HOME
from . import files
from .answers import Answer
from .bodies import parameters
from .folders import folder
from .helper import Helper, path


class Listing(msgspec.Struct):
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


class Move(msgspec.Struct):
    """The body of a request to move a file."""

    src: str
    dst: str


class Remove(msgspec.Struct):
    """The body of a request to remove files."""

    files: list[str]
    recursive: bool = False


def within(name: str, where: str) -> str:
    """A client's name as one relative to the folder. Raises Invalid naming `where`."""
    return path(name.lstrip("/") or ".", where)


async def _done(request: Request, question: dict[str, Any], status: int) -> Response:
    async with Helper(folder(request)) as helper:
        await helper.ask(question)
    return Answer({}, status)


async def listing(request: Request) -> Response:
    """GET or POST /folders/{name}/files: a directory, as JSON text within JSON."""
    asked = await parameters(request, Listing)
    question = {"op": "list", "path": within(asked.path, "path")}
    helper, answer = await files.opened(folder(request), question)
    inside = str(answer.get("path", HOME)).removeprefix(HOME) or "/"
    content = files.listed(helper, asked.path, inside)
    return files.HelperResponse(helper, content, {"content-type": "application/json"})


async def mkdir(request: Request) -> Response:
    """POST /folders/{name}/mkdir: new directories."""
    body = await parameters(request, MakeDirectories)
    names = [body.path] if isinstance(body.path, str) else body.path
    paths = [within(name, "path") for name in names]
    question = {"op": "mkdir", "paths": paths, "parents": body.parents, "exist_ok": body.exist_ok}
    return await _done(request, question, 201)


async def rename_file(request: Request) -> Response:
    """POST /folders/{name}/rename-file: another name in the same directory."""
    body = await parameters(request, RenameFile)
    source = within(body.target_path, "target_path")
    question = {"op": "rename", "path": source, "name": path(body.new_name, "new_name")}
    return await _done(request, question, 201)


async def move_file(request: Request) -> Response:
    """POST /folders/{name}/move-file: to another name, or into a directory."""
    body = await parameters(request, Move)
    question = {"op": "move", "path": within(body.src, "src"), "to": within(body.dst, "dst")}
    return await _done(request, question, 201)


async def delete_files(request: Request) -> Response:
    """DELETE or POST /folders/{name}/delete-files: all of the files, or none."""
    body = await parameters(request, Remove)
    paths = [within(name, "files") for name in body.files]
    question = {"op": "remove", "paths": paths, "recursive": body.recursive}
    return await _done(request, question, 200)
