"""The route of a whole run in one request: POST /run.

An extension. The session of the request lives as long as the request: its files, its build and its
cases, and nothing of it is left when the response comes, when the client hangs up, or when the
daemon is killed.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import secrets
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, Required, TypedDict, cast

import msgspec
from msgspec import Meta
from starlette.requests import Request

from ...errors import Invalid, SandboxdError
from ...model import Verdict
from ...runs.console_items import Item
from ...store.sessions import SessionRow
from ..access.ownership import creator
from ..access.parameters import ObjectKeys, Parameters, ParameterSet, fold, inner, typed
from ..http.body_budget import count_body
from ..http.delivery import attended
from ..http.responses import JsonResponse
from ..options import batch, granted_limits
from ..options.cases import CASES_MAX, CaseOptions, Task, task
from ..processes.file_client import path
from ..sessions.ephemeral_runs import EphemeralRuns, Outcome, ReturnedFile, console_sizes
from ..sessions.registry import new_id
from ..sessions.session import Session
from ..sessions.session_network import granted
from ..state import AppState, state
from ..telemetry.audit_log import annotate
from .create_session import TEXT_MAX, printable
from .execute import StepResult, worded, wording
from .run_form import InlineFile, RunForm

FILES_RETURNED = 64
"""Files that a request can ask for."""

INLINE_FILES_MAX = 1000
"""Files among the parameters."""


def _objects(kind: type[ParameterSet]) -> Meta:
    """The JSON Schema of a list of objects with the keys of `kind`."""
    _, components = msgspec.json.schema_components([kind], ref_template="{name}")
    schema = {**components[kind.__name__], "title": kind.__name__}
    return Meta(extra_json_schema={"items": schema})


class RunRequest(ParameterSet):
    """The parameters of a run in one request.

    get              names of files that the response has
    console          the form of stdout and stderr
    stop_on_failure  no case begins after one that has failed
    network          a network profile, or an object with `profile` and some of its `hosts`
    max_wait         seconds that the request waits while the host has no room for a session
    """

    aliases = {"lang": "image", "maxWaitSeconds": "max_wait"}

    image: Annotated[str, Meta(max_length=TEXT_MAX)]
    files: Annotated[list[Any], _objects(InlineFile), Meta(max_length=INLINE_FILES_MAX)] = []
    options: Annotated[dict[str, Any], ObjectKeys(batch.BatchOptions)] = {}
    cases: Annotated[list[Any], _objects(CaseOptions), Meta(max_length=CASES_MAX)] = []
    stop_on_failure: bool = False
    get: Annotated[list[str], Meta(max_length=FILES_RETURNED)] = []
    console: Literal["text", "base64"] = "text"
    network: str | dict[str, Any] = ""
    max_wait: Annotated[float, Meta(ge=0)] = 0


class FileResult(TypedDict, total=False):
    """A file after a run: `size` and `content` in base64, or `error`, the reason why not."""

    size: int
    content: str
    error: str


class RunReport(granted_limits.ClampFields):
    """The end of a run. `steps`: those that have ended; `cut`: the program has printed more."""

    status: Required[str]
    exitCode: Required[int | None]
    console: Required[list[Item]]
    verdict: Required[Verdict | None]
    steps: NotRequired[list[StepResult]]
    cut: NotRequired[bool]
    files: NotRequired[dict[str, FileResult]]


class CaseReport(RunReport):
    """The end of a case, which has only the step exec and so no `steps`. `passed`: the output is
    what the case expects, and the exit code is 0."""

    name: Required[str]
    passed: NotRequired[bool]


class RunResponse(TypedDict):
    """The run; if there are cases, the build before them, and each case that has run. There is no
    `result` if there was nothing to build."""

    result: NotRequired[RunReport]
    cases: NotRequired[list[CaseReport]]


async def run(request: Request) -> JsonResponse[RunResponse]:
    """POST /run: a session for one request. Files, a build and runs go in, and results come out."""
    form = RunForm(request)
    async with form.dropped_on(SandboxdError):
        return JsonResponse(await _carry_out(request, form))


async def _carry_out(request: Request, form: RunForm) -> RunResponse:
    body, app = await form.parameters(RunRequest), state(request)
    names = [path(name, "get") for name in body.get]
    files = _typed(body.files, InlineFile, "files")
    inline = [(file, file.data(f"files.{i}.content")) for i, file in enumerate(files)]
    row, work = await _plan(request, body)
    async with app.sessions.ephemeral(row, body.max_wait, form.attended) as session:
        annotate(request, session=row.id)
        count = await form.upload(session, inline, app.config.files)
        annotate(request, files=count)
        room = app.config.console.response_chars
        counted = functools.partial(count_body, request)
        runs = EphemeralRuns(session, names, room, body.console == "base64", counted)
        return await attended(request, _report(request, session, runs, work, body.stop_on_failure))


async def _plan(request: Request, body: RunRequest) -> tuple[SessionRow, Task]:
    """The row of the session, and its work. Raises Invalid, NotFound."""
    app: AppState = state(request)
    runtime = app.runtimes.resolve(printable(body.image, "image"))
    owner = await creator(request)
    row = SessionRow(
        new_id(), f"run-{secrets.token_hex(8)}", owner, body.image, runtime.name, time.time(),
        network=granted(body.network, owner, app.config.network),
    )  # fmt: skip
    options = inner(body, "options", batch.BatchOptions)
    cases = _typed(body.cases, CaseOptions, "cases")
    work = task(options, cases, row, runtime, app.config)
    for plan in work.plans:
        app.sessions.admission.check_plan(plan)
    annotate(request, runtime=runtime.name, cases=len(cases))
    return row, work


def _typed(values: list[Any], kind: type[Parameters], where: str) -> list[Parameters]:
    """Each of the objects `values` as `kind`. Raises Invalid."""
    for number, value in enumerate(values):
        if not isinstance(value, Mapping):
            raise Invalid.of({f"{where}.{number}": "an object is expected"})
    return [
        typed(fold(value, kind.aliases), kind, f"{where}.{number}")
        for number, value in enumerate(values)
    ]


async def _report(
    request: Request, session: Session, runs: EphemeralRuns, work: Task, stop: bool
) -> RunResponse:
    """Carry out the work; its response."""
    reporter, response = _Reporter(request, session), RunResponse()
    if work.plan:
        first = await runs.first(work.plan, bool(work.cases))
        response["result"] = reporter.of_run(first)
        if first.failed and work.cases:
            return {**response, "cases": []}
    if work.cases:
        reports = list[CaseReport]()
        async with contextlib.aclosing(runs.cases(work.cases, stop)) as outcomes:
            async for outcome in outcomes:
                reports.append(reporter.of_case(work.cases[len(reports)].name, outcome))
        response["cases"] = reports
    return response


class _Reporter:
    """The reports of one response, in the words of its reader."""

    def __init__(self, request: Request, session: Session) -> None:
        self._request, self._session = request, session
        self._wording = wording(request)

    def of_run(self, outcome: Outcome) -> RunReport:
        """The report of a run."""
        answer = outcome.reply.answer
        console, steps = worded(self._session, outcome.run, outcome.reply, self._wording)
        report: RunReport = {
            "status": answer.status,
            "exitCode": answer.exit_code,
            "console": console,
            "verdict": steps[-1]["verdict"] if answer.event and answer.event.step else None,
            "steps": steps,
        }
        report.update(cast(RunReport, granted_limits.clamp_fields(outcome.run.plan.clamped)))
        if outcome.cut:
            report["cut"] = True
        if outcome.files is not None:
            report["files"] = {name: _file(file) for name, file in outcome.files.items()}
        return report

    def of_case(self, name: str, outcome: Outcome) -> CaseReport:
        """The report of the case `name`. Only exec is a step of it. Its output stays in memory
        while other cases run."""
        count_body(self._request, console_sizes(outcome.reply.console).total())
        report = cast(CaseReport, {"name": name, **self.of_run(outcome)})
        del report["steps"]
        if outcome.passed is not None:
            report["passed"] = outcome.passed
        return report


def _file(file: ReturnedFile) -> FileResult:
    if file.refusal:
        return {"error": file.refusal}
    return {"size": len(file.content), "content": base64.b64encode(file.content).decode()}
