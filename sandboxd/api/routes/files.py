"""The routes of a session's files: upload, list, download. Bytes are passed on as they come.

A failure before the begin of a response becomes a status. A later failure breaks the connection
off, so that no client takes a cut response for a complete one.
"""

from __future__ import annotations

import codecs
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any, TypedDict
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ...config.settings import FilesConfig
from ...errors import Invalid, NotFound, SandboxdError
from ...model import HOME
from ..access.parameters import NoParameters, ParameterSet, parameters, query_parameters
from ..http.body_reader import BodyReader, FormReader
from ..http.delivery import attended
from ..http.multipart import FileStart
from ..http.route import OCTETS
from ..processes.file_client import FileClient, FilesOwner, path
from ..state import session, state
from ..telemetry.audit_log import annotate
from .apps import KEY_FILE, NO_SSH


class ListFiles(ParameterSet):
    """Parameters of a listing."""

    path: str = HOME


class DownloadFiles(ParameterSet):
    """Parameters of a download."""

    files: list[str] = []


class DownloadSingleFile(ParameterSet):
    """Parameters of the download of a single file."""

    file: str = ""


class Listing(TypedDict):
    """A directory. `files` is a JSON text: a list of mode, size, ctime, mtime, atime, filename and,
    for links, target."""

    files: str
    errors: str
    folder_path: str
    abspath: str


async def upload(request: Request) -> Response:
    """POST /session/{ref}/upload: put all files of a multipart body into place, or none."""
    query_parameters(request, NoParameters)
    target, limits = session(request), state(request).config.files
    body = BodyReader(request)
    async with body.dropped_on(SandboxdError):
        form = FormReader(body, request.headers.get("content-type", ""))
        async with FileClient(target) as helper:
            await helper.begin_upload()
            files, size = await pass_files(form, await form.part(), helper, limits)
            if not files:
                raise Invalid("an upload has at least one file")
            await helper.commit()
    annotate(request, files=files, bytes=size)
    return Response(status_code=204)


async def pass_files(
    form: FormReader, part: FileStart | None, helper: FileClient, limits: FilesConfig
) -> tuple[int, int]:
    """Pass the files of the form, of which `part` is the first, to the helper; their number and
    bytes. Raises Invalid for a part that is no file, and if they exceed a limit."""
    files = total = 0
    while part:
        if part.field:
            raise Invalid(f"the part `{part.field}` is not taken here")
        files, size = files + 1, 0
        if files > limits.upload_files:
            raise Invalid(f"Too many files (maximum {limits.upload_files} at once)")
        await helper.begin_file(path(part.name, "filename"), part.mode)
        while piece := await form.piece():
            size += len(piece)
            if size > limits.upload_size:
                why = f"Too large file (maximum {limits.upload_size} bytes)"
                raise Invalid(why, {"filename": part.name})
            await helper.write(piece)
        total += size
        part = await form.part()
    return files, total


class HelperResponse(StreamingResponse):
    """A response with content from a file helper, which ends with the response.

    Starlette closes the iterator when the client goes away, but not if it has never begun.
    """

    def __init__(
        self,
        helper: FileClient,
        content: AsyncIterator[bytes],
        headers: dict[str, str],
        status: int = 200,
    ) -> None:
        super().__init__(content, status, headers)
        self._helper = helper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._helper.close()


async def opened(
    request: Request, target: FilesOwner, question: dict[str, Any]
) -> tuple[FileClient, dict[str, Any]]:
    """A helper with its first answer, which a client has to wait for. Raises the refusal of the
    helper, and ClientDisconnect."""
    helper = FileClient(target)
    try:
        return helper, await attended(request, _first_answer(helper, question))
    except BaseException:  # a cancelled request, too, leaves no helper
        helper.close()
        raise


async def _first_answer(helper: FileClient, question: dict[str, Any]) -> dict[str, Any]:
    await helper.open()
    return await helper.ask(question)


async def listing(request: Request) -> Response:
    """GET or POST /session/{ref}/files: a directory, as JSON text within JSON."""
    directory = (await parameters(request, ListFiles)).path or HOME
    question = {"op": "list", "path": path(directory, "path")}
    helper, answer = await opened(request, session(request), question)
    content = listed(helper, directory, str(answer.get("path", HOME)))
    return HelperResponse(helper, content, {"content-type": "application/json"})


async def listed(
    helper: FileClient, name: str, folder: str, before: bytes = b"{"
) -> AsyncIterator[bytes]:
    """The content of a response, after `before`, that lists the directory `folder`; the client
    calls it `name`."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    yield before + b'"files":"'
    async for packet in helper.data():
        if isinstance(packet, bytes):
            yield _within(decoder.decode(packet))
            continue
        tail = {"errors": str(packet.get("errors", "")), "folder_path": folder, "abspath": name}
        yield b'",' + json.dumps(tail, separators=(",", ":")).encode()[1:]


def _within(text: str) -> bytes:
    """`text` as the inside of a JSON string."""
    return json.dumps(text)[1:-1].encode()


async def download(request: Request) -> Response:
    """GET or POST /session/{ref}/download: one tar for each path, in a multipart/mixed body."""
    names = (await parameters(request, DownloadFiles)).files
    most = state(request).config.files.download_files
    if not 1 <= len(names) <= most:
        raise Invalid(f"1 to {most} files can be downloaded at once", {"files": len(names)})
    paths = [path(name, "files") for name in names]
    annotate(request, files=len(paths))
    try:
        question = {"op": "archive", "paths": paths}
        helper, _ = await opened(request, session(request), question)
    except NotFound as error:
        if names != [KEY_FILE] or error.kind != "path":
            raise
        raise NotFound("path", NO_SSH) from None
    boundary = secrets.token_hex(16)
    headers = {"content-type": f"multipart/mixed; boundary={boundary}"}
    return HelperResponse(helper, _parts(helper, boundary), headers)


async def _parts(helper: FileClient, boundary: str) -> AsyncIterator[bytes]:
    before = ""
    async for packet in helper.data():
        if isinstance(packet, bytes):
            yield packet
        elif packet.get("end"):
            yield f"{before}--{boundary}--\r\n".encode()
        else:
            yield f"{before}--{boundary}\r\n{_part_headers(packet)}\r\n".encode()
            before = "\r\n"


def _part_headers(packet: dict[str, Any]) -> str:
    lines = f"Content-Type: {OCTETS}\r\nContent-Encoding: identity\r\n"
    left_out = packet.get("left_out")
    if isinstance(left_out, dict) and left_out:
        counts = ", ".join(f"{kind}={count}" for kind, count in sorted(left_out.items()))
        lines += f"X-Sandboxd-Left-Out: {counts}\r\n"
    return lines


async def download_single(request: Request) -> Response:
    """GET or POST /session/{ref}/download_single: the bytes of one file."""
    file = (await parameters(request, DownloadSingleFile)).file
    if not file:
        raise Invalid.of({"file": "the path of a file"})
    question = {"op": "read", "path": path(file, "file")}
    helper, answer = await opened(request, session(request), question)
    name = quote(str(answer.get("name", "file")), safe="", errors="surrogateescape")
    headers = {
        "content-type": OCTETS,
        "content-length": str(answer.get("size")),
        "content-disposition": f"attachment; filename*=UTF-8''{name}",
    }
    return HelperResponse(helper, content(helper), headers)


async def content(helper: FileClient) -> AsyncIterator[bytes]:
    """The bytes of a file that is being read."""
    async for packet in helper.data():
        if isinstance(packet, bytes):
            yield packet
