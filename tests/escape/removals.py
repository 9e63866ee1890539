"""Ways to take a protection away, and the attacks that then succeed.

A way is a function that patches the jail in the test's process, from which shims are forked.
REMOVALS names the protections of sandboxd/protections that each way takes away.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from sandboxd.host.cgroupfs import GroupFiles
from sandboxd.jail import identity, mounts, namespaces, network, rlimits, rootfs, seccomp, syscalls
from sandboxd.jail.cgroup import Group
from sandboxd.jail.mounts import Bind, Mount
from sandboxd.jail.overlays import Overlay
from sandboxd.jail.tree import Tree
from sandboxd.model import Limits
from sandboxd.shim import environment, run_spec
from sandboxd.warden.runs import run_watch, slot_group

from .prctl import skip_prctl

PLENTY = 1 << 17
"""More of any of RAISED than an attack takes."""

RAISED = (
    resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_NOFILE,
    resource.RLIMIT_SIGPENDING,
)  # fmt: skip
"""The limits that `unlimited` raises for the test's process."""

Remove = Callable[[pytest.MonkeyPatch], None]


def without_namespace(flag: int) -> Remove:
    def remove(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(namespaces, "_SHIM", namespaces._SHIM & ~flag)
        patch.setattr(namespaces, "verify", lambda outside: None)
        for step in ("verify", "enable_multicast", "forbid_copies", "bound_memory"):  # the host's
            patch.setattr(network, step, lambda: None)
        patch.setattr("socket.sethostname", lambda name: None)

    return remove


def without_cgroup_namespace(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(namespaces, "apply_cgroup", lambda: None)
    patch.setattr(namespaces, "verify", lambda outside: None)


def with_broker_socket(patch: pytest.MonkeyPatch) -> None:
    real = run_spec.RunSpec.of_order
    patch.setattr(run_spec.RunSpec, "of_order", lambda *a: replace(real(*a), network=True))


def with_host_directory(patch: pytest.MonkeyPatch) -> None:
    system, part = rootfs.system, Bind("/var/lib", "/var/lib", mounts.WRITABLE)
    patch.setattr(rootfs, "system", lambda *a: [*system(*a), part])
    patch.setattr(Tree, "verify", lambda tree, sealed: None)


def with_part(path: str) -> Remove:
    def remove(patch: pytest.MonkeyPatch) -> None:
        system, part = rootfs.system, Bind(path, path, mounts.READ_ONLY)
        patch.setattr(rootfs, "system", lambda *a: [*system(*a), part])
        patch.setattr(Tree, "verify", lambda *a: None)

    return remove


def without_own_sys(patch: pytest.MonkeyPatch) -> None:
    """The parts of /sys that are the run's own make place for those of the host."""
    patch.setattr(rootfs, "cgroups", lambda dirs: [])
    patch.setattr(rootfs, "cpus", lambda share: [])


def with_other_groups(patch: pytest.MonkeyPatch) -> None:
    """Each controller shows the group above, with all runs of the daemon."""
    real = rootfs.cgroups

    def above(dirs: Mapping[str, str]) -> list[mounts.Part]:
        return real({controller: os.path.dirname(path) for controller, path in dirs.items()})

    patch.setattr(rootfs, "cgroups", above)


def with_writable_groups(patch: pytest.MonkeyPatch) -> None:
    """The run's own group is shown as the warden sees it."""
    patch.setattr(rootfs, "READ_ONLY", mounts.WRITABLE)


def together(*removals: Remove) -> Remove:
    def remove(patch: pytest.MonkeyPatch) -> None:
        for one in removals:
            one(patch)

    return remove


def unsealed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tree, "seal", lambda tree, paths: None)
    patch.setattr(Tree, "verify", lambda tree, sealed: None)


def without_overlays(patch: pytest.MonkeyPatch) -> None:
    """The host's directories and the copy are bound, as they are."""

    def apply(overlay: Overlay, root: str) -> None:
        os.chdir(overlay.directory)
        syscalls.mount(overlay.lower, overlay.target, None, syscalls.MS_BIND)

    patch.setattr(Overlay, "apply", apply)
    patch.setattr(Tree, "verify", lambda tree, sealed: None)


def unmasked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rootfs, "_masks", lambda: [])


def with_all_processes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rootfs, "_proc", lambda: [Mount("/proc", "proc", mounts.NODEV | mounts.NOSUID)])
    patch.setattr(Tree, "verify", lambda tree, sealed: None)


def with_many_terminals(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rootfs, "TERMINALS", 1000)


def with_kernel_memory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rootfs, "NODES", rootfs.NODES | {"mem": (1, 1)})


