"""The rules for the values of a configuration, as a table. No I/O.

toml_file.py checks the type of each value; the rules here bound it. A key ends with `.*` where one
rule holds for every value of a table, and with `[]` where it holds for every item of a list. Where
two rules name one value, the first of them decides.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .. import log
from ..errors import ConfigError
from ..model import (
    INODES_MAX,
    INODES_MIN,
    MAY_BE_ZERO,
    MIB,
    SCRATCH_MAX,
    SCRATCH_MIN,
    SLOTS_MAX,
    STEPS,
    TIB,
    UNLIMITED,
)  # fmt: skip
from . import network_profiles
from .settings import Config


@dataclass(frozen=True, slots=True)
class Rule:
    """The allowed values of the key `key`: in words for the operator, and as a test."""

    key: str
    allowed: str
    holds: Callable[[Any], bool]


def one_of(key: str, *values: str) -> Rule:
    """The value is one of `values`."""
    allowed = " or ".join(f'"{value}"' for value in values)
    return Rule(key, allowed, lambda value: value in values)


def at_least(key: str, bound: float, unit: str = "") -> Rule:
    """The value is not below `bound`."""
    return Rule(key, _with_unit(f"{bound:g} or more", unit), lambda value: value >= bound)


def above_zero(key: str, unit: str = "") -> Rule:
    """The value is positive."""
    return Rule(key, _with_unit("above 0", unit), lambda value: value > 0)


def share(key: str) -> Rule:
    """The value is a part of a whole; above 1 it would promise more than the kernel allows."""
    return Rule(key, "above 0 and at most 1", lambda value: 0 < value <= 1)


def between(key: str, low: int, high: int, words: str) -> Rule:
    """The value is neither below `low` nor above `high`; `words` say so."""
    return Rule(key, words, lambda value: low <= value <= high)


def _with_unit(allowed: str, unit: str) -> str:
    return f"{allowed}, in {unit}" if unit else allowed


def _below_cgroup_root(path: str) -> bool:
    return not path.startswith("/") and ".." not in path.split("/")


def _are_plain(paths: tuple[str, ...]) -> bool:
    return all(os.path.isabs(p) and p == os.path.normpath(p) and p.strip("/") for p in paths)


IMAGE_SIZE = f"between {SCRATCH_MIN // MIB} MiB and {SCRATCH_MAX // TIB} TiB, in bytes"
IMAGE_INODES = f"between {INODES_MIN} and {INODES_MAX}"

RULES = (
    one_of("auth", "keypair", "none"),
    one_of("log", *log.FORMS),
    one_of("log_level", *log.LEVELS),
    Rule("state_dir", "an absolute path", os.path.isabs),
    Rule("rootfs.paths[]", 'absolute paths, such as "/usr"', os.path.isabs),
    Rule("workspaces.paths", 'absolute paths, such as "/srv/builds", and not "/"', _are_plain),
    Rule("cgroup", "a path below /sys/fs/cgroup", _below_cgroup_root),
    at_least("sweep_s", 1, "seconds"),
    at_least("disk_floor", 0, "bytes"),
    at_least("run_files", 0),
    at_least("rate_limit", 1, "requests per 900 s"),
    # The last uid of the slots is below the uid of virtual folders (warden/slots/folders.py).
    between("slots.first_uid", 1000, 0x7FFE0000, "between 1000 and 2147352576"),
    between("slots.count", 1, SLOTS_MAX, f"between 1 and {SLOTS_MAX}"),
    one_of("scratch.kind", "image", "tmpfs"),
    between("scratch.size", SCRATCH_MIN, SCRATCH_MAX, IMAGE_SIZE),
    between("scratch.inodes", INODES_MIN, INODES_MAX, IMAGE_INODES),
    between("scratch.spares", 0, 64, "between 0 and 64"),
    between("folders.size", SCRATCH_MIN, SCRATCH_MAX, IMAGE_SIZE),
    between("folders.inodes", INODES_MIN, INODES_MAX, IMAGE_INODES),
    at_least("folders.count", 0),
    above_zero("folders.token_s", "seconds"),
    share("admission.tasks"),
    share("admission.owner.tasks"),
    above_zero("admission.*"),
    between("runs.prepared", 0, 256, "between 0 and 256"),
    between("runs.warm_s", 0, 60, "between 0 and 60 seconds"),
    at_least("console.keep_s", 0, "seconds"),
    above_zero("console.*"),
    above_zero("files.*"),
    one_of("stop.runs", "keep", "drain"),
    at_least("stop.grace_s", 0, "seconds"),
    at_least("http.*", 1),
    at_least("sessions.*", 0),
    above_zero("terminal.*", "seconds"),
    above_zero("limits.*"),
    above_zero("ceiling.*"),
)


def check(config: Config) -> None:
    """Raise ConfigError for the first value that breaks a rule."""
    for key, value, rule in bounded(config):
        may_be_zero = value == 0 and key.rpartition(".")[2] in MAY_BE_ZERO
        if not rule.holds(value) and not may_be_zero:
            raise ConfigError(f"{key} must be {rule.allowed}, not {value!r}")
    network_profiles.check(config.network)
    for step in STEPS:
        _, lowered = getattr(config.limits, step).clamped(config.ceiling)
        if lowered:
            raise ConfigError(_above_ceiling(config, step, lowered[0]))


def _above_ceiling(config: Config, step: str, name: str) -> str:
    value, most = getattr(getattr(config.limits, step), name), getattr(config.ceiling, name)
    shown = '"unlimited"' if name == "stack" and value >= UNLIMITED else f"{value:.16g}"
    return (
        f"limits.{step}.{name} is {shown}, above ceiling.{name}, which is {most:.16g}; lower the "
        "limit, or raise the ceiling"
    )


def bounded(config: Config) -> Iterator[tuple[str, Any, Rule]]:
    """Each value for which there is a rule, with its full name and the rule that decides."""
    decided = set[str]()
    for rule in RULES:
        named = list(values(config, rule.key))
        yield from ((key, value, rule) for key, value in named if key not in decided)
        decided.update(key for key, _ in named)


def values(config: Config, key: str) -> Iterator[tuple[str, Any]]:
    """The values for which a rule holds, with their full names."""
    name = key.removesuffix(".*").removesuffix("[]")
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    if key.endswith("[]"):
        yield from ((name, item) for item in value)
    elif name != key:
        yield from leaves(f"{name}.", value)
    else:
        yield key, value


def leaves(name: str, table: Any) -> Iterator[tuple[str, Any]]:
    """Every value of a table and of the tables in it, with `name` before its key."""
    for field in dataclasses.fields(table):
        value = getattr(table, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(f"{name}{field.name}.", value)
        else:
            yield f"{name}{field.name}", value
