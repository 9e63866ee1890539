"""Requests about a session's runs: start, follow, forget."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Set
from dataclasses import replace

from ...errors import Unavailable
from ...jail.cgroup import Group
from ...jail.stage import stage
from ...model import ConsoleBounds, Limits, Step, most, within_files
from ...shim.run_spec import RunSpec
from ...wire import messages
from ..runs import run_directory, slot_group
from ..runs.emptied_directories import EmptiedDirectories
from ..runs.entries import Entries
from ..runs.jail_entry import Shim, Tenancy
from ..runs.worker import Worker
from ..shared_resources import Resources
from ..slots.scratch import clone_into
from ..slots.slots import RunShare, Slot
from .replies import Result

RUNS_MAX = 256
"""Runs of a slot that have a directory; the api keeps fewer."""

NO_DESCRIPTOR = -1
"""In place of workdir and tmp, which only a shim without a jail of the session gets."""

INIT_LIMITS = ("cpus", "shm", "nofile", "fsize", "pids", "stack")
"""The limits that are part of the jail, or that init has for all steps. A run with others gets
another jail."""


class RunRequests:
    """Acts on runs. `add` takes the shim of each run that starts, one of `entries`; `link` gives
    the run to the broker. `directories` are those of forgotten runs. `meets_others` says whether a
    run of a slot, a terminal or not, has others to send descriptors to."""

    def __init__(
        self, resources: Resources, entries: Entries, directories: EmptiedDirectories,
        add: Callable[[Worker], None], link: Callable[[Slot, int], None],
        meets_others: Callable[[Slot, bool], bool],
    ) -> None:  # fmt: skip
        self._resources = resources
        self._link = link
        self._entries = entries
        self._directories = directories
        self._add = add
        self._meets_others = meets_others

    def start(
        self,
        slot: int,
        session: str,
        run: int,
        shell: str,
        steps: tuple[Step, ...],
        environ: dict[str, str],
        terminal: bool,
        interactive: bool,
        runtime: str,
        stdin: int | None,
    ) -> Result:
        """Start a run: make its cgroup and directory, and give it to a shim."""
        resources, leased = self._resources, self._resources.usable(slot, session)
        if len(run_directory.numbers(leased.path)) >= RUNS_MAX:
            raise Unavailable(f"a session has files of {RUNS_MAX} runs at most")
        path, ceiling = leased.run_path(run), self._ceiling(terminal)
        console = resources.config.console
        bounds = ConsoleBounds(console.head, console.tail, console.input_s)
        run_files = resources.config.run_files
        limited = tuple(
            Step(step.name, step.command, within_files(step.limits.clamped(ceiling)[0], run_files))
            for step in steps
        )
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as stack:
            undo.callback(run_directory.remove, path)
            files = run_directory.make(leased, run, stack)
            followers = run_directory.followers(path, files)
            undo.callback(messages.close_all, followers)
            spec = RunSpec(
                slot=slot, run=run, uid=leased.uid, gid=leased.gid, runtime=runtime,
                group=Group({}), workdir=NO_DESCRIPTOR, tmp=NO_DESCRIPTOR, folders=(),
                console=files.console, journal=files.journal, listener=files.listener,
                reader=files.reader, uid_lease=leased.uid_lease.fileno(), stdin=stdin,
                terminal=terminal, interactive=interactive, shell=shell, steps=limited,
                environ=environ, bounds=bounds, tied=resources.tied,
                stays=self._may_stay(leased, terminal), network=leased.network is not None,
                meets_others=self._meets_others(leased, terminal),
            )  # fmt: skip
            shim, group = self._resume(spec, leased) or self._begin(spec, leased, undo, stack)
            worker = Worker(shim.pid, leased, run, group, shim.pidfd, terminal)
            undo.callback(worker.kill)  # before all else: a run that is refused must not go on
            self._add(worker)
            leased.runs[run] = shim.pid
            self._link(leased, run)
            undo.pop_all()
        resources.host_files.look()
        return Result(descriptors=followers)

    def _may_stay(self, slot: Slot, terminal: bool) -> bool:
        """The shim of a run may have the next one of the session. Not with a workspace: each run
        opens the directory anew, since the host may have moved it or have put another one there."""
        return self._entries.warm_s > 0 and not terminal and slot.workspace is None

    def _resume(self, spec: RunSpec, slot: Slot) -> tuple[Shim, Group] | None:
        """Give the run to the shim of an earlier run of its session, if one is warm."""
        entry = None if spec.terminal else self._entries.warm(self._tenancy(spec, slot))
        if entry is None or entry.tenancy is None:
            return None
        group = entry.tenancy.group
        run_directory.note(slot.run_path(spec.run), group)
        with contextlib.ExitStack() as undo:
            undo.callback(slot_group.leave, self._resources.hierarchy, slot, spec.run)
            self._share(spec, slot, group, is_warm=True)
            if shim := self._entries.resume(entry, spec):
                undo.pop_all()
                return shim, group
        return None

    def _share(self, spec: RunSpec, slot: Slot, group: Group, is_warm: bool = False) -> None:
        """Bound the group of the slot for the run, too."""
        share = RunShare(most(step.limits for step in spec.steps), group, spec.terminal)
        slot_group.join(self._resources.hierarchy, slot, spec.run, share, is_warm)

    def _begin(
        self, spec: RunSpec, slot: Slot, undo: contextlib.ExitStack, stack: contextlib.ExitStack
    ) -> tuple[Shim, Group]:
        """Give the run to a shim that has seen no session, in a group of its own."""
        resources = self._resources
        group = resources.hierarchy.run_group(slot.number, spec.run)
        undo.callback(resources.hierarchy.remove_slot, slot.number)
        undo.callback(group.remove)
        undo.callback(slot_group.leave, resources.hierarchy, slot, spec.run)
        self._share(spec, slot, group)
        run_directory.note(slot.run_path(spec.run), group)
        workdir, tmp = self._workplaces(slot, stack)
        folders = resources.folders_of(slot, stack)
        spec = replace(spec, group=group, workdir=workdir, tmp=tmp, folders=folders)
        return self._entries.begin(spec, self._tenancy(spec, slot), resources.jail()), group

    def _tenancy(self, spec: RunSpec, slot: Slot) -> Tenancy:
        limits = most(step.limits for step in spec.steps)
        raised = tuple(getattr(limits, name) for name in INIT_LIMITS)
        return Tenancy(slot, spec.group, self._resources.jail(), spec.runtime, raised)

    def _ceiling(self, terminal: bool) -> Limits:
        config = self._resources.config
        if terminal:
            return replace(config.ceiling, wall_s=config.terminal.wall_s)
        return config.ceiling

    def _workplaces(self, slot: Slot, stack: contextlib.ExitStack) -> tuple[int, int]:
        """Clones of the slot's workdir and /tmp."""
        with stage("run directory"):
            workdir = clone_into(stack, f"{slot.scratch}/work")
            return workdir, clone_into(stack, f"{slot.scratch}/tmp")

    def follow(self, slot: int, session: str, run: int, begun: bool) -> Result:
        """The descriptors of a run that an earlier daemon was to start. Nothing is left of a run
        that never began; one that has `begun` is over, though a power cut may have taken its files.
        """
        leased = self._resources.usable(slot, session)
        path = leased.run_path(run)
        if run not in leased.runs and not run_directory.began(path):
            run_directory.remove(path)
            if not begun:
                return Result({"there": False})
            run_directory.make_empty(path)
        return Result({"there": True}, run_directory.followers(path))

    def forget(self, slot: int, session: str, runs: Set[int]) -> Result:
        """Empty the directories of `runs`, each as soon as its run is over."""
        self._directories.forget(self._resources.leased(slot, session), runs)
        return Result()
