"""The specification of a run: all values that the warden passes to the shim of the run.

They travel as one packet, an order, with the descriptors beside it (wire/messages.py).
"""

from __future__ import annotations

import dataclasses
import socket
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from ..jail.cgroup import Group
from ..jail.mounts import FolderMount
from ..model import ATTACHMENTS_MAX, ConsoleBounds, Limits, Step, limit_values
from ..wire import messages

ORDER = messages.LONGEST
"""Bytes of an order at most: the arguments of a request `start`, and some more."""

_PLAIN = ("slot", "run", "uid", "gid", "runtime", "terminal", "interactive", "shell", "environ",
            "tied", "stays", "network", "meets_others")  # fmt: skip
"""The fields that an order has as they are."""
_NEXT = ("run", "interactive", "shell", "environ", "stays", "meets_others")
"""The same of an order for the next run of a session."""
DESCRIPTORS_MAX = 8 + ATTACHMENTS_MAX
"""Descriptors of an order at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """The values of one run. The descriptors are the shim's own.

    group        the cgroup of the run
    listener     the control socket
    reader       the shim's end of its first connection
    uid_lease    the lease of the slot's uid; it lasts while the shim still is root
    stdin        standard input of exec; None: a pipe
    terminal     exec has a terminal instead, and `stdin` is the socket to its user
    interactive  standard input and output of exec are a terminal, whose user types through the api
    tied         the run ends with its warden
    stays        the shim may stay for the next run of the session
    network      the run has a socket for a broker
    meets_others programs of other runs can get descriptors from its programs
    """

    slot: int
    run: int
    uid: int
    gid: int
    runtime: str
    group: Group
    workdir: int
    tmp: int
    folders: tuple[FolderMount, ...]
    console: int
    journal: int
    listener: socket.socket
    reader: socket.socket
    uid_lease: int
    stdin: int | None
    terminal: bool
    interactive: bool
    shell: str
    steps: tuple[Step, ...]
    environ: dict[str, str]
    bounds: ConsoleBounds
    tied: bool
    stays: bool = False
    network: bool = False
    meets_others: bool = False

    def order(self) -> tuple[dict[str, Any], list[int]]:
        """The packet with these values, and its descriptors, which stay the caller's."""
        message = {name: getattr(self, name) for name in _PLAIN}
        message |= {
            "group": self.group.dirs,
            "shims": self.group.shims,
            "steps": _packed(self.steps),
            "bounds": _bound_values(self.bounds),
            "folders": packed_folders(self.folders),
            "stdin": self.stdin is not None,
        }
        stdin = [] if self.stdin is None else [self.stdin]
        fixed = [
            self.workdir, self.tmp, self.console, self.journal, self.listener.fileno(),
            self.reader.fileno(), self.uid_lease,
        ]  # fmt: skip
        return message, [*fixed, *stdin, *(folder.source for folder in self.folders)]

    @classmethod
    def of_order(cls, message: dict[str, Any], fds: list[int]) -> RunSpec:
        """The values of an order, whose descriptors are now those of the specification."""
        workdir, tmp, console, journal, listener, reader, uid_lease, *others = fds
        stdin = others.pop(0) if message["stdin"] else None
        return cls(
            **{name: message[name] for name in _PLAIN},
            group=Group(message["group"], message["shims"]),
            steps=_unpacked(message["steps"]),
            bounds=ConsoleBounds(*message["bounds"]),
            folders=unpacked_folders(message["folders"], others),
            workdir=workdir, tmp=tmp, console=console, journal=journal,
            listener=_socket(listener), reader=_socket(reader), uid_lease=uid_lease, stdin=stdin,
        )  # fmt: skip

    def next_order(self) -> tuple[dict[str, Any], list[int]]:
        """The packet of this run for a shim that has a jail of the session, and its descriptors."""
        message = {name: getattr(self, name) for name in _NEXT}
        message |= {
            "steps": _packed(self.steps),
            "bounds": _bound_values(self.bounds),
            "stdin": self.stdin is not None,
        }
        fds = [self.console, self.journal, self.listener.fileno(), self.reader.fileno()]
        return message, fds + ([] if self.stdin is None else [self.stdin])

    def following(self, message: dict[str, Any], fds: list[int]) -> RunSpec:
        """The run of an order that follows this run in its jail."""
        return dataclasses.replace(
            self,
            **{name: message[name] for name in _NEXT},
            steps=_unpacked(message["steps"]),
            bounds=ConsoleBounds(*message["bounds"]),
            console=fds[0],
            journal=fds[1],
            listener=_socket(fds[2]),
            reader=_socket(fds[3]),
            stdin=fds[4] if message["stdin"] else None,
        )


_bound_values = attrgetter(*ConsoleBounds.__slots__)


def _socket(fd: int) -> socket.socket:
    """A socket of an order. With its type, Python does not ask the kernel for it."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fd)


def packed_folders(folders: tuple[FolderMount, ...]) -> list[Any]:
    """The folders as a message has them, without their descriptors."""
    return [[each.parent, each.name, each.attributes, each.host] for each in folders]


def unpacked_folders(folders: list[Any], fds: list[int]) -> tuple[FolderMount, ...]:
    """The folders of a message, with the descriptors `fds`."""
    return tuple(
        FolderMount(parent, name, fd, attributes, host)
        for (parent, name, attributes, host), fd in zip(folders, fds, strict=True)
    )


def _packed(steps: tuple[Step, ...]) -> list[Any]:
    return [[step.name, step.command, limit_values(step.limits)] for step in steps]


def _unpacked(steps: list[Any]) -> tuple[Step, ...]:
    """Steps with the same limits share them: they mostly do."""
    known: list[Any] = []
    unpacked = []
    for name, command, limits in steps:
        if limits != known:
            known, shared = limits, Limits(*limits)
        unpacked.append(Step(name, command, shared))
    return tuple(unpacked)
