"""The route of runs: POST /session/{ref}, the calls of a batch run and their results."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NotRequired, TypedDict
from urllib.parse import quote

from msgspec import Meta
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...errors import Invalid, NotFound, SandboxdError
from ...model import OUTPUT, STEPS, Verdict
from ...runs.client_calls import Input
from ...runs.console_items import Item, log
from ...runs.cursor import Offset, no_note
from ...runs.plan import Plan
from ...runs.polling import LIVE, POLL, PollPolicy
from ...runs.reply import Reply
from ...runs.run import Run
from ..access.parameters import ObjectKeys, ParameterSet, inner, parameters
from ..admission.admission import QueuePlace
from ..http.delivery import expect_presence, hand_over, is_gone
from ..http.problems import client_text
from ..http.responses import JsonResponse
from ..options import batch, granted_limits, texts
from ..options.wording import Wording
from ..processes.file_client import FileClient
from ..sessions.session import Session
from ..state import session, state
from ..telemetry.audit_log import annotate
from .completions import complete_nothing

MODES = ("batch", "continue", "input", "complete", "query")
RUN_ID_MAX = 256

WAIT_MAX = 86400
"""Seconds that a call can wait for the end of its run."""

_CREATED_MARGIN_S = 0.02
"""Time stamps of files come from the kernel's tick and may be that far behind the clock."""


class CallOptions(ParameterSet):
    """`options` that calls of all modes have.

    console  the form of stdout and stderr
    input    stream: standard input comes through a request of its own (standard_input.py)
    wait     seconds that the call waits for the end of the run
    """

    eof: bool = False
    live: bool = False
    offset: Offset | int | None = None
    console: Literal["text", "base64"] = "text"
    input: Literal["calls", "stream"] = "calls"
    wait: Annotated[float, Meta(ge=0, le=WAIT_MAX)] | None = None

    def policy(self, base: PollPolicy) -> PollPolicy:
        """`base` with these options. A client that names its cursor, or wants bytes, gets all
        output: with the next reply, if there is no room in this one. Raises Invalid."""
        if self.wait is not None and base.live:
            why = "not together with options.live, and not over a WebSocket"
            raise Invalid.of({"options.wait": why})
        base64, streams = self.console == "base64", self.input == "stream"
        return replace(
            base,
            wait_s=base.wait_s if self.wait is None else self.wait,
            holds=base.holds or self.wait is not None,
            whole=base.whole or base64 or self.offset is not None,
            base64=base64,
            patient=base.patient or streams,
            streams=streams,
        )


class Call(ParameterSet):
    """The body of an execute request."""

    mode: Annotated[str, Meta(examples=list(MODES))] = ""
    code: str = ""
    runId: Annotated[str, Meta(max_length=RUN_ID_MAX)] = ""
    options: Annotated[dict[str, Any], ObjectKeys(CallOptions, batch.BatchOptions)] = {}


class OutputFile(TypedDict):
    """A new file of the output directory, and the URL of its content."""

    name: str
    url: str


class StepResult(TypedDict):
    """The end of a step. `items`: how many items of the console are of this step."""

    step: str
    exitCode: int | None
    items: int
    verdict: Verdict | None


class ExecuteResult(granted_limits.ClampFields):
    """The result of a call. Those without `verdict` and `offset` are of a session that was
    destroyed while the call waited. `steps`: the steps that have ended since the result before;
    of a call with `wait`."""

    status: str
    exitCode: int | None
    options: dict[str, bool] | None
    files: list[OutputFile]
    console: list[Item]
    verdict: NotRequired[Verdict | None]
    steps: NotRequired[list[StepResult]]
    offset: NotRequired[Offset]
    more: NotRequired[bool]
    queue: NotRequired[QueuePlace]


class RunResult(ExecuteResult):
    """The result of a call, with the id of its run."""

    runId: str


class CallResult(TypedDict):
    """The response to a call."""

    result: RunResult


VANISHED: ExecuteResult = {
    "status": "finished", "exitCode": 130, "options": {}, "files": [], "console": [],
}  # fmt: skip
"""The result if the session is destroyed while a call waits."""


async def execute(request: Request) -> Response:
    """POST /session/{ref}: one call of a run, and its result."""
    call = await parameters(request, Call)
    target = session(request)
    if call.mode == "batch":
        return await _batch(request, target, call)
    if call.mode in ("continue", "input"):
        return await _follow_up(request, target, call)
    if call.mode == "complete":
        return complete_nothing()
    raise bad_mode(call.mode)


def bad_mode(mode: str) -> Invalid:
    """The refusal of a call with this mode."""
    if mode == "query":
        return Invalid(
            "Code snippets (mode query) are not offered: upload a file and run it (mode batch)."
        )
    if not mode:
        return Invalid("mode is missing or empty!")
    return Invalid("mode has an invalid value.", {"mode": f"one of {', '.join(MODES)}"})


async def _batch(request: Request, target: Session, call: Call) -> Response:
    options = inner(call, "options", CallOptions)
    terms = _terms(call, options)  # first: a call that is refused begins no run
    run = await submit(request, target, call, terms.policy)
    return _CallResponse(target, run, terms, wording(request))


@dataclass(frozen=True, slots=True)
class _CallTerms:
    """The terms on which a run serves a call.

    cursor  how far the client has the output, if it says so
    policy  the waits and the form of the reply
    input   what the client has typed, if the program waits for it
    """

    cursor: Offset | None
    policy: PollPolicy
    input: Input | None = None