def as_root(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(identity, "apply", lambda uid, gid: None)
    patch.setattr(identity, "verify", lambda uid, gid: None)


def without_prctl(option: int) -> Remove:
    def remove(patch: pytest.MonkeyPatch) -> None:
        skip_prctl(patch, option)
        patch.setattr(identity, "verify", lambda uid, gid: None)

    return remove


def without_no_new_privs(patch: pytest.MonkeyPatch) -> None:
    without_prctl(syscalls.PR_SET_NO_NEW_PRIVS)(patch)
    patch.setattr(seccomp, "apply", lambda program: os.open("/dev/null", os.O_RDONLY))
    patch.setattr(seccomp, "verify", lambda: None)
    patch.setattr("sandboxd.shim.denied_calls.DeniedCalls.watch", lambda *_: None)
    patch.setattr("sandboxd.shim.denied_calls.DeniedCalls.answer", lambda *_: False)


def unfiltered(patch: pytest.MonkeyPatch) -> None:
    """A filter that lets all calls pass, where the program sees a filter."""
    allow_all, apply = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000), seccomp.apply
    patch.setattr(seccomp, "apply", lambda program: apply(allow_all))
    patch.setattr(seccomp, "verify", lambda: None)


def unlimited(patch: pytest.MonkeyPatch) -> None:
    """The limits of processes that a host's root has."""
    patch.setattr(rlimits, "apply", lambda wanted: None)
    patch.setattr(rlimits, "verify", lambda wanted: None)
    for kind in RAISED:
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (hard, hard))
        if hard < PLENTY and hard != resource.RLIM_INFINITY:  # a small machine
            with contextlib.suppress(ValueError):  # without the right to
                resource.setrlimit(kind, (PLENTY, PLENTY))


def without_cgroup(*names: str) -> Remove:
    def remove(patch: pytest.MonkeyPatch) -> None:
        real = Group._write

        def write(group: Group, name: str, value: str) -> None:
            if not name.startswith(names):
                real(group, name, value)

        patch.setattr(Group, "_write", write)
        write_sum = slot_group._write

        def write_other_sums(files: GroupFiles, settings: list[tuple[str, str]]) -> None:
            write_sum(files, [one for one in settings if not one[0].startswith(names)])

        patch.setattr(slot_group, "_write", write_other_sums)
        plan = rlimits.plan

        def planned(limits: Limits) -> dict[int, int]:
            return {k: v for k, v in plan(limits).items() if k != resource.RLIMIT_NPROC}

        patch.setattr(rlimits, "plan", planned)

    return remove


def with_large_shm(patch: pytest.MonkeyPatch) -> None:
    without_cgroup("memory.")(patch)
    session = rootfs.session

    def with_a_gibibyte(*values: Any) -> list[mounts.Part]:
        uid, gid, workdir, tmp, _, share = values
        return session(uid, gid, workdir, tmp, 1 << 30, share)

    patch.setattr(rootfs, "session", with_a_gibibyte)


