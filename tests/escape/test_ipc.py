"""Objects that live without a process: a step leaves none of them to the next."""

from __future__ import annotations

import pytest

from sandboxd.jail import syscalls
from sandboxd.jail.profile import ALLOWED
from sandboxd.shim import ipc

from ..sandbox import Sandbox

LEAVE = (
    "head -c 60M /dev/zero > /dev/shm/x; mkdir -p /dev/shm/a/b; chmod 0 /dev/shm/a; "
    "ipcmk -M 30M -S 4 -Q >/dev/null; /usr/bin/python3 -c '\n"
    "import ctypes, os; l = ctypes.CDLL(None); l.shmat.restype = ctypes.c_void_p\n"
    'n = int(list(open("/proc/sysvipc/shm"))[1].split()[1])\n'
    "ctypes.memset(ctypes.c_void_p(l.shmat(n, None, 0)), 1, 30 << 20)'"
)


def test_shared_memory_that_a_step_leaves_is_gone_in_the_next(sandbox: Sandbox) -> None:
    look = "ls -A /dev/shm; cat /proc/sysvipc/{shm,sem,msg} | grep -vc key"
    result = sandbox.run(look, build=LEAVE, shm=64 << 20)
    assert result.events[1]["exit"] == 0, result.stderr
    assert result.stdout == "0\n"


QUEUE = (
    "/usr/bin/python3 -c 'import ctypes, os; "
    'print(ctypes.CDLL(None).mq_open(b"/left", {}, 0o600, None) >= 0)'
    "'"
)


def test_message_queue_that_a_step_leaves_is_gone_in_the_next(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, look = QUEUE.format("os.O_CREAT | os.O_RDWR"), QUEUE.format("os.O_RDWR")
    result = sandbox.run(f"{look}; ls /dev/mqueue", build=f"{make}; ls /dev/mqueue")
    assert result.stdout == "True\nleft\nFalse\n"
    monkeypatch.setattr(ipc, "clear", lambda: None)
    assert sandbox.run(look, build=make).stdout == "True\nTrue\n"


def test_no_place_and_no_call_for_another_kind_of_object_is_known(sandbox: Sandbox) -> None:
    """A writable mount, or a call that makes objects with names, could have a new kind: it has to
    be cleared between steps, or to be added here with a reason."""
    scratch = {"/home/work", "/tmp"}  # files stay
    terminals = {"/dev/pts"}  # they end with their processes
    writable = "grep -E '^[0-9: ]+ [^ ]+ [^ ]+ rw' /proc/self/mountinfo | cut -d ' ' -f 5"
    places = set(sandbox.run(writable).stdout.split())
    assert places == scratch | terminals | set(ipc.DIRECTORIES)
    makers = {name for name in ALLOWED["System V and POSIX IPC"].split() if name.endswith("get")}
    removed = {f"{kind}get" for kind in syscalls.REMOVE_OBJECT}
    assert makers == {"shmget", "semget", "msgget"} == removed


def test_shared_memory_that_a_step_leaves_is_in_the_next_unless_it_is_cleared(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipc, "clear", lambda: None)
    look = "ls -A /dev/shm; cat /proc/sysvipc/{shm,sem,msg} | grep -vc key"
    assert sandbox.run(look, build=LEAVE, shm=64 << 20).stdout == "a\nx\n3\n"
