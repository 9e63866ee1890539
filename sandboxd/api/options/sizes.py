"""Amounts and variables of clients: checked, and turned into our values. No I/O.

Limits come from three places, of which the later ones win: the configuration's default for the
step, the session's resources, the run's own options. No limit may exceed the configuration's
ceiling, and no limit of a run may exceed its session's resources. The limits that had to be lowered
are returned.
"""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from ...errors import Invalid
from ...model import (
    MAY_BE_ZERO,
    MIB,
    NOFILE_MIN,
    SCRATCH_MIN,
    UNLIMITED,
    Limits,
    size,
    within_files,
)  # fmt: skip
from ...runs.plan import Clamp

_SIZE = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,6})?)\s*([kmgtpKMGTP]?)(?:[iI]?[bB])?", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,16}", re.ASCII)
_POWERS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}", re.ASCII)

MEMORY_MIN = 8 << 20
"""Bytes of memory without which not even a shell can be started."""

STACK_MIN = 1 * MIB
"""Bytes of stack with which the interpreters of a run still start."""

CPUS_MIN = 0.01
"""A hundredth of a CPU: the kernel's shortest quota, 1 ms, in the period of 100 ms."""

SCRATCH_STEP = SCRATCH_MIN
"""Bytes: scratches are multiples of it."""

_QUOTED = 60
"""Characters of a value that a message shows."""

VARIABLES_MAX = 512
ENVIRON_MAX = 64 * 1024
"""Variables of a session, and bytes of all their names and values."""

Variables = Annotated[
    dict[str, Any],
    Meta(
        extra_json_schema={
            "propertyNames": {"pattern": f"^{_VARIABLE.pattern}$"},
            "maxProperties": VARIABLES_MAX,
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        }
    ),
]
"""Environment variables as clients send them, see `variables`."""

# name for clients -> field of Limits
RESOURCES = {"cpu": "cpus", "mem": "memory"}
_BOTH = {
    name: name
    for name in (
        "wall_s", "cpu_s", "pids", "nofile", "fsize", "disk", "inodes", "output", "output_end",
        "stack",
    )
}  # fmt: skip
RUN_LIMITS = RESOURCES | {"cpus": "cpus", "grace_s": "grace_s"} | _BOTH
RESOURCE_OPTS = {"shmem": "shm", "grace_s": "grace_s"} | _BOTH
_NAMES = {field: name for name, field in (RESOURCES | RESOURCE_OPTS).items()}

_SIZES = ("memory", "shm", "disk", "fsize", "output", "output_end", "stack", "quota")
_LEAST = {"memory": MEMORY_MIN, "stack": STACK_MIN}
COUNTS = {"pids": 1, "nofile": NOFILE_MIN, "inodes": 1}
"""Fields that are whole numbers -> the least with which a shell still works."""

COUNT_MAX = 10**16 - 1
"""The largest whole number. JSON has numbers without a bound, of which some are no float."""


def _schema(field: str) -> dict[str, Any]:
    """The JSON Schema of the values that `amount` takes."""
    if field in _SIZES:
        least = _LEAST.get(field, 1)
        pattern = f"{_SIZE.pattern}|unlimited" if field == "stack" else _SIZE.pattern
        text = {"type": "string", "pattern": f"^({pattern})$", "examples": ["256m", "1.5g"]}
        return {"anyOf": [{"type": "integer", "minimum": least}, text, {"type": "null"}]}
    if field in COUNTS:
        text = {"type": "string", "pattern": f"^{_COUNT.pattern}$"}
        whole = {"type": "integer", "minimum": COUNTS[field], "maximum": COUNT_MAX}
        return {"anyOf": [whole, text, {"type": "null"}]}
    zero = "minimum" if field in MAY_BE_ZERO else "exclusiveMinimum"
    number: dict[str, Any] = {"type": "number", zero: 0}
    if field == "cpus":
        number = {"type": "number", "minimum": CPUS_MIN}
    return {"anyOf": [number, {"type": "string"}, {"type": "null"}]}


SIZE = Meta(extra_json_schema=_schema("quota"))
"""The JSON Schema of a size in bytes."""


def schema(names: Mapping[str, str]) -> Meta:
    """The JSON Schema of an object with the limits `names` (name for clients -> field)."""
    properties = {name: _schema(field) for name, field in names.items()}
    return Meta(extra_json_schema={"properties": properties})


def client_name(field: str) -> str:
    """The name that clients use for a field of Limits."""
    return _NAMES.get(field, field)


