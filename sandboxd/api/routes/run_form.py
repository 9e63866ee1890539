"""The body of POST /run: the parameters as JSON, or a form that has them and files.

The part `run` of a form is the parameters, and it comes first: when the files come, the session
that takes them is there. The other parts are files, or one part `archive`, a tar.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

from starlette.exceptions import HTTPException
from starlette.requests import Request

from ...config.settings import FilesConfig
from ...errors import Invalid, SandboxdError
from ...model import HOME
from ..access.parameters import (
    BODY_MAX,
    Parameters,
    ParameterSet,
    body_parameters,
    parameters,
)
from ..http.body_budget import count_body
from ..http.body_reader import BodyReader, FormReader
from ..http.compression import decompressed
from ..http.delivery import attended
from ..http.route import Content
from ..options.texts import encoded
from ..processes.file_client import FileClient, path
from ..sessions.session import Session
from .files import pass_files

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
            raise Invalid.of({where: "base64 is expected"}) from None


class RunForm:
    """The body of a request, read as far as somebody asks for it."""

    def __init__(self, request: Request) -> None:
        self._body = BodyReader(request)
        self._request = request
        content_type = request.headers.get("content-type", "")
        is_form = content_type.partition(";")[0].strip().lower() == CONTENT.media[0]
        self._form = FormReader(self._body, content_type, (PART, ARCHIVE)) if is_form else None

    async def parameters(self, kind: type[Parameters]) -> Parameters:
        """The parameters. Raises as access/parameters.py, and Invalid for a form without them."""
        if self._form is None:
            return await parameters(self._request, kind)
        part = await self._form.part()
        if part is None or part.field != PART:
            raise Invalid(f"the first part of the form must be `{PART}`, the parameters as JSON")
        data = bytearray()
        while piece := await self._form.piece():
            data += piece
            if len(data) > BODY_MAX:
                closing = await self._body.drop()
                text = f"the parameters have at most {BODY_MAX} bytes"
                raise HTTPException(413, text, closing)
            count_body(self._request, len(piece))
        return body_parameters(self._request, bytes(data), kind)

    async def attended(self, work: Coroutine[Any, Any, bool]) -> bool:
        """The result of `work`, which is cancelled if the client hangs up. The rest of a form is
        still to come, so the end of its client is not seen before."""
        return await (work if self._form else attended(self._request, work))

    def dropped_on(self, *refusals: type[SandboxdError]) -> AbstractAsyncContextManager[None]:
        """As BodyReader.dropped_on; parameters alone have been read already."""
        return self._body.dropped_on(*refusals) if self._form else contextlib.nullcontext()

    async def upload(
        self, target: Session, inline: list[tuple[InlineFile, bytes]], limits: FilesConfig
    ) -> int:
        """Put the files of the request into the workdir; their number. Raises Invalid, and the
        refusals of the file helper."""
        part = await self._form.part() if self._form else None
        if self._form and part and part.field == ARCHIVE:
            if inline:
                raise Invalid("files and an archive are not taken together")
            return await self._unpack(target, self._form)
        if part is None and not inline:
            return 0
        async with FileClient(target) as helper:
            await helper.begin_upload()
            for file, data in inline:
                await helper.begin_file(path(file.name, "files.name"), int(file.mode, 8))
                await helper.write(data)
            count = len(inline)
            if self._form:
                count += (await pass_files(self._form, part, helper, limits))[0]
            await helper.commit()
        return count

    @staticmethod
    async def _unpack(target: Session, form: FormReader) -> int:
        async with FileClient(target) as helper:
            await helper.begin_archive(HOME)
            async for piece in decompressed(form.piece, "identity"):
                await helper.write(piece)
            if await form.part():
                raise Invalid(f"nothing comes behind the part `{ARCHIVE}`")
            answer = await helper.commit()
        return int(answer["files"])
