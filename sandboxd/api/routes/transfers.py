"""The routes of uploads to virtual folders and downloads from them, with a token.

An owner requests a token. A client with that token then uploads (tus.py) or downloads unsigned, as
the official clients do. The state of an upload is the number of its bytes that have arrived
(files/resumable.py).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from email.utils import formatdate
from typing import Annotated, Any, TypedDict
from urllib.parse import quote

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ...errors import AuthFailed, Invalid, QuotaExceeded, SandboxdError
from ..access.callers import is_user
from ..access.ownership import caller
from ..access.parameters import ParameterSet, parameters, query_parameters
from ..folders import tus
from ..folders.registry import Folder
from ..folders.tokens import Purpose, Token
from ..folders.tus import TusError
from ..http import ranges
from ..http.body_reader import BodyReader
from ..http.connections import mark_known
from ..http.responses import JsonResponse
from ..http.route import OCTETS
from ..processes.file_client import FileClient
from ..state import state
from ..telemetry.audit_log import annotate
from . import files
from .folder_files import within
from .folders import folder

UPLOAD = "/folders/_/tus/upload"
DOWNLOAD = "/folders/_/download"
SINGLE_FILES = "only single files can be downloaded"


class RequestUpload(ParameterSet):
    """The body of a request for an upload's token."""

    path: str
    size: Annotated[int, msgspec.Meta(ge=0)]


class UploadUrl(ParameterSet):
    """The query of the URL of an upload; the directory may be chosen only now."""

    token: str = ""
    dst_dir: str = ""


class DownloadUrl(ParameterSet):
    """The query of the URL of a download. Clients send the other parameters always: `dst_dir` is
    a directory of their own, and no response is kept in a cache."""

    token: str = ""
    dst_dir: str = ""
    archive: bool = False
    no_cache: bool = False


class RequestDownload(ParameterSet):
    """The body of a request for a download's token."""

    aliases = {"file": "path"}

    path: str
    archive: bool = False


class FileToken(TypedDict):
    """A token for a file, and the URL that clients add it to: ?token=..."""

    token: str
    url: str


async def request_upload(request: Request) -> JsonResponse[FileToken]:
    """POST /folders/{name}/request-upload: a token to upload one file of a known size."""
    target, body = folder(request), await parameters(request, RequestUpload)
    if body.size > target.row.size:
        raise QuotaExceeded(f"the folder {target.row.name} has a size of {target.row.size} bytes")
    name = within(body.path, "path")
    id, tokens = uuid.uuid4().hex, state(request).tokens
    text, token = tokens.give("upload", caller(request).name, target.row.id, name, body.size, id)
    question = {"op": "begin", "upload": id, "file": name, "size": body.size}
    try:
        async with FileClient(target) as helper:
            await helper.ask(question | {"keep": tokens.uploads(target.row.id)})
    except BaseException:  # a cancelled request, too, leaves no token
        tokens.take_back(text)
        raise
    token.done = body.size == 0
    return JsonResponse({"token": text, "url": _url(request, UPLOAD)})


async def request_download(request: Request) -> JsonResponse[FileToken]:
    """POST /folders/{name}/request-download: a token to download one file."""
    target, body = folder(request), await parameters(request, RequestDownload)
    if body.archive:
        raise Invalid.of({"archive": SINGLE_FILES})
    name = within(body.path, "path")
    await _described(target, name)
    text, _ = state(request).tokens.give("download", caller(request).name, target.row.id, name)
    return JsonResponse({"token": text, "url": _url(request, DOWNLOAD)})


def _url(request: Request, path: str) -> str:
    """`path` on this server, as the client reaches it; clients add the token as a query."""
    return f"{request.url.scheme}://{request.url.netloc}{path}"


async def _described(target: Folder, name: str) -> dict[str, Any]:
    """Size and time of a file. Raises Invalid for a directory, NotFound."""
    async with FileClient(target) as helper:
        status = await helper.ask({"op": "stat", "path": name})
    if status.get("directory"):
        raise Invalid(f"{json.dumps(name)} is a directory")
    return status