def amount(field: str, value: Any, where: str) -> float | int:
    """The value of the field `field` of Limits. Raises Invalid naming `where`."""
    if field == "stack" and value == "unlimited":
        return UNLIMITED
    if field in _SIZES:
        count = size_of(value, where, ', or "unlimited"' if field == "stack" else "")
        if count < _LEAST.get(field, 0):
            least = size(_LEAST[field])
            raise Invalid.of({where: f"at least {least} are needed, not {quoted(value)}"})
        return count
    if field in COUNTS:
        return _whole(field, value, where)
    if field in MAY_BE_ZERO and str(value) in ("0", "0.0"):
        return 0.0
    number = positive(value, where)
    if field == "cpus" and number < CPUS_MIN:
        raise Invalid.of({where: f"at least {CPUS_MIN} of a CPU is needed, not {quoted(value)}"})
    return number


def _whole(field: str, value: Any, where: str) -> int:
    """The value of one of COUNTS."""
    digits = isinstance(value, str) and _COUNT.fullmatch(value)
    count = int(value) if digits else value
    if type(count) is int and COUNTS[field] <= count <= COUNT_MAX:
        return count
    too_high = type(count) is int and count > COUNT_MAX
    bound = f"{COUNT_MAX} or less" if too_high else f"{COUNTS[field]} or more"
    raise Invalid.of({where: f"a whole number, {bound}, is expected, not {quoted(value)}"})


def positive(value: Any, where: str) -> float:
    """A number above 0, also written as a text."""
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError
        number = float(value)
    except (ValueError, OverflowError):
        raise Invalid.of({where: f"a number is expected, not {quoted(value)}"}) from None
    if not math.isfinite(number) or number < sys.float_info.min:  # below it, a float loses digits
        raise Invalid.of({where: f"a number above 0 is expected, not {quoted(value)}"})
    return number


def size_of(value: Any, where: str, other: str = "") -> int:
    """Bytes: a whole number, or a text such as "256m", "1.5g" or "4096" (powers of 1024). `other`
    is for the error: values that the caller takes besides."""
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    match = _SIZE.fullmatch(text.strip()) if len(text) <= 32 else None
    if match is None:
        units = 'a size in bytes, or with a unit such as "256m" or "1g"'
        raise Invalid.of({where: f"{units}{other}, is expected, not {quoted(value)}"})
    size = int(float(match[1]) * (1 << _POWERS[match[2].lower()]))
    if size <= 0:
        raise Invalid.of({where: f"a size above 0 is expected, not {quoted(value)}"})
    return size


def granted(wanted: Mapping[str, Any], ceiling: Limits) -> tuple[dict[str, Any], list[Clamp]]:
    """Fields of Limits, none above `ceiling`, and those that were lowered, by their names."""
    limits = {field: min(value, getattr(ceiling, field)) for field, value in wanted.items()}
    clamps = [clamp(field, wanted[field], limits[field]) for field in wanted
              if limits[field] < wanted[field]]  # fmt: skip
    return limits, sorted(clamps, key=lambda clamp: clamp.name)


def clamp(field: str, requested: float, granted: float) -> Clamp:
    """The clamp of the field `field` of Limits."""
    text = f"from {_text(field, requested)} to {_text(field, granted)}, the most that is allowed"
    return Clamp(client_name(field), requested, granted, text)


def _text(field: str, value: float) -> str:
    if field == "stack" and value >= UNLIMITED:
        return "unlimited"
    if field in _SIZES:
        return size(int(value))
    return f"{value:.10g} s" if field in ("wall_s", "cpu_s", "grace_s") else f"{value:.10g}"


class ClampValue(TypedDict):
    """The requested and the granted value of a limit that was lowered."""

    requested: float
    granted: float


class ClampFields(TypedDict, total=False):
    """The limits that were lowered, by their names."""

    clamped: list[str]
    clamped_values: dict[str, ClampValue]


def clamp_fields(clamps: Sequence[Clamp]) -> ClampFields:
    """The fields of a response that name these clamps, with their values; none without clamps."""
    if not clamps:
        return {}
    values: dict[str, ClampValue] = {
        one.name: {"requested": one.requested, "granted": one.granted} for one in clamps
    }
    return {"clamped": [one.name for one in clamps], "clamped_values": values}


