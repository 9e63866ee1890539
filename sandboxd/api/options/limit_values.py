"""The names and values of limits in requests: checked, and turned into our values. No I/O."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from typing import Any

from msgspec import Meta

from ...errors import Invalid
from ...model import MAY_BE_ZERO, MIB, NOFILE_MIN, SCRATCH_MIN, UNLIMITED, size
from .texts import quoted

_SIZE = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,6})?)\s*([kmgtpKMGTP]?)(?:[iI]?[bB])?", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,16}", re.ASCII)
_POWERS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}

MEMORY_MIN = 8 << 20
"""Bytes of memory without which not even a shell can be started."""

STACK_MIN = 1 * MIB
"""Bytes of stack with which the interpreters of a run still start."""

CPUS_MIN = 0.01
"""A hundredth of a CPU: the kernel's shortest quota, 1 ms, in the period of 100 ms."""

SCRATCH_STEP = SCRATCH_MIN
"""Bytes: scratches are multiples of it."""

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


def shown(field: str, value: float) -> str:
    """The value of a field of Limits, for a message."""
    if field == "stack" and value >= UNLIMITED:
        return "unlimited"
    if field in _SIZES:
        return size(int(value))
    return f"{value:.10g} s" if field in ("wall_s", "cpu_s", "grace_s") else f"{value:.10g}"


def scratch_size(wanted: int, most: int) -> int:
    """Bytes of a scratch with room for at least `wanted` bytes, `most` at most. The sizes are
    multiples of SCRATCH_STEP, so that they are few: the warden keeps a blank image of each."""
    return min(most, -(-wanted // SCRATCH_STEP) * SCRATCH_STEP)
