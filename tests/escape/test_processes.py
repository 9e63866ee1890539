"""The processes of a run: their reach, their limits together, and their end with the run."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from pathlib import Path

import pytest

from sandboxd import crash
from sandboxd.jail import seccomp
from sandboxd.warden.runs.worker import Worker
from sandboxd.warden.slots import uid_processes

from ..processes import children, title
from ..sandbox import Sandbox
from ..waiting import until

ALLOW_ALL = bytes.fromhex("060000000000ff7f")


def test_kill_of_all_processes_reaches_none_outside_the_run(sandbox: Sandbox) -> None:
    canary = os.fork()
    if canary == 0:
        time.sleep(60)
        os._exit(0)
    try:
        sandbox.run(f"kill -9 {canary} {os.getpid()}; kill -9 -1; echo unreachable")
        assert os.waitpid(canary, os.WNOHANG) == (0, 0)
        assert sandbox.run("echo alive").stdout == "alive\n"
    finally:
        os.kill(canary, signal.SIGKILL)
        os.waitpid(canary, 0)


WEAKEN = """
import ctypes, os, resource
for call, arguments in (
    (resource.prlimit, (1, resource.RLIMIT_NOFILE, (8, 8))),
    (resource.prlimit, (1, resource.RLIMIT_AS, (1 << 20, 1 << 20))),
    (resource.prlimit, (1, resource.RLIMIT_CPU, (1, 1))),
    (os.setpriority, (os.PRIO_PROCESS, 1, 19)),
    (os.setpriority, (os.PRIO_USER, 0, 19)),
    (os.sched_setscheduler, (1, os.SCHED_IDLE, os.sched_param(0))),
    (os.sched_setparam, (1, os.sched_param(0))),
    (os.sched_setaffinity, (1, [0])),
):
    try: call(*arguments); print(call.__name__)
    except PermissionError: pass
libc = ctypes.CDLL(None)
attr = (ctypes.c_uint * 12)(48, 5)
print([libc.syscall(251, 1, 1, 3 << 13), libc.syscall(251, 3, os.getuid(), 3 << 13),
       libc.syscall(314, 1, attr, 0)])
