"""The namespaces of a run: its own mounts, processes, network, IPC, host name and cgroup root.

The pid namespace takes effect for the next child (unshare(2)), which becomes its init. Init itself
enters the cgroup namespace after it has joined its cgroup, so that this cgroup is the root that
programs see (cgroup_namespaces(7)).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping

from . import syscalls
from .stage import expect, stage

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
HOSTNAME = "sandbox"
_SHIM = (
    syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
)


def current() -> dict[str, str]:
    """This process's namespaces, as the kernel names them ("mnt:[4026531841]")."""
    return {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS}


OF_SPAWNER = syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
"""The namespaces in which a spawner can build a tree for a trial, beside that of its mounts."""


def apply_for_children() -> None:
    """Enter all but the cgroup namespace. The next child calls `complete`."""
    with stage("namespaces"):
        syscalls.unshare(_SHIM)


def complete() -> None:
    """Let nothing that is mounted from here on be seen outside, and give the host a name.

    A file system that the host unmounts goes here, too (MS_SLAVE): a prepared init may wait for its
    run for a minute, and the operator must not wait for it.
    """
    with stage("namespaces"):
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
        socket.sethostname(HOSTNAME)


def apply_cgroup() -> None:
    """Make the cgroup of this process the root of the cgroups that it sees."""
    with stage("namespaces"):
        syscalls.unshare(syscalls.CLONE_NEWCGROUP)


def verify(outside: Iterable[Mapping[str, str]]) -> None:
    """Every namespace differs from those of the processes `outside`, and so does the host name."""
    with stage("namespaces"):
        inside = current()
        shared = [kind for one in outside for kind in KINDS if inside[kind] == one[kind]]
    expect("namespaces", "shared with the host", shared, [])
    expect("namespaces", "host name", os.uname().nodename, HOSTNAME)