def _terms(call: Call, options: CallOptions) -> _CallTerms:
    """The terms that a call asks for. Raises Invalid."""
    policy = options.policy(LIVE if options.live else POLL)
    input = Input(call.code, options.eof) if call.mode == "input" else None
    return _CallTerms(cursor_of(options.offset), policy, input)


async def submit(request: HTTPConnection, target: Session, call: Call, policy: PollPolicy) -> Run:
    """The run that `call` requests, with a new id if the client names none. A call with this
    `policy` follows.

    Raises Invalid, QuotaExceeded, Unavailable.
    """
    id = texts.stored(call.runId, "runId") or secrets.token_hex(16)
    annotate(request, run=id)
    return await target.submit(id, plan(request, target, call), policy)


def plan(request: HTTPConnection, target: Session, call: Call) -> Plan:
    """The plan of a requested run. Raises Invalid."""
    if call.code:
        raise Invalid.of({"code": "must be empty in the batch mode"})
    app = state(request)
    runtime = app.runtimes.resolve(target.row.runtime)
    options = inner(call, "options", batch.BatchOptions)
    return batch.plan(options, target.row, runtime, app.config)


async def _follow_up(request: Request, target: Session, call: Call) -> Response:
    if not call.runId:
        raise Invalid("continuation requires explicit run ID")
    # Clients repeat the options of the batch call in each call of its run.
    options = inner(call, "options", CallOptions)
    run = target.runs.get(call.runId)
    return _CallResponse(target, run, _terms(call, options), wording(request))


def cursor_of(value: Offset | int | None) -> Offset | None:
    """The cursor that a client sends; a number is that of the console alone. Raises Invalid."""
    offset = Offset(value) if isinstance(value, int) else value
    if offset and not (0 <= offset.console < 1 << 62 and 0 <= offset.steps <= len(STEPS)):
        raise Invalid.of({"options.offset": "as in a result"})
    return offset


class _CallResponse(Response):
    """The response to a call. The run serves the call while the response is sent, because only
    then it learns whether its client has got the result."""

    def __init__(self, target: Session, run: Run, terms: _CallTerms, wording: Wording) -> None:
        super().__init__()
        self._target, self._run, self._terms, self._wording = target, run, terms, wording

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        expect_presence(scope)
        terms = self._terms
        async with self._run.call(terms.input, terms.policy, terms.cursor) as reply:
            fields = await result(self._target, self._run, reply, self._wording, terms.policy.holds)
            content: CallResult = {"result": {"runId": self._run.id, **fields}}
            answer = JsonResponse(content)
            if is_gone(scope):
                raise ClientDisconnect
            await hand_over(answer, scope, send, reply.note if reply else no_note)


def wording(request: HTTPConnection) -> Wording:
    """The wording for the client of this request."""
    return Wording.of(request.headers, state(request).config)


async def result(
    target: Session, run: Run, reply: Reply | None, wording: Wording, steps: bool = False
) -> ExecuteResult:
    """The execution result for a reply, with its `steps` if they are wanted; None: the session has
    vanished."""
    if reply is None:
        return VANISHED.copy()
    event = reply.answer.event
    files, complaint = await _files(target, run) if event and event.output else ([], [])
    console, ends = worded(target, run, reply, wording)
    asks = {"is_password": False} if reply.answer.status == "waiting-input" else None
    fields: ExecuteResult = {
        "status": reply.answer.status,
        "exitCode": reply.answer.exit_code,
        "options": asks,
        "files": files,
        "console": console + complaint,
        "verdict": ends[-1]["verdict"] if event and event.step else None,
        "offset": reply.offset,
    }
    if steps:
        fields["steps"] = ends
    if reply.more:
        fields["more"] = True
    if place := target.place_of(run):
        fields["queue"] = place
    return {**fields, **granted_limits.clamp_fields(run.plan.clamped)}


def worded(
    target: Session, run: Run, reply: Reply, wording: Wording
) -> tuple[list[Item], list[StepResult]]:
    """The console and the steps of a reply, in the words of its reader."""
    console, results, limits = list[Item](), list[StepResult](), target.row.limits
    rest = reply.console
    for end in reply.ends:
        items, rest = rest[: end.items], rest[end.items :]
        event, verdict = end.event, end.event.verdict
        if event.step is None:
            console += items
            continue
        step = run.plan.steps[STEPS.index(event.step)]
        if verdict and verdict.advice:
            verdict = replace(verdict, advice=wording.advice(verdict.advice, step, limits))
        console += wording.console(items, step, limits)
        results.append(
            {"step": step.name, "exitCode": event.exit, "items": len(items), "verdict": verdict}
        )
    return console + rest, results


async def _files(target: Session, run: Run) -> tuple[list[OutputFile], list[Item]]:
    """The files that the run has written to its output directory, and a log item if they cannot be
    listed."""
    since = run.started_at - _CREATED_MARGIN_S
    try:
        async with FileClient(target) as helper:
            names = await helper.created(OUTPUT, since)
    except NotFound:
        return [], []
    except SandboxdError as error:
        return [], [log("warning", f"the files of this run cannot be listed: {client_text(error)}")]
    base = f"/session/{target.row.id}/download_single?file="
    return [{"name": name, "url": base + _quoted(f"{OUTPUT}/{name}")} for name in names], []


def _quoted(path: str) -> str:
    return quote(path, safe="/", errors="surrogateescape")