"""


def test_program_cannot_weaken_the_init_of_its_run(sandbox: Sandbox) -> None:
    """Init has the uid of its programs, and the next step inherits what is done to init."""
    look = "nice; ulimit -Hn; ulimit -v; ulimit -t; chrt -p $$; nproc; ionice"
    clean = sandbox.run(look)
    result = sandbox.run(look, build=f"/usr/bin/python3 - <<'E'\n{WEAKEN}\nE")
    assert result.stdout.startswith("[-1, -1, -1]\n"), result.stdout
    lines = [line for line in result.stdout.split("\n")[1:] if not line.startswith("pid ")]
    assert lines == [line for line in clean.stdout.split("\n") if not line.startswith("pid ")]
    assert result.events[1]["verdict"]["denied"]["prlimit64"] == 3


def test_program_weakens_the_init_of_its_run_without_the_filter(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = seccomp.apply
    monkeypatch.setattr(seccomp, "apply", lambda program: apply(ALLOW_ALL))
    monkeypatch.setattr(seccomp, "verify", lambda: None)
    result = sandbox.run("nice", build=f"/usr/bin/python3 - <<'E'\n{WEAKEN}\nE")
    assert (result.last["event"], result.last["stage"]) == ("fault", "spawn")


def test_background_processes_do_not_keep_a_step_open(sandbox: Sandbox) -> None:
    result = sandbox.run("(trap '' TERM HUP; sleep 60) & setsid sleep 60 & echo done; exit 5")
    assert result.stdout == "done\n"
    assert result.exit == 5
    assert result.verdict["limit"] is None
    uid = sandbox.slot.uid
    titles = [title(pid) for pid in uid_processes.living(uid)]
    assert all(one.startswith("sandboxd: ") for one in titles), titles  # a shim may be warm
    sandbox.end_warm()
    assert not uid_processes.living(uid)


def test_background_processes_do_not_live_into_the_next_step(sandbox: Sandbox) -> None:
    leave = "(trap '' TERM HUP; exec setsid sleep 77) > /dev/null 2>&1 & sleep 0.2"
    result = sandbox.run("ps -e -o args= | grep -c '[s]leep 77'", build=leave, clean=leave)
    assert result.stdout == "0\n"


def test_killed_shim_takes_its_run_with_it(sandbox: Sandbox) -> None:
    """SIGKILL to the shim alone, as the out-of-memory killer of the host might do."""

    def kill(started: Worker) -> None:
        os.kill(started.pid, signal.SIGKILL)

    sandbox.run("setsid sleep 60 & sleep 60 & read x", on_wait=kill)
    until(lambda: not uid_processes.living(sandbox.slot.uid), why="processes survive their shim")


def test_fork_bomb_is_capped_and_ends_with_the_limit(sandbox: Sandbox) -> None:
    result = sandbox.run("f() { f | f & }; f; sleep 30", wall_s=1, pids=40)
    assert result.verdict["limit"] == "wall_s"
    assert result.verdict["usage"]["pids_peak"] <= 40
    assert not uid_processes.living(sandbox.slot.uid)


def test_loops_in_many_processes_end_at_the_cpu_limit(sandbox: Sandbox) -> None:
    result = sandbox.run("(while :; do :; done) & while :; do :; done", cpu_s=0.5, cpus=2)
    assert result.verdict["limit"] == "cpu_s"
    assert 500 <= result.verdict["usage"]["cpu_ms"] < 2000


def test_cpu_share_holds_for_all_processes_together(sandbox: Sandbox) -> None:
    result = sandbox.run("(while :; do :; done) & (while :; do :; done) & sleep 2", cpus=0.5)
    usage = result.verdict["usage"]
    assert usage["cpu_ms"] < usage["wall_ms"] * 0.75


def test_shared_memory_counts_as_memory(sandbox: Sandbox) -> None:
    result = sandbox.run("head -c 60M /dev/zero > /dev/shm/x", memory=32 << 20)
    assert (result.verdict["limit"], result.verdict["oom"]) == ("memory", True)
    assert "32 MiB" in result.verdict["advice"]


def test_server_on_the_runs_own_loopback_is_reached(sandbox: Sandbox) -> None:
    script = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); "
        "c = socket.create_connection(s.getsockname()); print('connected')"
    )
    assert sandbox.run(f'/usr/bin/python3 -c "{script}"').stdout == "connected\n"


def _caught(pid: int) -> set[int]:
    """The signals that a process has handlers for."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(status.split("SigCgt:")[1].split()[0], 16)
    return {number for number in signal.valid_signals() if mask >> (number - 1) & 1}


def _init(shim: int) -> int:
    """The pid of a shim's init, once a program of the run is there."""

    def parents() -> list[int]:
        return [child for child in children(shim) if children(child)]

    return until(parents)[0]


@pytest.mark.parametrize("protected", [True, False])
def test_program_can_send_its_init_no_signal_of_a_fault(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, protected: bool
) -> None:
    """PID 1 gets from its own namespace what it has handlers for, and faulthandler has five."""
    faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
    if not faulthandler.is_enabled():  # pytest has it on, as the warden does
        crash.to_stderr()
    if not protected:
        monkeypatch.setattr(crash, "forget", lambda: None)
    caught: set[int] = set()

    def look(worker: Worker) -> None:
        caught.update(_caught(_init(worker.pid)))

    send = "read go; for s in SEGV BUS FPE ILL ABRT; do kill -$s 1; done; echo alive"
    assert sandbox.run(send, answers=["go\n"], while_running=look).stdout == "alive\n"
    assert caught & faults == (set() if protected else faults)