def step_limits(
    default: Limits,
    session: Mapping[str, Any],
    run: Mapping[str, Any],
    ceiling: Limits,
    run_files: int = 0,
) -> tuple[Limits, list[Clamp]]:
    """The limits of a step, and those that had to be lowered. All processes of the step together
    may open `run_files` files; 0: any number. A default that is lowered for that is no news, and
    neither is a limit of the session."""
    items = tuple(session.items()), tuple(run.items())
    limits, lowered = _step_limits(default, *items, ceiling, run_files)
    return limits, list(lowered)


@functools.lru_cache(maxsize=256)
def _step_limits(
    default: Limits,
    session_items: tuple[tuple[str, Any], ...],
    run_items: tuple[tuple[str, Any], ...],
    ceiling: Limits,
    run_files: int,
) -> tuple[Limits, Sequence[Clamp]]:
    """As `step_limits`; most runs of a host have the same few limits."""
    session, run = dict(session_items), dict(run_items)
    limits, lowered = granted(run, replace(ceiling, **session))
    step = replace(default, **{**session, **limits})
    within = within_files(step, run_files)
    if within.nofile < step.nofile and {"pids", "nofile"} & {*run}:
        wanted = run.get("nofile", step.nofile)
        lowered = _with_files(lowered, wanted, within, run_files)
    return within, lowered


def session_limits(
    wanted: Mapping[str, Any], default: Limits, ceiling: Limits, run_files: int
) -> tuple[dict[str, Any], list[Clamp]]:
    """The limits of a session, and those that had to be lowered. `default`: of its exec steps."""
    limits, lowered = granted(wanted, ceiling)
    within = within_files(replace(default, **limits), run_files)
    if within.nofile < limits.get("nofile", 0):
        limits["nofile"] = within.nofile
        lowered = _with_files(lowered, wanted["nofile"], within, run_files)
    return limits, lowered


def _with_files(
    lowered: Sequence[Clamp], wanted: int, within: Limits, run_files: int
) -> list[Clamp]:
    """`lowered` with the clamp of `nofile` to what `within` has, instead of another one."""
    reason = f"{within.pids} processes open at most {run_files} files together"
    text = f"from {wanted} to {within.nofile}: {reason}"
    others = [one for one in lowered if one.name != "nofile"]
    clamps = [*others, Clamp("nofile", wanted, within.nofile, text)]
    return sorted(clamps, key=lambda clamp: clamp.name)


def scratch_size(wanted: int, most: int) -> int:
    """Bytes of a scratch with room for at least `wanted` bytes, `most` at most. The sizes are
    multiples of SCRATCH_STEP, so that they are few: the warden keeps a blank image of each."""
    return min(most, -(-wanted // SCRATCH_STEP) * SCRATCH_STEP)


def variables(values: Mapping[str, Any], where: str) -> dict[str, str]:
    """Environment variables; numbers and truth values become their JSON texts.

    Raises Invalid for a name or value that no program can have.
    """
    if len(values) > VARIABLES_MAX:
        raise Invalid.of({where: f"at most {VARIABLES_MAX} variables are allowed"})
    texts = {name: _variable(name, value, where) for name, value in values.items()}
    size = sum(len(name) + len(text.encode("utf-8", "replace")) for name, text in texts.items())
    if size > ENVIRON_MAX:
        raise Invalid.of({where: f"at most {ENVIRON_MAX} bytes of names and values are allowed"})
    return texts


def _variable(name: str, value: Any, where: str) -> str:
    if not _VARIABLE.fullmatch(name):
        allowed = "a name consists of letters, digits and _ and begins with no digit"
        raise Invalid.of({where: allowed})
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, str):
        raise Invalid.of({f"{where}.{name}": "a text is expected"})
    return program_text(value, f"{where}.{name}")


def program_text(text: str, where: str) -> str:
    """`text`, if it can be an argument or variable of a program: execve(2) takes no NUL.

    Raises Invalid.
    """
    if b"\0" in encoded(text, where):
        raise Invalid.of({where: "a text without NUL is expected"})
    return text


def stored(text: str, where: str) -> str:
    """`text`, if the database can keep it: Unicode, without surrogates. Raises Invalid."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid.of({where: "a text that can be written in UTF-8 is expected"}) from None
    return text


def encoded(text: str, where: str) -> bytes:
    """`text` as UTF-8; U+DC80..U+DCFF stand for single bytes that are not. Raises Invalid."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise Invalid.of({where: "a text that can be written in UTF-8 is expected"}) from None


def quoted(value: Any) -> str:
    """A value of a request for a message: not too long, in printable characters."""
    text = ascii(value)
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."
