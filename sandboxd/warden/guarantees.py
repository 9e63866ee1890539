"""What this host can guarantee, found out by doing it: `sandboxd doctor`, and at every start.

A guarantee is a name with a probe (probes/). All are tried at once, in children, in a moment, and
nothing of it stays. What `require` of the configuration names must hold, or the
daemon does not start; of the rest an operator is told, and so are clients.

Taking a name out of `require` makes no run weaker: what a run needs and cannot have stops it
(jail/enter.py). It only lets a daemon start whose runs would fail.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from functools import partial

from ..config import Config
from ..errors import ConfigError
from ..model import Guarantee
from .cgroups import Hierarchy
from .probes import Host, Probe, isolation, limits, machine, storage
from .trial import Outcome, Trial
from .trial_directory import directory as trial_directory

SECONDS = 60.0
"""What all probes together may take; a healthy host takes a tenth of a second. A limit here is for
a probe that hangs, and never for a host that is slow: a virtual machine without KVM, on a busy
host, needs more than 10 s. It is less than TimeoutStartSec= of the unit."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of TABLE.

    meaning  what holds
    remedy   what to do when it does not
    alone    in a child of its own, since it takes its time, or what those after it need; the
             others follow one another in one, which is half the price
    """

    group: str
    name: str
    meaning: str
    probe: Probe
    remedy: str
    alone: bool = False


_KERNEL = "use a kernel of Linux 5.12 or newer with {}"
_CONTAINER = "in a container, give it CAP_SYS_ADMIN and no seccomp or AppArmor profile of its own"
_NAMESPACE = f"use a kernel with {{}}; {_CONTAINER}"
_CGROUP = (
    "give the daemon a cgroup with this controller: cgroup v2 with Delegate=yes (the unit has it), "
    "or v1 with memory, pids, cpu and cpuacct mounted"
)


TABLE = (
    Entry(
        "isolation", "mount-namespace", "a run has a view of files of its own",
        isolation.namespace("mnt"), _NAMESPACE.format("namespaces"),
    ),
    Entry(
        "isolation", "pid-namespace", "a run sees and signals its own processes only",
        isolation.pid_namespace, _NAMESPACE.format("CONFIG_PID_NS"), alone=True,
    ),
    Entry(
        "isolation", "network-namespace", "a run has a network of its own",
        isolation.namespace("net"), _NAMESPACE.format("CONFIG_NET_NS"),
    ),
    Entry(
        "isolation", "ipc-namespace", "a run has System V and POSIX IPC of its own",
        isolation.namespace("ipc"), _NAMESPACE.format("CONFIG_IPC_NS"),
    ),
    Entry(
        "isolation", "uts-namespace", "a run has a host name of its own",
        isolation.namespace("uts"), _NAMESPACE.format("CONFIG_UTS_NS"),
    ),
    Entry(
        "isolation", "cgroup-namespace", "a run does not see the host's cgroups",
        isolation.namespace("cgroup"), _NAMESPACE.format("CONFIG_CGROUPS"),
    ),
    Entry(
        "isolation", "sealed-mounts", "the host's files are shown read-only, by descriptor",
        isolation.sealed_mounts, _KERNEL.format("open_tree, move_mount and mount_setattr"),
    ),
    Entry(
        "isolation", "devices", "the six harmless devices can be made", isolation.devices,
        "in a container, allow mknod and the devices 1:3 1:5 1:7 1:8 1:9 5:0",
    ),
    Entry(
        "isolation", "own-proc", "/proc shows a run its own processes only", isolation.own_proc,
        _CONTAINER, alone=True,
    ),
    Entry(
        "isolation", "loopback", "a loopback of its own, and no other way out",
        isolation.loopback, _CONTAINER,
    ),
    Entry(
        "isolation", "privileges", "uid, groups and capabilities are given up for good",
        isolation.privileges, "give it CAP_SETUID, CAP_SETGID and CAP_SETPCAP: run it as root",
        alone=True,
    ),
    Entry(
        "isolation", "no-new-privs", "no program can give privileges back",
        isolation.no_new_privs, _KERNEL.format("no_new_privs"), alone=True,
    ),
    Entry(
        "isolation", "rlimits", "limits of each process cannot be raised", isolation.limits,
        "raise the limits of the daemon itself (LimitNOFILE= and the like)", alone=True,
    ),
    Entry(
        "isolation", "seccomp", "system calls are filtered", isolation.filter,
        "install libseccomp2; use a kernel with CONFIG_SECCOMP_FILTER and user notification (5.0)",
        alone=True,
    ),
    Entry(
        "isolation", "whole-run", "all of it together, from cgroup to exit code",
        isolation.whole_run, "see what else is missing, and the stage that is named here",
        alone=True,
    ),
    Entry(
        "limits", "cgroup-memory", "memory of all processes of a run is limited",
        limits.memory, _CGROUP, alone=True,
    ),
    Entry(
        "limits", "cgroup-pids", "the number of processes is limited",
        limits.processes, _CGROUP, alone=True,
    ),
    Entry(
        "limits", "cgroup-cpu", "the share of CPU is limited", limits.cpu, _CGROUP, alone=True,
    ),
    Entry(
        "limits", "no-swap", "memory is not evaded by swap", limits.swap,
        "boot with swapaccount=1, or turn swap off (swapoff -a)", alone=True,
    ),
    Entry(
        "limits", "cgroup-kill", "all processes of a run end at once", limits.kill,
        _CGROUP, alone=True,
    ),
    Entry(
        "limits", "peaks", "the most that a step used is known", limits.peaks,
        "use a newer kernel; without it usage says 0", alone=True,
    ),
    Entry(
        "files", "openat2", "names of clients cannot lead out of a session", storage.paths,
        _KERNEL.format("openat2"),
    ),
    Entry(
        "files", "scratch", "a session's disk has a fixed size", storage.scratch,
        'load the module loop and install e2fsprogs, or set scratch.kind to "tmpfs"', alone=True,
    ),
    Entry(
        "files", "idmapped-mounts", "virtual folders: sessions with mounts", storage.mapped,
        "use Linux 5.12 or newer with user namespaces and loop devices, or do without folders",
        alone=True,
    ),
    Entry(
        "files", "protected-hardlinks", "nobody links to the files of others",
        storage.hard_links, "sysctl fs.protected_hardlinks=1", alone=True,
    ),
    Entry(
        "host", "uids", "the uids of the slots are nobody's", machine.uids,
        "choose another slots.first_uid",
    ),
    Entry(
        "host", "interpreter", "the unprivileged half can read Python and sandboxd",
        machine.interpreter, "use the system's python3, /usr/bin/python3",
    ),
    Entry("host", "clock", "signatures can be checked", machine.clock, "set the clock (NTP)"),
    Entry(
        "host", "disk", "there is room for a session", machine.disk,
        "free some, or lower scratch.size",
    ),
    Entry(
        "host", "memory", "there is room for a run", machine.memory,
        "free some, or lower limits.exec.memory",
    ),
    Entry(
        "host", "delegation", "the cgroups are the daemon's to change", machine.delegation,
        "run it with the units of systemd/, and name their configuration with --config",
    ),
)  # fmt: skip


def check_names(config: Config) -> None:
    """Raise ConfigError for a required guarantee that there is not."""
    known = [entry.name for entry in TABLE]
    for name in config.require.guarantees:
        if name not in known:
            raise ConfigError(
                f"require.guarantees: there is no {name!r}; known: {', '.join(known)}"
            )


def find(config: Config, uid: int, hierarchy: Hierarchy | str) -> tuple[Guarantee, ...]:
    """Try all of TABLE. `uid` is the unprivileged half's; `hierarchy` is text where there is none.

    Leaves nothing behind, also when it is broken off. Raises ConfigError where the state directory
    cannot be written to.
    """
    deadline = time.monotonic() + SECONDS
    outcomes: dict[str, Outcome] = {}
    with trial_directory(config.state_dir) as directory, contextlib.ExitStack() as undo:
        if isinstance(hierarchy, Hierarchy):
            undo.callback(limits.tidy, hierarchy)
        host = Host(config, uid, directory, hierarchy)
        acts = {entry.name: partial(entry.probe, host) for entry in TABLE}
        alone = [entry.name for entry in TABLE if entry.alone]
        trials = [undo.enter_context(Trial({name: acts.pop(name)})) for name in alone]
        trials.append(undo.enter_context(Trial(acts)))
        for trial in trials:
            outcomes |= trial.outcomes(deadline)
    required = config.require.guarantees
    return tuple(_guarantee(entry, outcomes[entry.name], required) for entry in TABLE)


def _guarantee(entry: Entry, found: Outcome, required: tuple[str, ...]) -> Guarantee:
    return Guarantee(
        entry.group,
        entry.name,
        entry.meaning,
        found.done,
        entry.name in required,
        found.text,
        "" if found.done else entry.remedy,
    )


def stop_if_missing(found: tuple[Guarantee, ...]) -> None:
    """Raise ConfigError for the first guarantee that is required and does not hold."""
    for one in found:
        if one.required and not one.held:
            raise ConfigError(f"this host does not guarantee {told(one)}; see 'sandboxd doctor'")


def told(one: Guarantee) -> str:
    """A missing guarantee in one line, with its remedy."""
    return f"{one.name} ({one.meaning}): {one.detail}; {one.remedy}"
