"""The options of a batch run: checked, and turned into a plan. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ...config.settings import Config
from ...errors import Invalid
from ...model import STEPS, Limits, Step, StepName
from ...runs.plan import Clamp, Plan
from ...runtimes import Runtime
from ...store.sessions import SessionRow
from ..access.parameters import ParameterSet
from . import granted_limits, limit_values, texts, variables

PLAN_MAX = 128 * 1024
"""Characters of a run's commands and variables, as JSON: they travel in one packet, and
Linux takes no longer text as one argument (MAX_ARG_STRLEN, execve(2))."""

ESCAPED_MAX, PUNCTUATION_MAX = 12, 16
"""Characters of JSON for one character of a text at most, and those around a text."""


def _per_step_schema(limits: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of an object with one value for each step."""
    return {"properties": dict.fromkeys(STEPS, limits), "additionalProperties": False}


_LIMITS = {
    "title": "StepLimits",
    "type": ["object", "null"],
    "additionalProperties": False,
    **(limit_values.schema(limit_values.RUN_LIMITS).extra_json_schema or {}),
}
_timeouts = Meta(
    extra_json_schema=_per_step_schema({"anyOf": [{"type": ["number", "string", "null"]}, _LIMITS]})
)
_limits = Meta(extra_json_schema=_per_step_schema(_LIMITS))


class BatchOptions(ParameterSet):
    """`options` of a batch call: the batch execution query object.

    interactive  exec has a terminal for its input and output
    """

    clean: str = ""
    build: str = ""
    exec: str = ""
    buildLog: bool = False
    stdin: str | None = None
    interactive: bool = False
    timeout: float | Annotated[dict[str, Any], _timeouts] = {}
    limits: Annotated[dict[str, Any], _limits] = {}
    environ: variables.Variables = {}
    live: bool = False


def plan(options: BatchOptions, row: SessionRow, runtime: Runtime, config: Config) -> Plan:
    """The plan of a run of this session. Raises Invalid."""
    if options.interactive and options.stdin is not None:
        raise Invalid.of({"options.interactive": "not together with options.stdin"})
    commands = {name: _command(name, options, runtime) for name in STEPS}
    steps, clamped = _limited(commands, options, row, config)
    own = variables.checked(options.environ, "options.environ")
    environ = {
        **runtime.variables(row.network is not None),
        "_BACKEND_BATCH_MODE": "1",
        **row.environ,
        **own,
    }
    if _size(environ, steps) > PLAN_MAX:
        data = {"options": f"commands and variables: at most {PLAN_MAX} characters as JSON"}
        raise Invalid.of(data)
    comparable = _comparable(options)
    return Plan(steps, environ, _input(options), options.interactive, clamped, comparable)


def planned_again(first: Plan, options: BatchOptions, row: SessionRow, config: Config) -> Plan:
    """`first` with the input and the limits of `options`. Its commands and variables stay, whose
    checks take a millisecond: a request has up to a thousand such plans. Raises Invalid."""
    commands = {step.name: step.command for step in first.steps}
    steps, clamped = _limited(commands, options, row, config)
    return replace(first, steps=steps, stdin=_input(options), clamped=clamped)


def _limited(
    commands: Mapping[StepName, str | None], options: BatchOptions, row: SessionRow, config: Config
) -> tuple[tuple[Step, ...], tuple[Clamp, ...]]:
    """The steps with their limits, and the limits that had to be lowered. Raises Invalid."""
    overrides = _overrides(options)
    steps, clamped = list[Step](), list[Clamp]()
    for name in STEPS:
        default: Limits = getattr(config.limits, name)
        limits, low = granted_limits.step_limits(
            default, row.limits, overrides[name], config.ceiling, config.run_files
        )
        steps.append(Step(name, commands[name], limits))
        clamped += [replace(one, name=f"{name}.{one.name}") for one in low]
    return tuple(steps), tuple(clamped)


