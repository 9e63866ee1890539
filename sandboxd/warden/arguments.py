"""The arguments of the api's requests, checked again on the privileged side. No I/O but fstat.

Each function takes its own out of a request and raises Invalid for whatever is not exactly what
wire.py says. Nothing is corrected but limits, which are lowered to the ceilings once more.
"""

from __future__ import annotations

import dataclasses
import os
import stat
import uuid
from typing import Any

from ..errors import Invalid
from ..model import (
    ATTACHMENTS_MAX,
    FOLDER_NAME,
    GIB,
    MIB,
    STEPS,
    Attachment,
    Limits,
    Step,
)

COMMANDS_MAX = 128 * 1024
"""Bytes of all commands and of the environment of a run together."""


def session(request: dict[str, Any]) -> str:
    try:
        return str(uuid.UUID(request.get("session")))
    except (TypeError, ValueError, AttributeError):
        raise Invalid("session is not a UUID") from None


def size(request: dict[str, Any]) -> tuple[int, int]:
    """Bytes and files of a file system to be made."""
    size = integer(request, "size", 16 * MIB, 1024 * GIB)
    return size, integer(request, "inodes", 16, 1 << 31)


def integer(request: dict[str, Any], key: str, least: int, most: int) -> int:
    value = request.get(key)
    if type(value) is not int or not least <= value <= most:
        raise Invalid(f"{key} must be a whole number from {least} to {most}, not {value!r}")
    return value


def steps(request: dict[str, Any], ceiling: Limits) -> tuple[Step, ...]:
    """The three steps of a run, in order, none above the ceilings."""
    given = request.get("steps")
    if not isinstance(given, list) or len(given) != len(STEPS):
        raise Invalid("steps must be clean, build and exec")
    steps = []
    for name, value in zip(STEPS, given, strict=True):
        if not isinstance(value, dict) or value.get("name") != name:
            raise Invalid(f"step {name} is missing")
        command = value.get("command")
        if command is not None and (not isinstance(command, str) or "\0" in command):
            raise Invalid(f"the command of {name} must be a text without NUL")
        steps.append(Step(name, command, _limits(value.get("limits"), ceiling)))
    return tuple(steps)


def _limits(given: Any, ceiling: Limits) -> Limits:
    if not isinstance(given, dict):
        raise Invalid("limits must be an object")
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Limits):
        value: Any = given.get(field.name)
        if type(value) not in (int, float) or not 0 < value < 1 << 60:
            raise Invalid(f"limit {field.name} must be a number above 0")
        values[field.name] = value if field.type == "float" else int(value)
    return Limits(**values).clamped(ceiling)[0]


def runtime(request: dict[str, Any]) -> str:
    """The runtime whose filter a run gets. One that is not configured has that of all."""
    name = request.get("runtime", "")
    if not isinstance(name, str):
        raise Invalid("runtime must be a text")
    return name


def environ(request: dict[str, Any], steps: tuple[Step, ...]) -> dict[str, str]:
    """The variables of a run; they, the commands and a NUL behind each fit COMMANDS_MAX."""
    environ = request.get("environ")
    if not isinstance(environ, dict):
        raise Invalid("environ must be an object")
    for name, value in environ.items():
        if not isinstance(value, str) or not name or "=" in name or "\0" in name + value:
            raise Invalid(f"environment variable {name!r} is not a text without NUL")
    try:
        total = sum(len(os.fsencode(k + v)) + 2 for k, v in environ.items())
        total += sum(len(os.fsencode(step.command or "")) for step in steps)
    except UnicodeEncodeError:
        raise Invalid("commands and environment must have a form in UTF-8") from None
    if total > COMMANDS_MAX:
        raise Invalid(f"commands and environment have {total} bytes; {COMMANDS_MAX} are allowed")
    return environ


def terminal(request: dict[str, Any], given: int | None) -> bool:
    """Whether exec is to have a terminal; then the descriptor `given` is a socket to its user.
    Else it is a file to be read: a directory would be a door out of the jail."""
    wanted = request.get("terminal", False)
    if type(wanted) is not bool:
        raise Invalid("terminal must be true or false")
    if wanted and (given is None or not stat.S_ISSOCK(os.fstat(given).st_mode)):
        raise Invalid("a terminal needs the socket of its user")
    if not wanted and given is not None and not stat.S_ISREG(os.fstat(given).st_mode):
        raise Invalid("standard input must be a regular file")
    return wanted


def runs(request: dict[str, Any]) -> set[int]:
    """The `runs` of a request: numbers. Raises Invalid."""
    given = request.get("runs", [])
    if not isinstance(given, list) or not all(type(n) is int and 0 < n < 1 << 53 for n in given):
        raise Invalid("runs must be a list of numbers above 0")
    return set(given)


def attachments(request: dict[str, Any]) -> tuple[Attachment, ...]:
    """The `mounts` of a request. Raises Invalid: their names become names in the workdir."""
    given = request.get("mounts", [])
    if not isinstance(given, list) or len(given) > ATTACHMENTS_MAX:
        raise Invalid(f"mounts must be a list of at most {ATTACHMENTS_MAX}")
    found = tuple(_attachment(item) for item in given)
    if len({one.name for one in found}) < len(found) or len({a.folder for a in found}) < len(found):
        raise Invalid("mounts must have different folders and names")
    return found


def _attachment(item: Any) -> Attachment:
    if not isinstance(item, dict):
        raise Invalid("a mount must be an object")
    name, read_only = item.get("name"), item.get("read_only")
    if not isinstance(name, str) or not FOLDER_NAME.fullmatch(name):
        raise Invalid(f"{name!r} cannot be the name of a mounted folder")
    if not isinstance(read_only, bool):
        raise Invalid("read_only must be true or false")
    return Attachment(folder_id(item), name, read_only)


def folder_id(request: dict[str, Any]) -> str:
    """The `folder` of a request. Raises Invalid."""
    try:
        return str(uuid.UUID(request.get("folder")))
    except (TypeError, ValueError, AttributeError):
        raise Invalid("folder is not a UUID") from None
