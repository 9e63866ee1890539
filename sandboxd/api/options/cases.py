"""The cases of a request: each is a run of one command, with its own input and limits. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ...config.settings import Config
from ...errors import Invalid
from ...runs.plan import Plan
from ...runtimes import Runtime
from ...store.sessions import SessionRow
from ..access.parameters import ParameterSet
from . import batch, limit_values, texts

CASES_MAX = 1000
"""Cases of one request."""

_NAMES = {"options.limits.exec": "limits", "options.stdin": "stdin"}
"""Places in the options of a run -> places in a case."""


class CaseOptions(ParameterSet):
    """A case of a request.

    expected  what the program has to print: white space at the ends of lines and of the text does
              not count
    """

    name: Annotated[str, Meta(max_length=256)] = ""
    stdin: str = ""
    limits: Annotated[dict[str, Any], limit_values.schema(limit_values.RUN_LIMITS)] = {}
    expected: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A case, ready to run. `expected`: the bytes that it should print; None: any."""

    name: str
    plan: Plan
    expected: bytes | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """The work of a request.

    plan   of the only run; if there are `cases`, of the one before them, which builds. None: there
           is nothing to build
    """

    plan: Plan | None
    cases: tuple[Case, ...] = ()

    @property
    def plans(self) -> list[Plan]:
        """All plans."""
        return [*([self.plan] if self.plan else []), *(case.plan for case in self.cases)]


def task(
    options: batch.BatchOptions,
    cases: Sequence[CaseOptions],
    row: SessionRow,
    runtime: Runtime,
    config: Config,
) -> Task:
    """The work that a request asks for. Raises Invalid."""
    for name in ("interactive", "live"):
        if getattr(options, name):
            raise Invalid.of({f"options.{name}": "not in a request that is a whole run"})
    if not cases:
        options = msgspec.structs.replace(options, stdin=options.stdin or "")
        return Task(batch.plan(options, row, runtime, config))
    if len(cases) > CASES_MAX:
        raise Invalid.of({"cases": f"at most {CASES_MAX} are allowed"})
    if options.stdin is not None:
        raise Invalid.of({"options.stdin": "each of the cases has its own"})
    build = msgspec.structs.replace(options, exec="", stdin="")
    plan = batch.plan(build, row, runtime, config)
    builds = any(step.command is not None for step in plan.steps)
    alone = msgspec.structs.replace(options, clean="", build="", stdin="", timeout={}, limits={})
    first = batch.plan(alone, row, runtime, config)
    if first.steps[-1].command is None:
        raise Invalid.of({"options.exec": "the cases need a command"})
    return Task(
        _with_clamps(plan, "exec.", False) if builds else None,
        tuple(_case(first, options, case, f"cases.{i}", row, config)
              for i, case in enumerate(cases)),
    )  # fmt: skip


def _case(
    first: Plan,
    options: batch.BatchOptions,
    case: CaseOptions,
    where: str,
    row: SessionRow,
    config: Config,
) -> Case:
    """A case at the place `where` of the request, with the command and variables of `first`. Its
    limits win over those of the options."""
    of_exec = options.limits.get("exec") or {}
    if not isinstance(of_exec, dict):
        raise Invalid.of({"options.limits.exec": "an object"})
    limits = {**options.limits, "exec": of_exec | case.limits}
    own = msgspec.structs.replace(options, stdin=case.stdin, limits=limits)
    try:
        plan = batch.planned_again(first, own, row, config)
    except Invalid as error:
        raise Invalid(error.public, _renamed(error.data, case, where)) from None
    expected = None
    if case.expected is not None:
        expected = texts.encoded(case.expected, f"{where}.expected")
    return Case(case.name, _with_clamps(plan, "exec.", True), expected)


def _renamed(data: Any, case: CaseOptions, where: str) -> Any:
    """`data` of a refusal, with the places in the case that the client has written."""
    if not isinstance(data, Mapping):
        return data
    places = dict[str, Any]()
    for key, text in data.items():
        for name, own in _NAMES.items():
            of_case = own == "stdin" or key.removeprefix(f"{name}.") in case.limits
            if key.startswith(name) and of_case:
                key = f"{where}.{own}{key.removeprefix(name)}"
        places[key] = text
    return places


def _with_clamps(plan: Plan, prefix: str, wanted: bool) -> Plan:
    """`plan` with only those clamps that are (not) of the steps with this prefix."""
    clamps = tuple(one for one in plan.clamped if one.name.startswith(prefix) == wanted)
    return replace(plan, clamped=clamps)


def is_expected(output: bytes, expected: bytes) -> bool:
    """Two texts are the same but for white space at the ends of lines and of the whole."""
    return _stripped(output) == _stripped(expected)


def _stripped(text: bytes) -> bytes:
    return b"\n".join(line.rstrip() for line in text.split(b"\n")).rstrip()
