"""The limits that sessions and runs get. No I/O.

Limits come from three places, of which the later ones win: the configuration's default for the
step, the session's resources, the run's own options. No limit may exceed the configuration's
ceiling, and no limit of a run may exceed its session's resources. The limits that had to be lowered
are returned.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict

from ...model import Limits, within_files
from ...runs.plan import Clamp
from .limit_values import client_name, shown


def granted(wanted: Mapping[str, Any], ceiling: Limits) -> tuple[dict[str, Any], list[Clamp]]:
    """Fields of Limits, none above `ceiling`, and those that were lowered, by their names."""
    limits = {field: min(value, getattr(ceiling, field)) for field, value in wanted.items()}
    clamps = [clamp(field, wanted[field], limits[field]) for field in wanted
              if limits[field] < wanted[field]]  # fmt: skip
    return limits, sorted(clamps, key=lambda clamp: clamp.name)


def clamp(field: str, requested: float, granted: float) -> Clamp:
    """The clamp of the field `field` of Limits."""
    text = f"from {shown(field, requested)} to {shown(field, granted)}, the most that is allowed"
    return Clamp(client_name(field), requested, granted, text)


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
