"""Requests about a session's runs: start, follow, forget."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Set
from dataclasses import replace

from ... import wire
from ...errors import Unavailable
from ...jail.cgroup import Group
from ...jail.enter import Jail
from ...jail.stage import stage
from ...model import Limits, Step, most, within_files
from ...shim.run_spec import RunSpec
from ..runs import launcher, run_directory, slot_group
from ..runs.worker import Worker
from ..shared_resources import Resources
from ..slots.leases import RunShare, Slot
from ..slots.scratch import clone_into
from .remount import remount_if_suspect
from .replies import Result

RUNS_MAX = 256
"""Runs of a slot that have a directory; the api keeps fewer."""


class RunRequests:
    """Acts on runs. `add` takes the shim of each run that starts."""

    def __init__(self, resources: Resources, add: Callable[[Worker], None]) -> None:
        self._resources = resources
        self._add = add

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
        """Start a run: make its cgroup and directory, and fork its shim."""
        resources, leased = self._resources, self._resources.usable(slot, session)
        remount_if_suspect(resources, leased)
        if len(run_directory.numbers(leased.path)) >= RUNS_MAX:
            raise Unavailable(f"a session has files of {RUNS_MAX} runs at most")
        path, ceiling = leased.run_path(run), self._ceiling(terminal)
        run_files = resources.config.run_files
        limited = tuple(
            replace(step, limits=within_files(step.limits.clamped(ceiling)[0], run_files))
            for step in steps
        )
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as stack:
            group = resources.hierarchy.run_group(slot, run)
            undo.callback(resources.hierarchy.remove_slot, slot)
            undo.callback(group.remove)
            undo.callback(slot_group.leave, resources.hierarchy, leased, run)
            share = RunShare(most(step.limits for step in limited), group, terminal)
            slot_group.join(resources.hierarchy, leased, run, share)
            undo.callback(run_directory.remove, path)
            files = run_directory.make(path, group, stack)
            workdir, tmp = self._workplaces(leased, stack)
            folders = resources.folders.clones(leased, stack)
            spec = RunSpec(
                slot, run, leased.uid, leased.gid, self._jail(runtime, group), workdir, tmp,
                folders, files.console, files.journal, files.listener, leased.lock.fileno(), stdin,
                terminal, interactive, shell, limited, environ, resources.config.console,
                resources.tied,
            )  # fmt: skip
            followers = run_directory.followers(path)
            undo.callback(wire.close_all, followers)
            pid = launcher.start_shim(spec)
            undo.pop_all()
        leased.runs[run] = pid
        self._add(Worker(pid, leased, run, group, terminal=terminal))
        return Result(descriptors=followers)

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

    def _jail(self, runtime: str, group: Group) -> Jail:
        """The jail of a run. A runtime that is not configured has the filter of all."""
        resources = self._resources
        filter = resources.filters.get(runtime, resources.filter)
        paths, view = resources.config.rootfs.paths, resources.host_files.current()
        return Jail(resources.root, paths, view, resources.outside, filter, group)

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
        """Remove the directories of `runs`, each as soon as its run is over."""
        leased = self._resources.leased(slot, session)
        for run in runs:
            run_directory.forget(leased, run)
        return Result()
