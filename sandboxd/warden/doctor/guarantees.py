"""The guarantees of this host, each tried for real: `sandboxd doctor`, and at every start.

protections/ has the list of guarantees with their meaning and remedy; PROBES has the probe of each.
All probes run at once, in children, in a moment, and nothing of them stays. A guarantee that
`require` of the configuration names must hold, or the daemon does not start. The others are
reported to the operator and to clients.

Taking a name out of `require` makes no run weaker: a run without a protection is stopped
(jail/enter.py). It only lets a daemon start whose runs would fail.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from functools import partial

from ... import protections
from ...config.settings import Config
from ...errors import ConfigError
from ...model import Guarantee
from ...protections.protection import HostGuarantee
from ...protections.remedies import remedy
from ..runs.cgroups import Hierarchy
from .probes import Probe, ProbeContext, isolation, limits, machine, storage
from .trial import Trial, TrialOutcome
from .trial_directory import directory as trial_directory

SECONDS = 60.0
"""Time for all probes together; a healthy host takes a tenth of a second. The limit is for a probe
that hangs, not for a slow host: a virtual machine without KVM on a busy host needs more than 10 s.
It is less than TimeoutStartSec= of the unit."""

PROBES: dict[str, Probe] = {
    "mount-namespace": isolation.namespace("mnt"),
    "pid-namespace": isolation.pid_namespace,
    "network-namespace": isolation.namespace("net"),
    "ipc-namespace": isolation.namespace("ipc"),
    "uts-namespace": isolation.namespace("uts"),
    "cgroup-namespace": isolation.namespace("cgroup"),
    "sealed-mounts": isolation.sealed_mounts,
    "own-inodes": isolation.own_inodes,
    "devices": isolation.devices,
    "own-proc": isolation.own_proc,
    "loopback": isolation.loopback,
    "packet-copies": isolation.packet_copies,
    "privileges": isolation.privileges,
    "no-new-privs": isolation.no_new_privs,
    "rlimits": isolation.limits,
    "seccomp": isolation.filter,
    "whole-run": isolation.whole_run,
    "cgroup-memory": limits.memory,
    "cgroup-pids": limits.processes,
    "cgroup-cpu": limits.cpu,
    "no-swap": limits.swap,
    "cgroup-kill": limits.kill,
    "peaks": limits.peaks,
    "file-locks": limits.file_locks,
    "connections": limits.connections,
    "openat2": storage.paths,
    "scratch": storage.scratch,
    "idmapped-mounts": storage.mapped,
    "workspaces": storage.workspaces,
    "protected-hardlinks": storage.hard_links,
    "uids": machine.uids,
    "interpreter": machine.interpreter,
    "clock": machine.clock,
    "disk": machine.disk,
    "memory": machine.memory,
    "tasks": machine.tasks,
    "open-files": machine.open_files,
    "delegation": machine.delegation,
}

SEQUENTIAL = {
    "mount-namespace", "network-namespace", "ipc-namespace", "uts-namespace", "cgroup-namespace",
    "sealed-mounts", "own-inodes", "devices", "loopback", "openat2", "uids", "interpreter", "clock",
    "disk", "memory", "tasks", "open-files", "delegation", "file-locks",
    "connections",
}  # fmt: skip
"""Probes that follow one another in one child, at half the price. The others have a child of their
own: they take long, or take away what later probes need."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of TABLE: a guarantee of the list and its probe. `alone`: in a child of its own."""

    guarantee: HostGuarantee
    probe: Probe
    alone: bool

    @property
    def name(self) -> str:
        """The name of the guarantee."""
        return self.guarantee.name


TABLE = tuple(
    Entry(row, PROBES[row.name], row.name not in SEQUENTIAL) for row in protections.guarantees()
)


def check_names(config: Config) -> None:
    """Raise ConfigError for a required guarantee that does not exist."""
    known = [entry.name for entry in TABLE]
    for name in config.require.guarantees:
        if name not in known:
            raise ConfigError(
                f"require.guarantees: there is no {name!r}; known: {', '.join(known)}"
            )


def find(config: Config, uid: int, hierarchy: Hierarchy | str) -> tuple[Guarantee, ...]:
    """Try all of TABLE. `uid` is the unprivileged half's. `hierarchy` is the text of the failure
    where the daemon can create no cgroups.

    Leaves nothing behind, also when it is broken off. Raises ConfigError where the state directory
    cannot be written to.
    """
    deadline = time.monotonic() + SECONDS
    outcomes: dict[str, TrialOutcome] = {}
    with trial_directory(config.state_dir) as directory, contextlib.ExitStack() as undo:
        if isinstance(hierarchy, Hierarchy):
            undo.callback(limits.tidy, hierarchy)
        host = ProbeContext(config, uid, directory, hierarchy)
        acts = {entry.name: partial(entry.probe, host) for entry in TABLE}
        alone = [entry.name for entry in TABLE if entry.alone]
        trials = [undo.enter_context(Trial({name: acts.pop(name)})) for name in alone]
        trials.append(undo.enter_context(Trial(acts)))
        for trial in trials:
            outcomes |= trial.outcomes(deadline)
    required = config.require.guarantees
    return tuple(_guarantee(entry, outcomes[entry.name], required) for entry in TABLE)


def _guarantee(entry: Entry, outcome: TrialOutcome, required: tuple[str, ...]) -> Guarantee:
    row = entry.guarantee
    cause = outcome.remedy or remedy(row.kernel, outcome.errno, os.uname().release, row.remedy)
    return Guarantee(
        row.group,
        row.name,
        row.meaning,
        outcome.done,
        row.name in required,
        outcome.text,
        "" if outcome.done else "; ".join(filter(None, (cause, row.without))),
    )


def stop_if_missing(guarantees: tuple[Guarantee, ...]) -> None:
    """Raise ConfigError for the first guarantee that is required and does not hold."""
    for one in guarantees:
        if one.required and not one.held:
            raise ConfigError(
                f"this host does not guarantee {describe(one)}; see 'sandboxd doctor'"
            )


def describe(missing: Guarantee) -> str:
    """A missing guarantee in one line, with its remedy."""
    return f"{missing.name} ({missing.meaning}): {missing.detail}; {missing.remedy}"