def spawning(**different: Any) -> Remove:
    """Steps are started otherwise than init does."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        real = os.posix_spawn

        def spawn(*args: Any, **kwargs: Any) -> int:
            if different.get("leak"):
                os.set_inheritable(os.open("/", os.O_RDONLY), True)
            if "setsigdef" in different:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            own = {name: value for name, value in different.items() if name != "leak"}
            return real(*args, **(kwargs | own))

        patch.setattr(os, "posix_spawn", spawn)

    return remove


def with_daemon_environment(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(environment.VARIABLES, "SANDBOXD_SECRET", "x")


def without_deadline(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("sandboxd.shim.deadlines.Deadlines.wall_reached", lambda self, now: False)


@dataclass(frozen=True)
class Removal:
    """A way to take `protections` away, and the `attacks` that succeed then."""

    label: str
    protections: tuple[str, ...]
    remove: Remove
    attacks: str


REMOVALS = (
    Removal("no profile", ("no broker",), with_broker_socket, "proxy-port"),
    Removal("network namespace", ("network", "namespaces"),
            without_namespace(syscalls.CLONE_NEWNET), """
        loopback-tcp loopback-udp abstract-socket way-out interfaces namespaces"""),
    Removal("pid namespace", ("namespaces",),
            without_namespace(syscalls.CLONE_NEWPID), "namespaces"),
    Removal("pid namespace and hidepid", ("namespaces", "/proc"), together(
        without_namespace(syscalls.CLONE_NEWPID), with_all_processes), "see-processes"),
    Removal("bound on pseudo-terminals", ("/dev",), with_many_terminals, "pseudo-terminals"),
    Removal("ipc namespace", ("namespaces",),
            without_namespace(syscalls.CLONE_NEWIPC), "namespaces"),
    Removal("uts namespace", ("namespaces",),
            without_namespace(syscalls.CLONE_NEWUTS), "namespaces"),
    Removal("cgroup namespace", ("namespaces",),
            without_cgroup_namespace, "namespaces cgroup-files"),
    Removal("empty root", ("empty root",), with_host_directory, """
        read-host-file write-host-file mounts-shown build-step"""),
    Removal("empty root: /sys", ("empty root",),
            together(without_own_sys, with_part("/sys")), "cgroup-files mounts-shown"),
    Removal("own cgroup shown", ("own cgroup shown",), with_other_groups, "cgroup-files"),
    Removal("own cgroup read-only", ("own cgroup shown", "identity"),
            together(as_root, with_writable_groups), "cgroup-files mounts-shown"),
    Removal("empty root: /run", ("empty root",), with_part("/run"), "host-sockets mounts-shown"),
    Removal("empty root: /root", ("empty root", "identity"),
            together(as_root, with_part("/root")), "read-accounts"),
    Removal("sealed mounts", ("empty root",), unsealed, "mounts-shown"),
    Removal("masked /proc", ("/proc",), unmasked, "proc-secrets"),
    Removal("overlays", ("overlays",), without_overlays, "watch-shared-files lock-shared-files"),
    Removal("own /dev", ("/dev",), with_kernel_memory, "devices-shown"),
    Removal("identity", ("identity", "capabilities", "no_new_privs"), as_root, """
        identity capabilities regain-root seen-from-host no-new-privs securebits build-step
        priority device-nodes kill-init set-user-id"""),
    Removal("identity and sealed mounts", ("identity", "empty root", "/proc"),
            together(as_root, unsealed), "write-system proc-settings"),
    Removal("identity and seccomp", ("identity", "seccomp"), together(as_root, unfiltered), """
        mount swap-and-quota watch-files perf reboot clock kernel-log ports userfaultfd
        move-memory raw-sockets network-settings leave-root bpf"""),
    Removal("bounding set", ("capabilities",),
            without_prctl(syscalls.PR_CAPBSET_DROP), "capabilities seen-from-host build-step"),
    Removal("securebits", ("capabilities",),
            without_prctl(syscalls.PR_SET_SECUREBITS), "securebits"),
    Removal("no_new_privs", ("no_new_privs", "seccomp"), without_no_new_privs,
            "no-new-privs seen-from-host filter-on build-step"),
    Removal("seccomp", ("seccomp",), unfiltered, """
        new-mount-api unshare clone-namespaces io-uring keyrings other-architecture attach-filters
        uncounted-memory uncounted-tables terminal-injection personality read-other-memory
        socket-families netlink vsock"""),
    Removal("rlimits", ("rlimits",), unlimited, "raise-limits core-file file-size queued-signals"),
    Removal("memory limit", ("cgroup",), without_cgroup("memory."),
            "memory memory-of-many system-v"),
    Removal("counts", ("locks on files", "connections in no file"),
            lambda patch: patch.setattr(run_watch.RunWatch, "_count", lambda *_: None),
            "file-locks locks-on-eventfds unaccepted-connections"),
    Removal("size of /dev/shm", ("/dev", "cgroup"), with_large_shm, "shared-memory"),
    Removal("process limit", ("cgroup",), without_cgroup("pids.", "memory."), "fork-bomb threads"),
    Removal("setsid", ("sessions of processes",), spawning(setsid=False), "terminal"),
    Removal("three descriptors", ("sessions of processes",), spawning(leak=True),
            "descriptors leave-root"),
    Removal("default signals", ("sessions of processes",), spawning(setsigdef=()), "signals"),
    Removal("clean environment", ("sessions of processes",), with_daemon_environment,
            "environment"),
    Removal("deadlines", ("deadlines",), without_deadline, "time stopped-clock"),
)  # fmt: skip

ELSEWHERE = {
    "signal-host": "with the pid namespace the canary has no pid; root would kill it",
    **dict.fromkeys(("locked-memory", "open-files"), "a host's own limit is often below it"),
    "modules": "many kernels have none",
    "dumpable-init": "the change of uid makes init non-dumpable as well",
    "x32": "most kernels have no x32",
    "unknown-calls": "the kernel answers them alike until it knows them",
    "kernel-crypto": "many kernels have none",
    "files-of-all": "systemd lifts fs.file-max; tests/e2e/test_open_files.py lowers the bound",
    "other-session": "test_other_session_attack_succeeds_in_the_session_that_left_the_files",
    "disk": "test_disk_attacks_succeed_on_a_disk_without_bounds",
    "inodes": "test_disk_attacks_succeed_on_a_disk_without_bounds",
    "output": "tests/test_spool.py: the bytes that are stored are bounded",
    **dict.fromkeys(
        ("daemon", "stopped-process", "fork-storm", "holds-output", "shared-objects", "deep-tree",
         "unremovable-files", "locks-and-leases"),
        "tests/selftest/test_host_view.py: the host sees what remains of a session",
    ),
}  # fmt: skip
"""Attacks that no removal lets succeed here: why, or the test that shows them."""


@contextlib.contextmanager
def own_limits_restored() -> Iterator[None]:
    """The limits of this process that a removal raises are as before at the end."""
    before = {kind: resource.getrlimit(kind) for kind in RAISED}
    try:
        yield
    finally:
        for kind, limits in before.items():
            resource.setrlimit(kind, limits)
