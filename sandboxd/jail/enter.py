"""The entry of a process into the jail: all steps, in order.

`prepare` does what is the same for every run, and may be done before a session asks for a run;
`claim` ties the prepared process to one run and gives up root. Both run in the process that becomes
PID 1 of the run, which its shim has forked into new mount, pid, net, IPC and UTS namespaces.

    prepare  namespaces  no mount seen outside, name of the host
             network     loopback up
             mounts      empty root, host parts, /dev, /proc
    claim    cgroup      join, while the kernel still names it by its real path
             namespaces  cgroup namespace, rooted there
             mounts      own cgroup, accounts, /home/work, its folders, /tmp, /dev/shm; seal;
                         pivot_root
             verify      namespaces, network, mounts, read back from the kernel
             rlimits     before the uid changes: afterwards they cannot be raised
             seccomp     before the capabilities go, see seccomp.py. Its listener goes to the
                         supervisor, which answers refused calls
             identity    groups, gid, uid, capabilities, securebits, no_new_privs
             verify      rlimits, identity and seccomp

Each failure is a StageError, after which the process must exit. No user code has run by then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ..model import HOME, Limits
from . import identity, namespaces, network, rlimits, rootfs, seccomp
from .cgroup import Group
from .mounts import FolderMount
from .overlays import HostView
from .tree import Tree


@dataclass(frozen=True, slots=True)
class Jail:
    """The parts that all runs of this daemon have in common.

    root     an empty directory, where the tree is built
    paths    directories of the host, as in config.RootfsConfig
    view     all that runs see of the host (overlays.py)
    outside  the namespaces of the processes above: those of the warden, and of its spawner
    filters  runtime -> system call filter (seccomp.compile); "" for the others
    workspace_filters  the same for sessions with a workspace, which must not set set-user-ID bits
    plan     the parts of the root, from a look at the host shortly before; None: look when needed
    """

    root: str
    paths: tuple[str, ...]
    view: HostView
    outside: tuple[Mapping[str, str], ...]
    filters: Mapping[str, seccomp.Filter]
    workspace_filters: Mapping[str, seccomp.Filter]
    plan: rootfs.RootPlan | None = field(default=None, compare=False)

    def filter(self, runtime: str, folders: Iterable[FolderMount]) -> seccomp.Filter:
        """The filter of a runtime for a session with these `folders`. A runtime that is not
        configured has the filter of all."""
        has_workspace = any(folder.host for folder in folders)
        filters = self.workspace_filters if has_workspace else self.filters
        return filters.get(runtime) or filters[""]


@dataclass(frozen=True, slots=True)
class JailSession:
    """The parts of one run of a session. `workdir` and `tmp` are descriptors of detached mount
    clones, `folders` the virtual folders that the workdir shows. A workspace is the first of them,
    and may be in the place of the workdir."""

    uid: int
    gid: int
    group: Group
    runtime: str
    limits: Limits
    workdir: int
    tmp: int
    folders: tuple[FolderMount, ...] = ()


def prepare(jail: Jail) -> Tree:
    """Make this process ready for any session; returns the tree, still open for its directories."""
    os.umask(0o022)
    namespaces.complete()
    network.apply()
    tree = Tree(jail.root)
    tree.apply(rootfs.system(jail.plan or rootfs.RootPlan.make(jail.paths, jail.view)))
    return tree


def claim(
    jail: Jail, tree: Tree, session: JailSession, supervisor: Callable[[int], None]
) -> None:  # fmt: skip
    """Give this process to `session` and take every privilege away.

    `supervisor` takes the seccomp listener over. Nothing of the listener may stay in this process,
    since its children could then answer their own calls.
    """
    limits = session.limits
    session.group.join()
    session.group.verify_joined()
    namespaces.apply_cgroup()
    is_covered = any(folder.path == HOME for folder in session.folders)
    workdir = None if is_covered else session.workdir
    own = rootfs.session(session.uid, session.gid, workdir, session.tmp, limits.shm, limits.cpus)
    tree.apply([*rootfs.cgroups(session.group.dirs), *own, *session.folders])
    tree.seal(rootfs.SEALED)
    tree.pivot(HOME)
    namespaces.verify(jail.outside)
    network.verify()
    tree.verify(rootfs.SEALED)

    wanted = rlimits.plan(limits)
    rlimits.apply(wanted)
    supervisor(seccomp.apply(jail.filter(session.runtime, session.folders).program))
    identity.apply(session.uid, session.gid)
    rlimits.verify(wanted)
    identity.verify(session.uid, session.gid)
    seccomp.verify()
