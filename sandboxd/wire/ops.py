"""The table of the warden's requests, `OPS`, and the checks that follow; only fstat(2) is I/O.

This table is the whole privileged surface of sandboxd. Both sides read it: the warden checks each
request (`RequestChecker`) and finds the act by its name (warden/requests/dispatcher.py), the api's
client checks each reply (`check_reply`), and the tests' fake warden checks as the warden does.

    request  {"op": name, "id": number, and exactly the arguments of the table}
    reply    {"id", "ok": true, and the fields of the table}, or
             {"id", "ok": false, "error", "kind", "stage", "errno"}, where kind is "stage"
             (StageError), "unavailable" or "invalid", whose texts are for clients too, or "fault",
             whose text is for the log

Descriptors travel beside a message, in the order of the table. Replies carry the `id` of their
request and may come in any order. One message of the warden is no reply: {"config": ...}, with the
values as dataclasses.asdict has them. The warden sends it after it has read the configuration
again (SIGHUP), since the api may not open the file.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import Invalid
from ..model import INODES_MAX, INODES_MIN, SCRATCH_MAX, SCRATCH_MIN, SLOTS_MAX
from .kinds import (
    ATTACHMENTS,
    BOOLEAN,
    ENVIRON,
    FILE,
    HOST_PATH,
    ID,
    NETWORK,
    OBJECT,
    PLACE,
    SOCKET,
    STEP_LIST,
    TEXT,
    UUID,
    WORKSPACE,
    Descriptor,
    Kind,
    exactly,
    file_type,
    integer,
    one_of,
    set_of,
    size,
)

COMMANDS_MAX = 128 * 1024
"""Bytes of all commands and of the environment of a run together."""

NUMBER = integer(0, (1 << 53) - 1)
"""The `id` of a request."""

_NO_KINDS: Mapping[str, Kind] = {}


@dataclass(frozen=True, slots=True)
class Op:
    """One request that the api may make of the warden.

    arguments   name -> kind; every argument is required
    sends       the descriptors that come with the request
    rule        checks the arguments and descriptors against each other; raises Invalid
    reply       name -> kind of the fields of the reply
    returns     the descriptors that come with the reply
    returns_if  name of the boolean field that says whether they come; "": they always do
    once        the request is allowed once
    before      name of a request after which this one is allowed no longer; "": always allowed
    later       the warden serves other requests until it has the reply
    scratch     it needs the scratch of the slot: one that takes no changes is mounted anew before,
                and the warden serves other requests until then
    """

    name: str
    purpose: str
    arguments: Mapping[str, Kind] = field(default_factory=lambda: _NO_KINDS)
    sends: tuple[Descriptor, ...] = ()
    rule: Callable[[Mapping[str, Any]], None] | None = None
    reply: Mapping[str, Kind] = field(default_factory=lambda: _NO_KINDS)
    returns: tuple[Descriptor, ...] = ()
    returns_if: str = ""
    once: bool = False
    before: str = ""
    later: bool = False
    scratch: bool = False


def _check_start(arguments: Mapping[str, Any]) -> None:
    """`stdin` is the socket of the user when exec has a terminal, and else a regular file. An
    interactive exec has neither, because it reads what clients type. The variables and the
    commands, with a NUL behind each, fit COMMANDS_MAX."""
    stdin = arguments["stdin"]
    is_socket = stdin is not None and file_type(stdin) == stat.S_IFSOCK
    if arguments["terminal"] and not is_socket:
        raise Invalid("a terminal needs the socket of its user")
    if not arguments["terminal"] and is_socket:
        raise Invalid("standard input must be a regular file")
    if arguments["interactive"] and stdin is not None:
        raise Invalid("an interactive run reads what its client types, and no file or socket")
    texts = [step.command or "" for step in arguments["steps"]]
    texts += [f"{name}={value}" for name, value in arguments["environ"].items()]
    needed = sum(size(text) + 1 for text in texts)
    if needed > COMMANDS_MAX:
        raise Invalid(f"commands and environment have {needed} bytes; {COMMANDS_MAX} are allowed")


def _check_places(arguments: Mapping[str, Any]) -> None:
    """A workspace and the virtual folders have different places."""
    workspace = arguments["workspace"]
    if workspace and workspace.place in [
        attachment.name for attachment in arguments["attachments"]
    ]:
        raise Invalid("the workspace and an attachment have the same name")


_SESSION = {"slot": integer(0, SLOTS_MAX - 1), "session": UUID}
_SIZE = {
    "size": integer(SCRATCH_MIN, SCRATCH_MAX), "inodes": integer(INODES_MIN, INODES_MAX),
}  # fmt: skip
_RUN = integer(1, 1 << 53)
_RUNS = {"runs": set_of(_RUN)}
_PEER = Descriptor("peer", SOCKET)
_STDIN = Descriptor("stdin", FILE | SOCKET, optional=True)
_HELPER = (Descriptor("helper", SOCKET),)
_FOLLOWERS = (
    Descriptor("control", SOCKET), Descriptor("console", FILE), Descriptor("journal", FILE),
    Descriptor("cursor", FILE),
)  # fmt: skip

OPS: Mapping[str, Op] = {
    op.name: op
    for op in (
        Op(
            "ready",
            "the api accepts connections; slots that it has not adopted are removed",
            once=True,
            later=True,
        ),
        Op("ping", "the state of the warden, see warden/vitals.py", reply={"vitals": OBJECT}),
        Op(
            "sweep",
            "removes leaks; the report is a file of JSON, see warden/leaks/sweep.py",
            returns=(Descriptor("report", FILE),),
            later=True,
        ),
        Op(
            "grant",
            "grants a directory of the user at the other end of the connection `peer` to a session",
            {"session": UUID, "path": HOST_PATH, "place": PLACE},
            sends=(_PEER,),
            reply={"uid": ID, "gid": ID, "seal": TEXT},
            later=True,
        ),
        Op(
            "lease",
            "leases a slot to a session and makes its scratch; the api flushes the file with the "
            "name of the session, if it comes with the reply",
            {
                "session": UUID, "owner": TEXT, **_SIZE, "attachments": ATTACHMENTS,
                "network": NETWORK, "workspace": WORKSPACE,
            },
            rule=_check_places,
            reply={"slot": _SESSION["slot"]},
            returns=(Descriptor("name", FILE, optional=True),),
            later=True,
        ),
        Op(
            "adopt",
            "takes up a slot of an earlier daemon, with those of `runs` that go on",
            {
                **_SESSION, "owner": TEXT, "attachments": ATTACHMENTS, "network": NETWORK,
                "workspace": WORKSPACE, **_RUNS,
            },
            rule=_check_places,
            before="ready",
            later=True,
        ),
        Op(
            "start",
            "starts a run; its number is one that the session has not used before",
            {
                **_SESSION, "run": _RUN, "shell": one_of("/bin/sh", "/bin/bash"),
                "steps": STEP_LIST, "environ": ENVIRON, "terminal": BOOLEAN,
                "interactive": BOOLEAN, "runtime": TEXT,
            },
            sends=(_STDIN,),
            rule=_check_start,
            returns=_FOLLOWERS,
            scratch=True,
        ),
        Op(
            "follow",
            "the descriptors of a run that an earlier daemon was to start, if it is `there`; with "
            "`begun` it is known to have begun, and counts as there whatever the disk has lost",
            {**_SESSION, "run": _RUN, "begun": BOOLEAN},
            reply={"there": BOOLEAN},
            returns=_FOLLOWERS,
            returns_if="there",
        ),
        Op(
            "forget",
            "removes the directories of runs as soon as they are over",
            {**_SESSION, **_RUNS},
        ),
        Op(
            "files",
            "starts a file helper for a session",
            _SESSION,
            returns=_HELPER,
            scratch=True,
        ),
        Op("release", "ends everything in a slot and frees it", _SESSION, later=True),
        Op("folder_make", "makes a virtual folder", {"folder": UUID, **_SIZE}, later=True),
        Op(
            "folder_files",
            "starts a file helper for a virtual folder",
            {"folder": UUID},
            returns=_HELPER,
            later=True,
        ),
        Op(
            "folder_remove",
            "removes a virtual folder that no session has",
            {"folder": UUID},
            later=True,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """A request that has passed all checks. `arguments` has the descriptors too, by name."""

    op: Op
    arguments: dict[str, Any]


class RequestChecker:
    """Checks the requests of one conversation, and their order."""

    def __init__(self) -> None:
        self._accepted: set[str] = set()

    def check(self, message: Mapping[str, Any], fds: Sequence[int]) -> Request:
        """The request in `message`, whose descriptors stay the caller's. Raises Invalid.

        A request counts for the order when it is accepted, also if it fails later.
        """
        name = message.get("op")
        op = OPS.get(name) if isinstance(name, str) else None
        if op is None:
            raise Invalid(f"unknown request {name!r}" if isinstance(name, str) else "no request")
        NUMBER.parse(message.get("id"))
        if (op.once and name in self._accepted) or op.before in self._accepted:
            raise Invalid(f"{name} is not allowed any more")
        values = {key: value for key, value in message.items() if key not in ("op", "id")}
        arguments = _parse(op.arguments, values, "argument") | _descriptors(op.sends, fds)
        if op.rule:
            op.rule(arguments)
        self._accepted.add(op.name)
        return Request(op, arguments)


def check_reply(op: Op, message: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """The fields of a reply whose `ok` is true, with the descriptors `fds`. Raises Invalid."""
    fields = {key: value for key, value in message.items() if key not in ("id", "ok")}
    reply = _parse(op.reply, fields, "field")
    expected = op.returns if not op.returns_if or reply[op.returns_if] else ()
    _descriptors(expected, fds)
    return reply


def _parse(kinds: Mapping[str, Kind], values: Mapping[str, Any], noun: str) -> dict[str, Any]:
    """The typed `values`, which are exactly those that `kinds` names."""
    exactly(values, kinds.keys(), noun)
    parsed = {}
    for name, kind in kinds.items():
        try:
            parsed[name] = kind.parse(values[name])
        except Invalid as mismatch:
            raise Invalid(f"{noun} {name}: {mismatch.public}") from None
    return parsed


def _descriptors(expected: Sequence[Descriptor], fds: Sequence[int]) -> dict[str, int | None]:
    """Name -> descriptor; None for an optional one, always the last, that did not come."""
    required = sum(not one.optional for one in expected)
    if not required <= len(fds) <= len(expected):
        raise Invalid(f"{len(fds)} descriptors came with a message that has {len(expected)}")
    named: dict[str, int | None] = {one.name: None for one in expected}
    for descriptor, fd in zip(expected, fds, strict=False):
        descriptor.check(fd)
        named[descriptor.name] = fd
    return named
