"""What the api may ask of the warden, checked again on this side, and what is done for it.

One method a request; `wire.py` has the table. The api is not trusted with root, so nothing that
it sends is believed: slots must be leased, limits are clamped to the ceilings once more, and no
text of a client is ever a path here: run directories are named by numbers, folders by UUIDs. The
place of a folder in a workdir is named by one component of a harmless alphabet.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from .. import wire
from ..config import Config
from ..errors import ConfigError, Invalid, SandboxdError, StageError, Unavailable
from ..free_space import FreeSpace
from ..jail import namespaces, seccomp
from ..jail.cgroup import Group
from ..jail.enter import Jail
from ..jail.mounts import clone
from ..jail.stage import stage
from ..model import GIB, MIB
from ..shim.run_spec import RunSpec
from . import arguments
from .leaks.rule import slot_of_group
from .runs import launcher
from .runs import run_directory as run_files
from .runs.cgroups import Hierarchy
from .slots import durable, images, proof
from .slots.folders import FOLDER_UID, FolderStore
from .slots.leases import SLOTS_MAX, Slot, Slots, end_uid
from .slots.proof import Remains
from .slots.scratch import ScratchMaker

STRAYS_S = 10.0
"""How long the processes of a killed daemon may take to end."""

HELPERS_S = 1.0
"""How long its file helpers have to end what they do; they see that nobody is there."""

MEND_ROOM = 16 * MIB
"""Bytes of disk that a scratch may need to come to itself: its journal, and some."""

MEND_S = 1.0
"""How long a mount may take to go after the last process that saw it."""

RUNS_MAX = 256
"""Runs of a slot that have a directory; the api keeps fewer."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that works for a slot, or, without one, for a virtual folder.

    group  its cgroup when it is a shim
    pidfd  of a shim that an earlier daemon has started, which is no child of ours
    terminal  its run is one, which ends when its user or the daemon goes
    """

    pid: int
    slot: Slot | None
    run: int | None
    group: Group | None
    pidfd: int | None = None
    terminal: bool = False


class Requests:
    """The acts of the warden. Raises SandboxdError; what was half done is undone."""

    def __init__(self, config: Config, hierarchy: Hierarchy, tied: bool = False) -> None:
        self.config = config
        self.tied = tied  # runs end with this daemon
        self.hierarchy = hierarchy
        self.slots = Slots(config.slots, config.state_dir)
        self.scratch = ScratchMaker(config.scratch, config.state_dir)
        self.folders = FolderStore(config.state_dir)
        self.root = f"{config.state_dir}/root"
        self.outside = namespaces.current()
        self.filter = seccomp.compile()
        self.filters = _filters(config)
        os.makedirs(self.root, mode=0o700, exist_ok=True)

    def renew(self, config: Config) -> None:
        """Go by another configuration from now on, but for what stays (config_file.RESTART).

        Raises what keeps it from being used, and then nothing has changed.
        """
        self.filters = _filters(config)
        self.config = config

    def forget_strays(self) -> list[str]:
        """Once the api has adopted its sessions: end the runs and remove the slots that are
        none's."""
        slots = self.slots.leased.values()
        known = {f"{slot.number}.{run}" for slot in slots for run in slot.runs}
        self._end([group for group in self.hierarchy.groups() if group.name not in known])
        return self.slots.forget()

    def _end(self, groups: Sequence[Group]) -> None:
        """Kill all that is in `groups`, and remove them. Raises StageError."""
        for group in groups:
            group.kill()
        deadline = time.monotonic() + STRAYS_S
        while left := [group for group in groups if not group.remove()]:
            if time.monotonic() > deadline:
                raise StageError("sweep", f"cannot be ended: {left[0].members()}")
            time.sleep(0.01)
        for group in groups:
            self.hierarchy.tidy(group)

    def lease(self, request: dict[str, Any]) -> tuple[Slot, Callable[[], None]]:
        """A slot for `session`, and what makes it ready: a scratch of `size` bytes and `inodes`.
        That takes the disk's time, may be done in a child, and raises StageError."""
        session = arguments.session(request)
        size, inodes = arguments.size(request)
        wanted = arguments.attachments(request)
        with stage("lease"):
            slot = self.slots.lease(session, set(map(slot_of_group, self.groups())))
        try:
            self.folders.lend(slot, wanted)
        except (SandboxdError, OSError):
            self.free(slot)
            raise

        def make() -> None:
            self.scratch.make(slot.path, slot.uid, size, inodes)
            with stage("lease"):
                for one in wanted:  # where they are seen; no program has been here yet
                    os.mkdir(f"{slot.scratch}/work/{one.name}")
                durable.settle(slot.scratch)
                self.slots.commit(slot)

        return slot, make

    def adopt(self, request: dict[str, Any]) -> tuple[list[Worker], StageError | None]:
        """The slot that an earlier daemon leased to `session`, mounted again: what still runs of
        its `runs`. All else that has its uid is ended, and the directories of other runs go.

        An error beside it: the slot is leased, for its files may be somebody's only ones, but
        they cannot be had.
        """
        number = arguments.integer(request, "slot", 0, SLOTS_MAX)
        wanted, runs = arguments.attachments(request), arguments.runs(request)
        if self.config.scratch.kind == "tmpfs":
            raise Invalid("a scratch in memory does not survive a restart")
        slot = self.slots.adopt(number, arguments.session(request))
        slot.ready = True
        started: list[Worker] = []
        try:
            self._find_living(slot, runs, started)
            end_uid(slot.uid, lambda: _processes(started), HELPERS_S)
            self.scratch.mount(slot.path, 1024 * GIB, 0)
            self.folders.lend(slot, wanted)
        except StageError as error:
            return started, error
        return started, None

    def _find_living(self, slot: Slot, wanted: Set[int], found: list[Worker]) -> None:
        """Add to `found` the shims of those of the `wanted` runs that go on. Of others that are
        there the groups go and, if they are not wanted, the directories."""
        over = []
        for run in run_files.numbers(slot.path):
            path = slot.run_path(run)
            shim = run_files.living(path, slot.uid) if run in wanted else None
            if shim is None:
                over.append(run_files.group(path))
            else:
                slot.runs[run], pidfd = shim
                found.append(Worker(shim[0], slot, run, run_files.group(path), pidfd))
            if run not in wanted:
                run_files.remove(path)
        self._end(over)

    def free(self, slot: Slot) -> None:
        """Take everything back from a slot whose processes are gone, and wait for it. Raises
        StageError when something is left, which the next sweep tries again."""
        kept = self.vacate(slot)
        left = proof.empty(self.config.state_dir, slot.number, slot.uid, kept)
        self.emptied(slot, left)

    def vacate(self, slot: Slot) -> list[int]:
        """Take a slot whose processes are gone away from its session; what keeps its file
        systems, for proof.empty."""
        kept = self.folders.take_back(slot)
        if (fd := images.detach(slot.scratch)) is not None:
            kept.append(fd)
        self.slots.vacate(slot)
        return kept

    def emptied(self, slot: Slot, left: Remains) -> None:
        """This is `left` of a slot. Raises StageError when that is more than the dead."""
        if not left:
            self.slots.release(slot)
            return
        self.slots.stuck.add(slot.number)
        if left.things:
            told = ", ".join(left.things)
            raise StageError("release", f"slot {slot.number} cannot be emptied: {told}")

    def groups(self) -> dict[str, Group]:
        """The groups of all runs, by name."""
        return {group.name: group for group in self.hierarchy.groups()}

    def leased(self, request: dict[str, Any]) -> Slot:
        """The slot that a request names, while it is the slot of the session that it names.

        A request that was under way when its session ended must not meet the next tenant.
        """
        number = arguments.integer(request, "slot", 0, self.config.slots.count - 1)
        slot = self.slots.leased.get(number)
        if slot is None or not slot.ready or slot.session != arguments.session(request):
            raise Invalid(f"slot {number} is not leased to this session")
        return slot

    def files(self, request: dict[str, Any]) -> tuple[Worker, int]:
        """A file helper for a slot, and the descriptor to speak with it."""
        slot = self.leased(request)
        self._mend(slot)
        with contextlib.ExitStack() as stack:
            with stage("file helper"):
                root = _clone(slot.scratch, stack)
            title = f"sandboxd: files slot {slot.number}"
            view = launcher.HelperView(title, slot.uid, root, self.folders.clones(slot, stack))
            pid, fd = self._helper(view)
            return Worker(pid, slot, None, None), fd

    def folder_make(self, request: dict[str, Any]) -> Callable[[], None]:
        """What makes a new virtual folder of `size` bytes and `inodes`, as in `lease`."""
        folder, size = arguments.folder_id(request), arguments.size(request)
        return lambda: self.folders.make(folder, *size)

    def folder_remove(self, request: dict[str, Any]) -> None:
        """Remove a virtual folder that no session has."""
        self.folders.remove(arguments.folder_id(request))

    def folder_files(self, request: dict[str, Any]) -> tuple[Worker, int]:
        """A file helper for a virtual folder, and the descriptor to speak with it."""
        folder = arguments.folder_id(request)
        root = self.folders.open(folder)
        try:
            pid, fd = self._helper(
                launcher.HelperView(f"sandboxd: files {folder}", FOLDER_UID, root)
            )
            return Worker(pid, None, None, None), fd
        finally:
            os.close(root)

    def _helper(self, view: launcher.HelperView) -> tuple[int, int]:
        """The pid of a file helper, and a descriptor to speak with it."""
        with stage("file helper"):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            return launcher.start_helper(view, theirs, self.root), ours.detach()

    def start(self, request: dict[str, Any], stdin: int | None) -> tuple[Worker, list[int]]:
        """A run: its shim, and the descriptors to follow it: control, console, journal."""
        slot = self.leased(request)
        self._mend(slot)
        run = arguments.integer(request, "run", 1, 1 << 53)
        terminal = arguments.terminal(request, stdin)
        ceiling = self.config.ceiling
        if terminal:
            ceiling = replace(ceiling, wall_s=self.config.terminal.wall_s)
        steps = arguments.steps(request, ceiling)
        environ = arguments.environ(request, steps)
        shell = "/bin/bash" if request.get("shell") == "/bin/bash" else "/bin/sh"
        path = slot.run_path(run)
        if len(run_files.numbers(slot.path)) >= RUNS_MAX:
            raise Unavailable(f"at most {RUNS_MAX} runs of a session are kept")
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as stack:
            group = self.hierarchy.group(f"{slot.number}.{run}")
            undo.callback(group.remove)
            undo.callback(run_files.remove, path)
            files = run_files.make(path, group, stack)
            with stage("run directory"):
                workdir, tmp = (_clone(f"{slot.scratch}/{name}", stack) for name in ("work", "tmp"))
            folders = self.folders.clones(slot, stack)
            rootfs = self.config.rootfs
            filter = self.filters.get(arguments.runtime(request), self.filter)
            jail = Jail(self.root, rootfs.paths, rootfs.etc, self.outside, filter, group)
            order = RunSpec(
                slot.number, run, slot.uid, slot.gid, jail, workdir, tmp, folders, files.console,
                files.journal, files.listener, slot.lock.fileno(), stdin, terminal, shell, steps,
                environ, self.config.console, self.tied,
            )  # fmt: skip
            followers = run_files.followers(path)
            undo.callback(wire.close_all, followers)
            pid = launcher.start_shim(order)
            undo.pop_all()
        slot.runs[run] = pid
        return Worker(pid, slot, run, group, terminal=terminal), followers

    def look_at_room(self) -> bool:
        """The disk has room for what scratches need. Those that are there while it has none may
        find out later that something of theirs was not written (jbd2), and shut themselves off."""
        room = FreeSpace.at(self.config.state_dir).holds(MEND_ROOM, 0)
        if not room:
            for slot in self.slots.leased.values():
                slot.suspect = True
        return room

    def _mend(self, slot: Slot) -> None:
        """Mount the scratch of `slot` anew after the disk was full, which ext4 needs: what was on
        the disk then is good. As long as there is no room, or a run has it, it stays as it is."""
        if not self.look_at_room() or slot.runs or not (slot.suspect or _shut(slot.scratch)):
            return
        self.scratch.unmount(slot.path)
        deadline = time.monotonic() + MEND_S
        while self.scratch.in_use(slot.path) and time.monotonic() < deadline:
            time.sleep(0.01)  # by who has just ended; else nothing is mended
        self.scratch.mount(slot.path, 1024 * GIB, 0)
        slot.suspect = False

    def follow(self, request: dict[str, Any]) -> list[int]:
        """The descriptors to follow a run that an earlier daemon was asked for; none, when it
        never began, of which nothing is left then. One that is known to have `begun` is over,
        though the disk may have lost all of it with the power."""
        slot = self.leased(request)
        run = arguments.integer(request, "run", 1, 1 << 53)
        path = slot.run_path(run)
        if run not in slot.runs and not run_files.began(path):
            run_files.remove(path)
            if request.get("begun") is not True:
                return []
            run_files.make_up(path)
        return run_files.followers(path)

    def forget(self, request: dict[str, Any]) -> None:
        """Remove the directories of runs, as soon as each is over."""
        slot = self.leased(request)
        for run in arguments.runs(request):
            if run in slot.runs:
                slot.forgotten.add(run)
            else:
                run_files.remove(slot.run_path(run))

    def ended(self, slot: Slot, run: int) -> None:
        """A run is over."""
        slot.runs.pop(run, None)
        if run in slot.forgotten:
            slot.forgotten.discard(run)
            run_files.remove(slot.run_path(run))


def _processes(started: Sequence[Worker]) -> set[int]:
    """Every process of these runs."""
    groups = [one.group.members() for one in started if one.group]
    return {one.pid for one in started}.union(*groups)


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


def _shut(scratch: str) -> bool:
    """It takes no changes. Only trying tells: since Linux 6.13 no flag of the mount does."""
    try:
        os.utime(scratch)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EIO):
            raise StageError.of("scratch", error) from None
        return True
    return False


def _clone(path: str, stack: contextlib.ExitStack) -> int:
    fd = clone(path)
    stack.callback(os.close, fd)
    return fd
