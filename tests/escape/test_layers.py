"""Each layer that is skipped stops the run, and names its stage: what is read back is not there.

That the attacks succeed without the layer and its read-back is in tests/audit.
"""

from __future__ import annotations

import os
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
    "rlimits": (nothing(rlimits, "apply"), "rlimits"),
    "identity": (nothing(identity, "apply"), "identity"),
    "uid": (nothing(os, "setresuid"), "identity"),
    "gid": (nothing(os, "setresgid"), "identity"),
    "bounding set": (not_set(syscalls.PR_CAPBSET_DROP), "identity"),
    "securebits": (not_set(syscalls.PR_SET_SECUREBITS), "identity"),
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


def test_filter_that_is_skipped_stops_the_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listener is then another descriptor, and no call is ever refused."""
    monkeypatch.setattr(seccomp, "apply", lambda program: syscalls.open_tree("/", 0))
    result = sandbox.run("echo ran")
    assert (result.last["event"], result.stdout) == ("fault", "")
