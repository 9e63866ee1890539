"""What the api may ask of the warden, checked again on this side, and what is done for it.

One method a request; `wire.py` has the table. The api is not trusted with root, so nothing that
it sends is believed: slots must be leased, limits are clamped to the ceilings once more, and no
text of a client is ever a path here: run directories are named by numbers, folders by UUIDs. The
place of a folder in a workdir is named by one component of a harmless alphabet.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from .. import wire
from ..config import Config
from ..errors import ConfigError, Invalid, SandboxdError, StageError, Unavailable
from ..jail import namespaces, seccomp
from ..jail.cgroup import Group
from ..jail.enter import Jail
from ..jail.mounts import clone
from ..jail.stage import stage
from ..model import GIB
from ..shim.run import Order
from . import arguments, launcher
from .cgroups import Hierarchy
from .folders import FOLDER_UID, Folders
from .scratch import ScratchMaker
from .slots import Slot, Slots

STRAYS_S = 10.0
"""How long the processes of a killed daemon may take to end."""


@dataclass(frozen=True, slots=True)
class Started:
    """A process that works for a slot, or, without one, for a virtual folder.

    group  its cgroup when it is a shim
    """

    pid: int
    slot: Slot | None
    run: int | None
    group: Group | None


class Requests:
    """The acts of the warden. Raises SandboxdError; what was half done is undone."""

    def __init__(self, config: Config, hierarchy: Hierarchy) -> None:
        self.config = config
        self.hierarchy = hierarchy
        self.slots = Slots(config.slots, config.state_dir)
        self.scratch = ScratchMaker(config.scratch, config.state_dir)
        self.folders = Folders(config.state_dir)
        self.root = f"{config.state_dir}/root"
        self.outside = namespaces.current()
        self.filter = seccomp.compile()
        self.filters = _filters(config)
        os.makedirs(self.root, mode=0o700, exist_ok=True)

    def renew(self, config: Config) -> None:
        """Go by another configuration from now on; see config.RESTART for what stays. Raises what
        keeps it from being used, and then nothing has changed."""
        self.filters = _filters(config)
        self.config = config

    def end_strays(self) -> None:
        """At start: end the runs that an earlier daemon, killed, has left behind."""
        groups = self.hierarchy.groups()
        for group in groups:
            group.kill()
        deadline = time.monotonic() + STRAYS_S
        while groups := [group for group in groups if not group.remove()]:
            if time.monotonic() > deadline:
                raise StageError("sweep", f"cannot be ended: {groups[0].members()}")
            time.sleep(0.01)

    def forget_strays(self) -> list[str]:
        """Once the api has adopted its sessions: remove the slots that are none's."""
        return self.slots.forget()

    def lease(self, request: dict[str, Any]) -> Slot:
        """A slot with a scratch of `size` bytes and `inodes`, for `session`."""
        session = arguments.session(request)
        size, inodes = arguments.size(request)
        wanted = arguments.attachments(request)
        with stage("lease"):
            slot = self.slots.lease(session)
        try:
            self.scratch.make(slot.path, slot.uid, size, inodes)
            self.folders.lend(slot, wanted)
            with stage("lease"):
                for one in wanted:  # where they are seen; no program has been here yet
                    os.mkdir(f"{slot.scratch}/work/{one.name}")
                self.slots.commit(slot)
        except SandboxdError:
            self.free(slot)
            raise
        return slot

    def adopt(self, request: dict[str, Any]) -> Slot:
        """The slot that an earlier daemon leased to `session`, mounted again."""
        number = arguments.integer(request, "slot", 0, self.config.slots.count - 1)
        wanted = arguments.attachments(request)
        slot = self.slots.adopt(number, arguments.session(request))
        try:
            if self.config.scratch.kind == "tmpfs":
                raise Unavailable("a scratch in memory does not survive a restart")
            self.scratch.mount(slot.path, 1024 * GIB, 0)
            self.folders.lend(slot, wanted)
        except SandboxdError:
            self.free(slot)
            raise
        return slot

    def free(self, slot: Slot) -> None:
        """Take everything back from a slot whose processes are gone."""
        self.folders.take_back(slot)
        self.scratch.unmount(slot.path)
        self.slots.release(slot)

    def leased(self, request: dict[str, Any]) -> Slot:
        """The slot that a request names, while it is the slot of the session that it names.

        A request that was under way when its session ended must not meet the next tenant.
        """
        number = arguments.integer(request, "slot", 0, self.config.slots.count - 1)
        slot = self.slots.leased.get(number)
        if slot is None or slot.session != arguments.session(request):
            raise Invalid(f"slot {number} is not leased to this session")
        return slot

    def files(self, request: dict[str, Any]) -> tuple[Started, int]:
        """A file helper for a slot, and the descriptor to speak with it."""
        slot = self.leased(request)
        with contextlib.ExitStack() as stack:
            with stage("file helper"):
                root = _clone(slot.scratch, stack)
            title = f"sandboxd: files slot {slot.number}"
            view = launcher.View(title, slot.uid, root, self.folders.clones(slot, stack))
            pid, fd = self._helper(view)
            return Started(pid, slot, None, None), fd

    def folder_make(self, request: dict[str, Any]) -> None:
        """A new virtual folder of `size` bytes and `inodes`."""
        self.folders.make(arguments.folder_id(request), *arguments.size(request))

    def folder_remove(self, request: dict[str, Any]) -> None:
        """Remove a virtual folder that no session has."""
        self.folders.remove(arguments.folder_id(request))

    def folder_files(self, request: dict[str, Any]) -> tuple[Started, int]:
        """A file helper for a virtual folder, and the descriptor to speak with it."""
        folder = arguments.folder_id(request)
        root = self.folders.open(folder)
        try:
            pid, fd = self._helper(launcher.View(f"sandboxd: files {folder}", FOLDER_UID, root))
            return Started(pid, None, None, None), fd
        finally:
            os.close(root)

    def _helper(self, view: launcher.View) -> tuple[int, int]:
        """The pid of a file helper, and a descriptor to speak with it."""
        with stage("file helper"):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            return launcher.start_helper(view, theirs, self.root), ours.detach()

    def start(self, request: dict[str, Any], stdin: int | None) -> tuple[Started, list[int]]:
        """A run: its shim, and the descriptors to follow it: control, console, journal."""
        slot = self.leased(request)
        run = arguments.integer(request, "run", 1, 1 << 53)
        terminal = arguments.terminal(request, stdin)
        ceiling = self.config.ceiling
        if terminal:
            ceiling = replace(ceiling, wall_s=self.config.terminal.wall_s)
        steps = arguments.steps(request, ceiling)
        environ = arguments.environ(request, steps)
        shell = "/bin/bash" if request.get("shell") == "/bin/bash" else "/bin/sh"
        path = slot.run_path(run)
        self._prune(slot)
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as stack:
            with stage("run directory"):
                os.mkdir(path, 0o700)
                undo.callback(shutil.rmtree, path, ignore_errors=True)
                console, journal = _spool(path, stack)
                listener = _listen(path, stack)
                workdir, tmp = (_clone(f"{slot.scratch}/{name}", stack) for name in ("work", "tmp"))
            folders = self.folders.clones(slot, stack)
            group = self.hierarchy.group(f"{slot.number}.{run}")
            undo.callback(group.remove)
            rootfs = self.config.rootfs
            filter = self.filters.get(arguments.runtime(request), self.filter)
            jail = Jail(self.root, rootfs.paths, rootfs.etc, self.outside, filter, group)
            order = Order(
                slot.number, run, slot.uid, slot.gid, jail, workdir, tmp, folders, console, journal,
                listener, stdin, terminal, shell, steps, environ, self.config.console,
            )  # fmt: skip
            followers = _followers(path)
            undo.callback(wire.close_all, followers)
            pid = launcher.start_shim(order)
            undo.pop_all()
        slot.runs[run] = pid
        return Started(pid, slot, run, group), followers

    def _prune(self, slot: Slot) -> None:
        """Remove the oldest runs that are over; who reads one has it open."""
        runs = sorted(int(name) for name in os.listdir(f"{slot.path}/runs"))
        over = [run for run in runs if run not in slot.runs]
        for run in over[: max(0, len(over) - self.config.console.runs_kept + 1)]:
            shutil.rmtree(slot.run_path(run), ignore_errors=True)


