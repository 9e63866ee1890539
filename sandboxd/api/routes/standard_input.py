"""The route of standard input: PUT /session/{ref}/stdin, any bytes, at the speed of the program.

The body of the request is the input, and its end is the end of input. `eof=false` leaves the input
open for a further request, and with an empty body it asks how many bytes the run has taken. A
client whose connection broke goes on at this `offset`.

The response says if the program reads no more. The rest of the body is then read and dropped, so
that the client comes to read the response.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, TypedDict

from msgspec import Meta
from starlette.requests import Request

from ...errors import Invalid, SandboxdError
from ...runs.stdin_stream import StdinStream
from ..access.parameters import ParameterSet, query_parameters
from ..http.body_reader import BodyReader
from ..http.responses import JsonResponse
from ..state import session
from ..telemetry.audit_log import annotate

DROP_S, QUIET_S = 60.0, 0.5
"""Seconds for which the rest of a body is dropped, and seconds without a byte that end it: the
client has a user at its keyboard, or waits itself."""


class StdinCall(ParameterSet):
    """Parameters of a stream of input."""

    runId: str = ""
    offset: Annotated[int, Meta(ge=0)] | None = None
    eof: bool = True


class StdinResult(TypedDict):
    """The bytes of input that the run has taken, and whether the program reads no more."""

    bytes: int
    closed: bool


async def put_stdin(request: Request) -> JsonResponse[StdinResult]:
    """PUT /session/{ref}/stdin: stream the body into the standard input of a run."""
    call = query_parameters(request, StdinCall)
    target = session(request)
    if not call.runId:
        raise Invalid.of({"runId": "the run that reads the input"})
    run = target.runs.get(call.runId)
    annotate(request, run=run.id)
    body = BodyReader(request, patient=True)
    try:
        async with run.stream_stdin(call.offset) as stream:
            await _stream(body, stream, call.eof)
            stream.check()
    except SandboxdError:
        await _drop(body)
        raise
    ended = not stream.closed or await _drop(body)
    annotate(request, bytes=stream.taken)
    result: StdinResult = {"bytes": stream.taken, "closed": stream.closed}
    return JsonResponse(result, headers=None if ended else {"connection": "close"})


async def _stream(body: BodyReader, stream: StdinStream, eof: bool) -> None:
    """Pass the body on, to its end or until the stream takes no more."""
    passing = asyncio.create_task(_pass_on(body, stream, eof), name="input")
    gone = asyncio.create_task(stream.gone.wait(), name="end of input")
    try:
        await asyncio.wait((passing, gone), return_when=asyncio.FIRST_COMPLETED)
        if passing.done():
            passing.result()
        elif not (stream.error or stream.ended):
            stream.closed = True
    finally:
        passing.cancel()
        gone.cancel()
        await asyncio.gather(passing, gone, return_exceptions=True)


async def _pass_on(body: BodyReader, stream: StdinStream, eof: bool) -> None:
    is_empty = True
    while piece := await body.piece():
        await stream.write(piece)
        is_empty = False
    if eof or not is_empty:  # else the question is answered already
        await stream.finish(eof)


async def _drop(body: BodyReader) -> bool:
    """Read and drop the rest of the body; false if that would take too long."""
    try:
        async with asyncio.timeout(DROP_S):
            while True:
                async with asyncio.timeout(QUIET_S):
                    if not await body.piece():
                        return True
    except TimeoutError:
        return False
