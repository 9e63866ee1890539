"""A protection that is skipped stops the run, with its stage: the value read back is another.

test_attacks.py shows that attacks succeed without the protection and its read-back.
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
from sandboxd.jail.mounts import Mask
from sandboxd.jail.tree import Tree

from ..sandbox import Sandbox
from .prctl import skip_prctl
from .removals import without_overlays

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
        for change in ("enable_multicast", "forbid_copies", "bound_memory"):  # of the host itself
            patch.setattr(network, change, lambda: None)
        patch.setattr("socket.sethostname", lambda name: None)

    return skip


def not_set(option: int) -> Skip:
    """One prctl does nothing and returns 0."""
    return lambda patch: skip_prctl(patch, option)


def unread(attributes: int) -> Skip:
    """Mounts do not get `attributes`."""

    def skip(patch: pytest.MonkeyPatch) -> None:
        set_attributes, real = syscalls.mount_setattr, syscalls.mount

        def mount_setattr(fd: int, wanted: int, **more: Any) -> None:
            set_attributes(fd, wanted & ~attributes, **more)

        def mount(source: str, target: str, fstype: str, flags: int, *data: Any) -> None:
            real(source, target, fstype, flags & ~attributes, *data)

        patch.setattr(syscalls, "mount_setattr", mount_setattr)
        patch.setattr(syscalls, "mount", mount)

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


def bound(patch: pytest.MonkeyPatch) -> None:
    """The host's directories are bound, without an overlay."""
    verify = Tree.verify
    without_overlays(patch)
    patch.setattr(Tree, "verify", verify)


def inherited(patch: pytest.MonkeyPatch) -> None:
    """The daemon has inheritable capabilities, which a change of uid does not clear."""
    real = identity.apply

    def apply(uid: int, gid: int) -> None:
        effective, permitted, _ = syscalls.capget()
        low = [number & 0xFFFFFFFF for number in (effective, permitted, permitted)]
        high = [number >> 32 for number in (effective, permitted, permitted)]
        header = struct.pack("Ii", 0x20080522, 0)
        capset = ctypes.CDLL(None).capset
        capset.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
        assert capset(header, struct.pack("6I", *low, *high)) == 0
        real(uid, gid)

    patch.setattr(identity, "apply", apply)


def inherited_and_kept(patch: pytest.MonkeyPatch) -> None:
    """The daemon has inheritable capabilities, and no call clears them."""
    inherited(patch)
    patch.setattr(syscalls, "capset_none", lambda: None)


def groups_left(patch: pytest.MonkeyPatch) -> None:
    """The daemon's groups stay."""
    patch.setattr(os, "setgroups", lambda groups: None)
    patch.setattr(os, "getgroups", lambda: [0])


def filter_of(program: bytes | None) -> Skip:
    """Another filter is installed; None: no filter, and the listener is another descriptor."""

    def skip(patch: pytest.MonkeyPatch) -> None:
        real = seccomp.apply

        def apply(_: bytes) -> int:
            return os.open("/dev/null", os.O_RDONLY) if program is None else real(program)

        patch.setattr(seccomp, "apply", apply)

    return skip


ALLOW_ALL = bytes.fromhex("060000000000ff7f")

SKIPPED: dict[str, tuple[Skip, str]] = {
    "pid namespace": (unshared(syscalls.CLONE_NEWPID), "namespaces"),
    "network namespace": (unshared(syscalls.CLONE_NEWNET), "namespaces"),
    "ipc namespace": (unshared(syscalls.CLONE_NEWIPC), "namespaces"),
    "uts namespace": (unshared(syscalls.CLONE_NEWUTS), "namespaces"),
    "cgroup namespace": (nothing(namespaces, "apply_cgroup"), "namespaces"),
    "loopback": (nothing(network, "apply"), "network"),
    "bounds of the network": (nothing(network, "bound_memory"), "network"),
    "cgroup": (nothing(Group, "join"), "cgroup"),
    "masks of /proc": (nothing(Mask, "apply"), "mounts"),
    "sealing": (nothing(Tree, "seal"), "mounts"),
    "read-only": (unread(mounts.RDONLY), "mounts"),
    "nosuid": (unread(mounts.NOSUID), "mounts"),
    "nodev": (unread(mounts.NODEV), "mounts"),
    "private mounts": (shared, "mounts"),
    "overlays": (bound, "mounts"),
    "rlimits": (nothing(rlimits, "apply"), "rlimits"),
    "identity": (nothing(identity, "apply"), "identity"),
    "uid": (nothing(os, "setresuid"), "identity"),
    "gid": (nothing(os, "setresgid"), "identity"),
    "groups": (groups_left, "identity"),
    "bounding set": (not_set(syscalls.PR_CAPBSET_DROP), "identity"),
    "securebits": (not_set(syscalls.PR_SET_SECUREBITS), "identity"),
    "inheritable set": (inherited_and_kept, "identity"),
    "no_new_privs": (not_set(syscalls.PR_SET_NO_NEW_PRIVS), "identity"),
    "filter": (filter_of(None), "seccomp"),
    "calls that the filter refuses": (filter_of(ALLOW_ALL), "seccomp"),
}


@pytest.mark.parametrize("layer", SKIPPED)
def test_layer_that_is_skipped_stops_the_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    skip, stage = SKIPPED[layer]
    skip(monkeypatch)
    result = sandbox.run("echo ran")
    assert (result.last["event"], result.last["stage"], result.stdout) == ("fault", stage, "")


def test_program_does_not_inherit_the_inheritable_capabilities_of_the_daemon(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    inherited(monkeypatch)
    assert sandbox.run("grep CapInh /proc/self/status").stdout.split() == ["CapInh:", "0" * 16]
