"""Each layer that is skipped stops the run, and names its stage: what is read back is not there.

That the attacks succeed without the layer and its read-back is in tests/selftest.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from typing import Any

import pytest

from sandboxd.jail import identity, mounts, namespaces, network, rlimits, seccomp, syscalls
from sandboxd.jail.cgroup import Group
from sandboxd.jail.mounts import Mask, Tree

from ..sandbox import Sandbox

Skip = Callable[[pytest.MonkeyPatch], None]


def nothing(where: object, name: str) -> Skip:
    """`name` does nothing."""

    def skip(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(where, name, lambda *_: None)

    return skip


def unshared(flag: int) -> Skip:
    """One namespace stays the host's."""

    def skip(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(namespaces, "_SHIM", namespaces._SHIM & ~flag)
        patch.setattr("socket.sethostname", lambda name: None)

    return skip


def not_set(option: int) -> Skip:
    """One prctl is believed to have worked."""

    def skip(patch: pytest.MonkeyPatch) -> None:
        real = syscalls.prctl

        def prctl(asked: int, arg2: int = 0, arg3: int = 0) -> int:
            return 0 if asked == option else real(asked, arg2, arg3)

        patch.setattr(syscalls, "prctl", prctl)

    return skip


def unread(attributes: int) -> Skip:
    """Mounts do not get `attributes`."""

    def skip(patch: pytest.MonkeyPatch) -> None:
        real = syscalls.mount_setattr

        def mount_setattr(fd: int, wanted: int, **more: Any) -> None:
            real(fd, wanted & ~attributes, **more)

        patch.setattr(syscalls, "mount_setattr", mount_setattr)

    return skip


def shared(patch: pytest.MonkeyPatch) -> None:
    """Clones of the host's mounts stay tied to it, and what one side mounts the other sees."""
    real = syscalls.mount_setattr

    def mount_setattr(fd: int, wanted: int, recursive: bool = True, userns: int = 0) -> None:
        with pytest.MonkeyPatch.context() as within:
            if recursive:
                within.setattr(syscalls, "MS_PRIVATE", 1 << 20)  # MS_SHARED
            real(fd, wanted, recursive, userns)

    patch.setattr(syscalls, "mount_setattr", mount_setattr)


def inherited(patch: pytest.MonkeyPatch) -> None:
    """The daemon has inheritable capabilities, which a change of uid does not clear."""
    real = identity.apply

    def apply(uid: int, gid: int) -> None:
        effective, permitted, _ = syscalls.capget()
        low = [number & 0xFFFFFFFF for number in (effective, permitted, permitted)]
        high = [number >> 32 for number in (effective, permitted, permitted)]
        header = struct.pack("Ii", 0x20080522, 0)
        assert ctypes.CDLL(None).capset(header, struct.pack("6I", *low, *high)) == 0
        real(uid, gid)

    patch.setattr(identity, "apply", apply)


def inherited_and_kept(patch: pytest.MonkeyPatch) -> None:
    """And nothing else clears it."""
    inherited(patch)
    patch.setattr(syscalls, "capset_none", lambda: None)


SKIPPED: dict[str, tuple[Skip, str]] = {
    "pid namespace": (unshared(syscalls.CLONE_NEWPID), "namespaces"),
    "network namespace": (unshared(syscalls.CLONE_NEWNET), "namespaces"),
    "ipc namespace": (unshared(syscalls.CLONE_NEWIPC), "namespaces"),
    "uts namespace": (unshared(syscalls.CLONE_NEWUTS), "namespaces"),
    "cgroup namespace": (nothing(namespaces, "apply_cgroup"), "namespaces"),
    "loopback": (nothing(network, "apply"), "network"),
    "cgroup": (nothing(Group, "join"), "cgroup"),
    "masks of /proc": (nothing(Mask, "apply"), "mounts"),
    "sealing": (nothing(Tree, "seal"), "mounts"),
    "read-only": (unread(mounts.RDONLY), "mounts"),
    "nosuid": (unread(mounts.NOSUID), "mounts"),
    "nodev": (unread(mounts.NODEV), "mounts"),
    "private mounts": (shared, "mounts"),
    "rlimits": (nothing(rlimits, "apply"), "rlimits"),
    "identity": (nothing(identity, "apply"), "identity"),
    "uid": (nothing(os, "setresuid"), "identity"),
    "gid": (nothing(os, "setresgid"), "identity"),
    "bounding set": (not_set(syscalls.PR_CAPBSET_DROP), "identity"),
    "securebits": (not_set(syscalls.PR_SET_SECUREBITS), "identity"),
    "inheritable set": (inherited_and_kept, "identity"),
    "no_new_privs": (not_set(syscalls.PR_SET_NO_NEW_PRIVS), "identity"),
}


@pytest.mark.parametrize("layer", SKIPPED)
def test_layer_that_is_skipped_stops_the_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    skip, stage = SKIPPED[layer]
    skip(monkeypatch)
    result = sandbox.run("echo ran")
    assert (result.last["event"], result.last["stage"], result.stdout) == ("fault", stage, "")


def test_inheritable_capabilities_of_the_daemon_are_not_the_programs(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    inherited(monkeypatch)
    assert sandbox.run("grep CapInh /proc/self/status").stdout.split() == ["CapInh:", "0" * 16]


def test_filter_that_is_skipped_stops_the_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listener is then another descriptor, and no call is ever refused."""
    monkeypatch.setattr(seccomp, "apply", lambda program: syscalls.open_tree("/", 0))
    result = sandbox.run("echo ran")
    assert (result.last["event"], result.stdout) == ("fault", "")
