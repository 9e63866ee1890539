"""The identity of a jailed process: the slot's uid and gid, and no privilege that could come back.

Order matters (capabilities(7)): bounding set and securebits need CAP_SETPCAP, so they come
first. setresuid then clears the permitted and effective sets. capset empties the inheritable set,
since nothing else does (runc CVE-2022-29162). With SECBIT_NOROOT and its lock a later uid 0, which
the slot cannot reach anyway, would have no capabilities.
"""

from __future__ import annotations

import os

from ..host import procfs
from . import syscalls
from .stage import expect, stage

# NOROOT, NO_SETUID_FIXUP's lock, KEEP_CAPS' lock, NO_CAP_AMBIENT_RAISE; each with its lock.
# NO_SETUID_FIXUP itself stays off: setresuid must clear the capability sets.
SECUREBITS = 0b1110_1011

_CAPABILITIES = tuple(range(int(procfs.read("/proc/sys/kernel/cap_last_cap")) + 1))
"""All that this kernel knows (Linux 3.2)."""


def apply(uid: int, gid: int) -> None:
    """Become `uid` and `gid` for good, without groups or capabilities, and gain nothing by exec."""
    with stage("identity"):
        syscalls.prctl(syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_CLEAR_ALL)
        syscalls.prctl(syscalls.PR_SET_SECUREBITS, SECUREBITS)
        syscalls.prctl_each((syscalls.PR_CAPBSET_DROP,), _CAPABILITIES)
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        syscalls.capset_none()
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        # Beside hostile code of the same uid: no ptrace, no /proc/PID/mem, no core.
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


def verify(uid: int, gid: int) -> None:
    """Read everything back from the kernel. Not from /proc/self/status: a shim is in no process
    namespace of its /proc."""
    with stage("identity"):
        expect("identity", "uids", os.getresuid(), (uid, uid, uid))
        expect("identity", "gids", os.getresgid(), (gid, gid, gid))
        expect("identity", "groups", os.getgroups(), [])
        expect("identity", "capability sets", syscalls.capget(), (0, 0, 0))
        expect("identity", "bounding set", _set((syscalls.PR_CAPBSET_READ,)), [])
        ambient = syscalls.PR_CAP_AMBIENT, syscalls.PR_CAP_AMBIENT_IS_SET
        expect("identity", "ambient set", _set(ambient), [])
        expect("identity", "securebits", syscalls.prctl(syscalls.PR_GET_SECUREBITS), SECUREBITS)
        expect("identity", "no_new_privs", syscalls.prctl(syscalls.PR_GET_NO_NEW_PRIVS), 1)
        expect("identity", "dumpable", syscalls.prctl(syscalls.PR_GET_DUMPABLE), 0)


def _set(question: tuple[int, ...]) -> list[int]:
    """The capabilities for which the kernel says yes to `question`."""
    answers = syscalls.prctl_each(question, _CAPABILITIES)
    return [number for number, answer in zip(_CAPABILITIES, answers, strict=True) if answer]
