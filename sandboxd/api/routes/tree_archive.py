"""The routes of a session's archive: a whole tree goes in as a tar, or comes out as one.

An extension. The upload of the specification has bounds and only regular files; an archive keeps
everything that a tree has: empty directories, links, modes, and times to the nanosecond.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict

from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from ...errors import Invalid, SandboxdError
from ...model import HOME
from ..access.parameters import ParameterSet, parameters, query_parameters
from ..http.body_reader import BodyReader
from ..http.compression import ENCODINGS, compressor, decompressed
from ..http.responses import JsonResponse
from ..http.route import OCTETS, Content
from ..processes.file_client import FileClient, path
from ..state import session
from ..telemetry.audit_log import annotate
from .files import HelperResponse, opened

TAR = "application/x-tar"
CONTENT = Content((TAR, OCTETS), "A tar: plain, or packed by gzip or zstd. Its first bytes tell.")


class ArchiveCounts(TypedDict):
    """The numbers of what was unpacked."""

    files: int
    directories: int
    links: int
    bytes: int


class PutArchive(ParameterSet):
    """Parameters of an upload."""

    path: str = HOME


class GetArchive(ParameterSet):
    """Parameters of a download."""

    path: str = HOME
    match: list[str] = []
    compress: Annotated[str, Meta(extra_json_schema={"enum": list(ENCODINGS)})] = "identity"


async def put(request: Request) -> JsonResponse[ArchiveCounts]:
    """PUT /session/{ref}/archive: unpack the tar in the body, as a whole or not at all."""
    target = session(request)
    directory = path(query_parameters(request, PutArchive).path or HOME, "path")
    body = BodyReader(request)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    async with body.dropped_on(SandboxdError), FileClient(target) as helper:
        await helper.begin_archive(directory)
        async for piece in decompressed(body.piece, encoding):
            await helper.write(piece)
        answer = await helper.commit()
    counts: ArchiveCounts = {
        "files": int(answer["files"]),
        "directories": int(answer["directories"]),
        "links": int(answer["links"]),
        "bytes": int(answer["bytes"]),
    }
    annotate(request, files=counts["files"], bytes=counts["bytes"])
    return JsonResponse(counts)


async def get(request: Request) -> Response:
    """GET /session/{ref}/archive: the tar of a directory, or of what matches in it."""
    wanted = await parameters(request, GetArchive)
    if wanted.compress not in ENCODINGS:
        allowed = f"one of {', '.join(ENCODINGS)}"
        raise Invalid.of({"compress": allowed})
    question = {
        "op": "pack",
        "path": path(wanted.path or HOME, "path"),
        "match": [path(pattern, "match") for pattern in wanted.match],
    }
    helper, answer = await opened(request, session(request), question)
    headers = {
        "content-type": TAR,
        "x-sandboxd-unmatched": json.dumps(answer.get("unmatched", [])),
        "x-sandboxd-left-out": json.dumps(_left_out(answer)),
    }
    return HelperResponse(helper, _content(helper, wanted.compress), headers)


def _left_out(answer: dict[str, Any]) -> dict[str, Any]:
    """The entries that the archive does not have: how many, and the first of them by name."""
    return {"count": answer.get("left_out_count", 0), "entries": answer.get("left_out", [])}


async def _content(helper: FileClient, encoding: str) -> AsyncIterator[bytes]:
    """The tar, packed as `encoding` says; in a thread, since packing is slow."""
    packer = compressor(encoding)
    async for packet in helper.data():
        if not isinstance(packet, bytes):
            continue
        piece = await asyncio.to_thread(packer.compress, packet) if packer else packet
        if piece:
            yield piece
    if packer:
        yield await asyncio.to_thread(packer.flush)