def _input(options: BatchOptions) -> bytes | None:
    """Standard input of exec, if the options have it. Raises Invalid."""
    return None if options.stdin is None else texts.encoded(options.stdin, "options.stdin")


def _size(environ: dict[str, str], steps: Sequence[Step]) -> int:
    """Characters of variables and commands as JSON; of few, how many they could be at most."""
    texts = [*environ, *environ.values(), *(step.command or "" for step in steps)]
    most = sum(map(len, texts)) * ESCAPED_MAX + len(texts) * PUNCTUATION_MAX
    if most <= PLAN_MAX:
        return most
    return len(json.dumps([environ, [step.command for step in steps]]))


def _command(name: StepName, options: BatchOptions, runtime: Runtime) -> str | None:
    """The command of a step, for the shell; None: the step is skipped."""
    text: str = getattr(options, name)
    if text == "*":
        text = "" if name == "clean" else getattr(runtime, name)
    return texts.program_text(text, f"options.{name}") if text else None


def _overrides(options: BatchOptions) -> dict[StepName, dict[str, Any]]:
    """The fields of Limits, per step, that the run sets."""
    overrides: dict[StepName, dict[str, Any]] = {step: {} for step in STEPS}
    timeout = options.timeout
    if not isinstance(timeout, dict):
        timeout = {"exec": timeout}
    for step, value in _per_step(timeout, "options.timeout"):
        limits = value if isinstance(value, dict) else {"wall_s": value}
        overrides[step] |= _fields(limits, f"options.timeout.{step}")
    for step, value in _per_step(options.limits, "options.limits"):
        if not isinstance(value, dict):
            raise Invalid.of({f"options.limits.{step}": "an object"})
        overrides[step] |= _fields(value, f"options.limits.{step}")
    return overrides


def _per_step(values: dict[str, Any], where: str) -> list[tuple[StepName, Any]]:
    if unknown := sorted(set(values) - set(STEPS)):
        allowed = f"keys are {', '.join(STEPS)}, not {unknown[0]!r}"
        raise Invalid.of({where: allowed})
    return [(step, values[step]) for step in STEPS if values.get(step) is not None]


def _fields(limits: dict[str, Any], where: str) -> dict[str, Any]:
    """The fields of Limits of one step's object."""
    for name in limits:
        if name not in limit_values.RUN_LIMITS:
            why = f"is unknown; known are {', '.join(limit_values.RUN_LIMITS)}"
            raise Invalid.of({f"{where}.{name}": why})
    return {
        limit_values.RUN_LIMITS[name]: limit_values.amount(
            limit_values.RUN_LIMITS[name], value, f"{where}.{name}"
        )
        for name, value in limits.items()
        if value is not None
    }


def _comparable(options: BatchOptions) -> str:
    """The options as a text, without those that only concern the replies. A text that is too long
    to be kept for a comparison is there by its digest."""
    fields = {**msgspec.structs.asdict(options), "live": None}
    if not options.interactive:  # an earlier daemon, whose runs may go on, had no such option
        del fields["interactive"]
    if options.stdin is not None:
        fields["stdin"] = _digest(options.stdin)
    return compact(_SORTED.encode(fields))


def compact(comparable: str) -> str:
    """The text of `_comparable` that an earlier version may have written, with its whole input and
    its whole commands."""
    fields = json.loads(comparable) if '"stdin": "' in comparable else {}
    stdin = fields.get("stdin")
    if isinstance(stdin, str) and not stdin.startswith(_DIGEST):
        comparable = _SORTED.encode(fields | {"stdin": _digest(stdin)})
    return comparable if len(comparable) <= COMPARED_MAX else _digest(comparable)


_SORTED = json.JSONEncoder(sort_keys=True)

COMPARED_MAX = 512
"""Characters of options that a run keeps as they are."""

_DIGEST = "sha256:"


def _digest(text: str) -> str:
    return _DIGEST + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
