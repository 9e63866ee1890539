"""The body of POST /run: the parameters as JSON, or a form that has them and files.

The part `run` of a form is the parameters, and it comes first: when the files come, the session
that takes them is there. The other parts are files, or one part `archive`, a tar.
"""

from __future__ import annotations

import base64
import binascii
from collections import deque
from collections.abc import Coroutine
from typing import Any, Literal

from starlette.exceptions import HTTPException
from starlette.requests import Request

from ...config import FilesConfig
from ...errors import Invalid
from ...model import HOME
from ..access.parameters import (
    BODY_MAX,
    BodyReader,
    Parameters,
    ParameterSet,
    body_parameters,
    parameters,
)
from ..http.body_budget import hold
from ..http.compression import decompressed
from ..http.delivery import attended
from ..http.multipart import FileStart, UploadParser
from ..http.route import Content
from ..sessions.file_client import FileClient, path
from ..sessions.session import Session
from ..sessions.sizes import encoded

PART, ARCHIVE = "run", "archive"

CONTENT = Content(
    ("multipart/form-data",),
    f"The parameters as JSON, or a form. The first part of a form, `{PART}`, is the parameters. "
    f"Then come files, each with its `filename` below {HOME}, or one part `{ARCHIVE}`: a tar, "
    "plain or packed by gzip or zstd. The part header X-Sandboxd-Mode: 755 makes a file "
    "executable.",
    part=PART,
)


class InlineFile(ParameterSet):
    """A file whose content is among the parameters.

    encoding  of the content: base64 is for any bytes
    mode      755 makes it executable
    """

    name: str
    content: str = ""
    encoding: Literal["text", "base64"] = "text"
    mode: Literal["644", "755"] = "644"

    def data(self, where: str) -> bytes:
        """The content. Raises Invalid."""
        if self.encoding == "text":
            return encoded(self.content, where)
        try:
            return base64.b64decode(self.content, validate=True)
        except (binascii.Error, ValueError):
            raise Invalid("Input validation error", {where: "base64 is expected"}) from None


class RunForm:
    """The body of a request, read as far as somebody asks for it."""

    def __init__(self, request: Request) -> None:
        self._body = BodyReader(request)
        self._request = request
        content_type = request.headers.get("content-type", "")
        is_form = content_type.partition(";")[0].strip().lower() == CONTENT.media[0]
        fields = (PART, ARCHIVE)
        self._parser = UploadParser(content_type.encode("latin-1"), fields) if is_form else None
        self._events: deque[FileStart | bytes] = deque()
        self._ended = False

    async def parameters(self, kind: type[Parameters]) -> Parameters:
        """The parameters. Raises as access/parameters.py, and Invalid for a form without them."""
        if self._parser is None:
            return await parameters(self._request, kind)
        part = await self._part()
        if part is None or part.field != PART:
            raise Invalid(f"the first part of the form must be `{PART}`, the parameters as JSON")
        data = bytearray()
        while piece := await self._piece():
            data += piece
            if len(data) > BODY_MAX:
                closing = await self._body.drop()
                text = f"the parameters have at most {BODY_MAX} bytes"
                raise HTTPException(413, text, closing)
            hold(self._request, len(piece))
        return body_parameters(self._request, bytes(data), kind)

    async def attended(self, work: Coroutine[Any, Any, bool]) -> bool:
        """The result of `work`, which is cancelled if the client hangs up. The rest of a form is
        still to come, so the end of its client is not seen before."""
        return await (work if self._parser else attended(self._request, work))

    async def drop(self) -> dict[str, str] | None:
        """As BodyReader.drop, for a request that is refused."""
        return await self._body.drop() if self._parser else None

    async def upload(
        self, place: Session, inline: list[tuple[InlineFile, bytes]], limits: FilesConfig
    ) -> int:
        """Put the files of the request into the workdir; their number. Raises Invalid, and the
        refusals of the file helper."""
        part = await self._part() if self._parser else None
        if part and part.field == ARCHIVE:
            if inline:
                raise Invalid("files and an archive are not taken together")
            return await self._unpack(place)
        if part is None and not inline:
            return 0
        async with FileClient(place) as helper:
            await helper.begin_upload()
            for file, data in inline:
                await helper.begin_file(path(file.name, "files.name"), int(file.mode, 8))
                await helper.write(data)
            count = await self._pass_on(helper, part, limits)
            await helper.commit()
        return len(inline) + count

    async def _pass_on(
        self, helper: FileClient, part: FileStart | None, limits: FilesConfig
    ) -> int:
        """Pass the files of the form to the helper; their number."""
        count = 0
        while part:
            if part.field:
                raise Invalid(f"the part `{part.field}` is not taken here")
            count, size = count + 1, 0
            if count > limits.upload_files:
                raise Invalid(f"Too many files (maximum {limits.upload_files} at once)")
            await helper.begin_file(path(part.name, "filename"), part.mode)
            while piece := await self._piece():
                size += len(piece)
                if size > limits.upload_size:
                    why = f"Too large file (maximum {limits.upload_size} bytes)"
                    raise Invalid(why, {"filename": part.name})
                await helper.write(piece)
            part = await self._part()
        return count

    async def _unpack(self, place: Session) -> int:
        async with FileClient(place) as helper:
            await helper.begin_archive(HOME)
            async for piece in decompressed(self._piece, "identity"):
                await helper.write(piece)
            if await self._part():
                raise Invalid(f"nothing comes behind the part `{ARCHIVE}`")
            answer = await helper.commit()
        return int(answer["files"])

    async def _part(self) -> FileStart | None:
        """The beginning of the next part; None: there is none. The rest of this part is dropped."""
        while event := await self._event():
            self._events.popleft()
            if isinstance(event, FileStart):
                return event
        return None

    async def _piece(self) -> bytes:
        """The next bytes of the part; none at its end."""
        event = await self._event()
        if not isinstance(event, bytes):
            return b""
        self._events.popleft()
        return event

    async def _event(self) -> FileStart | bytes | None:
        """The next event, which stays the next one; None at the end of the form."""
        assert self._parser
        while not self._events and not self._ended:
            if piece := await self._body.piece():
                self._events.extend(event for event in self._parser.feed(piece) if event)
            else:
                self._ended = True
                self._parser.end()
        return self._events[0] if self._events else None