async def download(request: Request) -> Response:
    """GET DOWNLOAD?token=: the file, or a range of it."""
    url = query_parameters(request, DownloadUrl)
    if url.archive:
        raise Invalid.of({"archive": SINGLE_FILES})
    token, target = await _token(request, url.token, "download")
    status = await _described(target, token.path)
    size, modified = int(status["size"]), formatdate(int(status["mtime"]), usegmt=True)
    headers = {
        "content-type": OCTETS,
        "last-modified": modified,
        "accept-ranges": "bytes",
        "content-disposition": f"attachment; filename*=UTF-8''{_quoted(token.path)}",
    }
    wanted, only_if = (request.headers.get(name, "") for name in ("range", "if-range"))
    try:
        span = ranges.span(wanted, only_if, size, modified)
    except ValueError:
        headers = {"content-range": f"bytes */{size}"}
        raise HTTPException(416, f"the file has {size} bytes", headers) from None
    start, end = span or (0, size)
    headers["content-length"] = str(end - start)
    if span:
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    question = {"op": "read", "path": token.path, "start": start, "end": end}
    helper, _ = await files.opened(request, target, question)
    content = files.content(helper)
    if end == size:
        content = sent_to_its_end(token, content)
    return files.HelperResponse(helper, content, headers, 206 if span else 200)


async def sent_to_its_end(token: Token, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The end of a file, with which the download is done."""
    async for piece in content:
        yield piece
    token.done = True


def _quoted(path: str) -> str:
    return quote(path.rpartition("/")[2], safe="", errors="surrogateescape")


async def capabilities(request: Request) -> Response:
    """OPTIONS UPLOAD: the version and extensions of tus."""
    headers = tus.capabilities(state(request).config.folders.size)
    return Response(status_code=204, headers=headers)


async def offset(request: Request) -> Response:
    """HEAD UPLOAD?token=: the number of bytes that have arrived."""
    url = query_parameters(request, UploadUrl)
    token, target = await _token(request, url.token, "upload")
    _expect(tus.version(request.headers))
    have = token.size
    if not token.done:
        async with _UploadLock(token), FileClient(target) as helper:
            have = int((await helper.ask(_append(token, url)))["offset"])
    return Response(status_code=200, headers=tus.response_headers(have, token.size))


async def patch(request: Request) -> Response:
    """PATCH UPLOAD?token=: further bytes of the upload; the last ones complete it."""
    body = BodyReader(request)
    async with body.dropped_on(SandboxdError, HTTPException):
        have, size = await _patched(request, body)
    return Response(status_code=204, headers=tus.response_headers(have, size))


async def _patched(request: Request, body: BodyReader) -> tuple[int, int]:
    """Add the body to the upload; the offset after it, and the size of the upload."""
    url = query_parameters(request, UploadUrl)
    token, target = await _token(request, url.token, "upload")
    start = tus.patch(request.headers, token.size)
    if isinstance(start, TusError):
        raise _problem(start)
    async with _UploadLock(token):
        state(request).tokens.prolong(token)
        if token.done:
            _expect(tus.conflict(start, token.size))
            return token.size, token.size
        async with FileClient(target) as helper:
            answer = await helper.ask(_append(token, url))
            _expect(tus.conflict(start, int(answer["offset"])))
            while piece := await body.piece():
                await helper.write(piece)
            have = int((await helper.commit())["offset"])
        state(request).tokens.prolong(token)
        token.done = have == token.size
    return have, token.size


async def _token(request: Request, text: str, purpose: Purpose) -> tuple[Token, Folder]:
    """The token `text`, and its folder. Raises NotFound, AuthFailed when the keypair that
    has requested the token is not active any more."""
    app = state(request)
    token = app.tokens.find(text, purpose)
    if not is_user(token.giver) and not await app.authenticator.keys.find(token.giver):
        raise AuthFailed("Access key not found")
    mark_known(request.scope, token.giver)
    target = app.folders.by_id(token.folder)
    annotate(request, folder=target.row.id, owner=target.row.owner)
    request.scope["state"]["target"] = target
    return token, target


def _append(token: Token, url: UploadUrl) -> dict[str, Any]:
    """The request of the helper."""
    name = token.path
    if url.dst_dir:
        name = within(f"{url.dst_dir}/{name}", "dst_dir")
    return {"op": "append", "upload": token.id, "file": name, "size": token.size}


class _UploadLock:
    """The lock of an upload: a second request at the same time is refused with 423."""

    def __init__(self, token: Token) -> None:
        self._working = token.working

    async def __aenter__(self) -> None:
        if self._working.locked():
            raise _problem(TusError(423, "another request is adding to this upload"))
        await self._working.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._working.release()


def _expect(wrong: TusError | None) -> None:
    if wrong is not None:
        raise _problem(wrong)


def _problem(wrong: TusError) -> HTTPException:
    headers = {"tus-resumable": tus.VERSION, "tus-version": tus.VERSION}
    return HTTPException(wrong.status, wrong.message, headers)
