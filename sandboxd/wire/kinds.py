"""The kinds of values that the table of requests (ops.py) uses. No I/O but fstat(2).

Each kind turns a JSON value into a typed one, or raises Invalid for every value that is not exactly
of this kind. Nothing is corrected here. Ceilings depend on the configuration and are the warden's
(warden/requests/run_requests.py).
"""

from __future__ import annotations

import dataclasses
import os
import stat
import uuid
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from ..errors import Invalid
from ..model import (
    ATTACHMENTS_MAX,
    FOLDER_NAME,
    MAY_BE_ZERO,
    STEPS,
    Attachment,
    Limits,
    NetworkGrant,
    Step,
    StepName,
    Workspace,
)

PATH_MAX = 4095
"""Bytes of a path (Linux' PATH_MAX without its NUL): five of them fit a packet in JSON."""

LIMIT_MAX = 1 << 60
"""Above every limit. It keeps numbers from the range in which a float is no whole number."""

_FIELDS: Mapping[type[Any], Mapping[str, str]] = {
    kind: {field.name: str(field.type) for field in dataclasses.fields(kind)}
    for kind in (Limits, Step, Attachment, NetworkGrant, Workspace)
}
"""The records of the requests -> the names of their fields, with their types."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of JSON value. `parse` raises Invalid, whose text says what is expected."""

    name: str
    parse: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A descriptor that comes with a message: its name, and the file types that it may have.

    types     values of stat.S_IFMT
    optional  the message may come without this descriptor
    """

    name: str
    types: frozenset[int]
    optional: bool = False

    def check(self, fd: int) -> None:
        """Raise Invalid when `fd` has another type. A directory, for instance, could lead a program
        out of its jail."""
        if file_type(fd) not in self.types:
            raise Invalid(f"descriptor {self.name} has a file type that is not allowed")


def file_type(fd: int) -> int:
    """The type of the file behind `fd`, see stat.S_IFMT."""
    return stat.S_IFMT(os.fstat(fd).st_mode)


def integer(least: int, most: int) -> Kind:
    """The whole numbers from `least` to `most`."""

    def parse(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise Invalid(f"whole number from {least} to {most} expected, not {_shown(value)}")
        return value

    return Kind(f"{least} to {most}", parse)


def one_of(*texts: str) -> Kind:
    """One of these texts."""

    def parse(value: Any) -> str:
        if value not in texts:
            raise Invalid(f"{' or '.join(texts)} expected, not {_shown(value)}")
        return str(value)

    return Kind("|".join(texts), parse)


def set_of(kind: Kind) -> Kind:
    """A list, in any order, of values of one kind."""

    def parse(value: Any) -> frozenset[Any]:
        if not isinstance(value, list):
            raise Invalid(f"list expected, not {_shown(value)}")
        return frozenset(kind.parse(item) for item in value)

    return Kind(f"list of {kind.name}", parse)


def _uuid(value: Any) -> str:
    try:
        return str(uuid.UUID(value))
    except (TypeError, ValueError, AttributeError):
        raise Invalid(f"UUID expected, not {_shown(value)}") from None


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise Invalid(f"true or false expected, not {_shown(value)}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Invalid(f"text expected, not {_shown(value)}")
    size(value)
    return value


def size(text: str) -> int:
    """The bytes of `text`, as system calls take it. Raises Invalid for a lone surrogate: a request
    with one is refused here, since no later step could do anything with it."""
    try:
        return len(os.fsencode(text))
    except UnicodeEncodeError:
        raise Invalid(f"{_shown(text)} has no form in UTF-8") from None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Invalid(f"object expected, not {_shown(value)}")
    return value


def _environ(value: Any) -> dict[str, str]:
    environ = _object(value)
    for name, text in environ.items():
        if not isinstance(text, str) or not name or "=" in name or "\0" in name + text:
            raise Invalid(f"variable {_shown(name)} is not a text without NUL")
    return environ


def _steps(value: Any) -> tuple[Step, ...]:
    """The three steps of a run, in their order."""
    if not isinstance(value, list) or len(value) != len(STEPS):
        raise Invalid("clean, build and exec expected")
    return tuple(_step(name, item) for name, item in zip(STEPS, value, strict=True))


def _step(name: StepName, value: Any) -> Step:
    step = _record(Step, value)
    if step["name"] != name:
        raise Invalid(f"step {name} expected, not {_shown(step['name'])}")
    command = step["command"]
    if command is not None and (not isinstance(command, str) or "\0" in command):
        raise Invalid(f"the command of {name} must be a text without NUL")
    return Step(name, command, _limits(step["limits"]))


def _limits(value: Any) -> Limits:
    """Limits with their types. A whole number may come as a float."""
    record = _record(Limits, value)
    limits: dict[str, Any] = {}
    for name, type_name in _FIELDS[Limits].items():
        number = record[name]
        zero = number == 0 and name in MAY_BE_ZERO
        if type(number) not in (int, float) or not (zero or 0 < number < LIMIT_MAX):
            raise Invalid(f"limit {name} must be a number above 0")
        limits[name] = number if type_name == "float" else int(number)
    return Limits(**limits)


def _attachments(value: Any) -> tuple[Attachment, ...]:
    """The virtual folders of a session. Their names become names in the workdir."""
    if not isinstance(value, list) or len(value) > ATTACHMENTS_MAX:
        raise Invalid(f"list of at most {ATTACHMENTS_MAX} expected")
    attachments = tuple(_attachment(item) for item in value)
    for field in ("name", "folder"):
        if len({getattr(attachment, field) for attachment in attachments}) < len(attachments):
            raise Invalid(f"two attachments have the same {field}")
    return attachments


def _attachment(value: Any) -> Attachment:
    attachment = _record(Attachment, value)
    name = attachment["name"]
    if not isinstance(name, str) or not FOLDER_NAME.fullmatch(name):
        raise Invalid(f"{_shown(name)} cannot be the name of an attachment")
    return Attachment(_uuid(attachment["folder"]), name, _boolean(attachment["read_only"]))


def _network(value: Any) -> NetworkGrant | None:
    """The network of a session; None: it has none. The warden compares it with the profile."""
    if value is None:
        return None
    grant = _record(NetworkGrant, value)
    hosts = grant["hosts"]
    if not isinstance(hosts, list):
        raise Invalid(f"list expected, not {_shown(hosts)}")
    return NetworkGrant(_text(grant["owner"]), _text(grant["profile"]), tuple(map(_text, hosts)))


def _place(value: Any) -> str:
    """The name of a workspace in the workdir, or ""."""
    if not isinstance(value, str) or (value and not FOLDER_NAME.fullmatch(value)):
        raise Invalid(f"{_shown(value)} cannot be the place of a workspace")
    return value


def _host_path(value: Any) -> str:
    """An absolute path that names one place by its text alone: no dots, no empty names."""
    names = value[1:].split("/") if isinstance(value, str) and value.startswith("/") else [""]
    if {"", ".", ".."} & set(names) or "\0" in value or size(value) > PATH_MAX:
        raise Invalid(f"{_shown(value)} is no absolute path without . and ..")
    return str(value)


def _workspace(value: Any) -> Workspace | None:
    """The workspace of a session, if it has one."""
    if value is None:
        return None
    workspace = _record(Workspace, value)
    ids = {name: ID.parse(workspace[name]) for name in ("uid", "gid")}
    return Workspace(
        _host_path(workspace["path"]), _place(workspace["place"]), **ids,
        seal=_text(workspace["seal"]),
    )  # fmt: skip


def _record(kind: type[Any], value: Any) -> dict[str, Any]:
    """An object with exactly the fields of the dataclass `kind`."""
    record = _object(value)
    exactly(record, _FIELDS[kind].keys(), "field")
    return record


def exactly(record: Mapping[str, Any], names: Set[str], noun: str) -> None:
    """Raise Invalid unless the keys of `record` are exactly `names`."""
    if record.keys() == names:
        return
    for missing in sorted(names - record.keys()):
        raise Invalid(f"{noun} {missing} is missing")
    for unknown in sorted(record.keys() - names):
        raise Invalid(f"unknown {noun} {unknown!r}")


def _shown(value: Any) -> str:
    """`value` for an error message; of a list or object the type only, since it may be deep."""
    return type(value).__name__ if isinstance(value, list | dict) else repr(value)


UUID = Kind("UUID", _uuid)
BOOLEAN = Kind("boolean", _boolean)
TEXT = Kind("text", _text)
OBJECT = Kind("object", _object)
ENVIRON = Kind("variables", _environ)
STEP_LIST = Kind("clean, build, exec", _steps)
ATTACHMENTS = Kind("attachments", _attachments)
NETWORK = Kind("network or null", _network)
HOST_PATH = Kind("path of the host", _host_path)
PLACE = Kind("place", _place)
WORKSPACE = Kind("workspace", _workspace)
ID = integer(1, 0xFFFFFFFE)
"""A uid or gid that is not root's."""

FILE = frozenset({stat.S_IFREG})
SOCKET = frozenset({stat.S_IFSOCK})