def _filters(config: Config) -> dict[str, seccomp.Filter]:
    """Runtime -> system call filter, where it is not the one of all. Raises ConfigError."""
    filters = {}
    for name, runtime in config.runtimes.items():
        if runtime.seccomp_allow or runtime.seccomp_refuse:
            try:
                filters[name] = seccomp.compile(runtime.seccomp_allow, runtime.seccomp_refuse)
            except ConfigError as error:
                raise ConfigError(f"runtimes.{name}.seccomp_*: {error}") from None
    return filters


def _clone(path: str, stack: contextlib.ExitStack) -> int:
    fd = clone(path)
    stack.callback(os.close, fd)
    return fd


def _spool(path: str, stack: contextlib.ExitStack) -> tuple[int, int]:
    """The console and the journal of a run, new, for its shim to write."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    console = os.open(f"{path}/console", flags, 0o600)
    stack.callback(os.close, console)
    journal = os.open(f"{path}/journal", flags | os.O_APPEND, 0o600)
    stack.callback(os.close, journal)
    return console, journal


def _listen(path: str, stack: contextlib.ExitStack) -> socket.socket:
    """The control socket of a run."""
    sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    with _short(path) as directory:
        sock.bind(f"{directory}/control")
    sock.listen(8)
    return sock


def _followers(path: str) -> list[int]:
    """What the api gets of a run: a connection to its control socket, its files to read."""
    with stage("follow"), contextlib.ExitStack() as undo:
        control = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        with _short(path) as directory:
            control.connect(f"{directory}/control")
        read = os.O_RDONLY | os.O_CLOEXEC
        console = os.open(f"{path}/console", read)
        undo.callback(os.close, console)
        journal = os.open(f"{path}/journal", read)
        undo.pop_all()
        return [control.detach(), console, journal]


@contextlib.contextmanager
def _short(path: str) -> Iterator[str]:
    """A short name of the directory `path`: that of a socket has 107 bytes at most (unix(7))."""
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
