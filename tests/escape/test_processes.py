"""What a program could do to processes, and that it ends with its run."""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from sandboxd import crash
from sandboxd.jail import namespaces, network, seccomp
from sandboxd.warden.requests import Started
from sandboxd.warden.slots import uid_in_use

from ..sandbox import Sandbox

ALLOW_ALL = bytes.fromhex("060000000000ff7f")


def test_namespaces_are_the_runs_own(sandbox: Sandbox) -> None:
    result = sandbox.run("for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done")
    inside = dict(zip(namespaces.KINDS, result.stdout.split(), strict=True))
    outside = namespaces.current()
    assert [kind for kind in inside if inside[kind] == outside[kind]] == []


def test_shared_namespace_stops_the_run(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "apply_cgroup", lambda: None)
    result = sandbox.run("echo ran")
    assert (result.last["event"], result.last["stage"]) == ("fault", "namespaces")
    assert "cgroup" in result.last["message"]


def test_only_the_runs_processes_are_seen(sandbox: Sandbox) -> None:
    result = sandbox.run("ls -d /proc/[0-9]* | wc -l; cat /proc/1/cmdline; ps -e | wc -l")
    assert int(result.stdout.split()[0]) < 6
    assert "sandboxd" not in result.stdout  # init is not dumpable, hidepid keeps it from view


def test_kill_everything_hits_nothing_outside_the_run(sandbox: Sandbox) -> None:
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
    """Init has the uid of its programs, and what is done to it would be done to the next step."""
    look = "nice; ulimit -Hn; ulimit -v; ulimit -t; chrt -p $$; nproc; ionice"
    clean = sandbox.run(look)
    result = sandbox.run(look, build=f"/usr/bin/python3 - <<'E'\n{WEAKEN}\nE")
    assert result.stdout.startswith("[-1, -1, -1]\n"), result.stdout
    lines = [line for line in result.stdout.split("\n")[1:] if not line.startswith("pid ")]
    assert lines == [line for line in clean.stdout.split("\n") if not line.startswith("pid ")]
    assert result.events[1]["verdict"]["denied"]["prlimit64"] == 3


def test_without_the_filter_it_can(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    apply = seccomp.apply
    monkeypatch.setattr(seccomp, "apply", lambda program: apply(ALLOW_ALL))
    monkeypatch.setattr(seccomp, "verify", lambda: None)
    result = sandbox.run("nice", build=f"/usr/bin/python3 - <<'E'\n{WEAKEN}\nE")
    assert (result.last["event"], result.last["stage"]) == ("fault", "spawn")


def test_background_processes_do_not_keep_a_step_open(sandbox: Sandbox) -> None:
    result = sandbox.run("(trap '' TERM HUP; sleep 60) & setsid sleep 60 & echo done; exit 5")
    assert result.stdout == "done\n"
    assert result.exit == 5
    assert result.verdict["usage"]["wall_ms"] < 5000
    assert not uid_in_use(sandbox.slot.uid)


def test_background_processes_do_not_live_into_the_next_step(sandbox: Sandbox) -> None:
    leave = "(trap '' TERM HUP; exec setsid sleep 77) > /dev/null 2>&1 & sleep 0.2"
    result = sandbox.run("ps -e -o args= | grep -c '[s]leep 77'", build=leave, clean=leave)
    assert result.stdout == "0\n"


def test_killed_shim_takes_its_run_with_it(sandbox: Sandbox) -> None:
    """SIGKILL to the shim alone, as the out-of-memory killer of the host might do."""

    def kill(started: Started) -> None:
        deadline = time.monotonic() + 5
        while not Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text():
            assert time.monotonic() < deadline
        time.sleep(0.2)
        os.kill(started.pid, signal.SIGKILL)

    sandbox.run("setsid sleep 60 & sleep 60", while_running=kill)
    deadline = time.monotonic() + 5
    while uid_in_use(sandbox.slot.uid):
        assert time.monotonic() < deadline, "processes survive their shim"
        time.sleep(0.02)


def test_fork_bomb_is_capped_and_ends_with_the_limit(sandbox: Sandbox) -> None:
    result = sandbox.run("f() { f | f & }; f; sleep 30", wall_s=1, pids=40)
    assert result.verdict["limit"] == "wall_s"
    assert result.verdict["usage"]["pids_peak"] <= 40
    assert not uid_in_use(sandbox.slot.uid)


def test_stopped_and_deaf_processes_end_at_the_limit(sandbox: Sandbox) -> None:
    result = sandbox.run("trap '' TERM INT HUP ALRM; kill -STOP $$; sleep 60", wall_s=0.5)
    assert (result.last["exit"], result.verdict["limit"]) == (None, "wall_s")


def test_loops_in_many_processes_end_at_the_cpu_limit(sandbox: Sandbox) -> None:
    result = sandbox.run("(while :; do :; done) & while :; do :; done", cpu_s=0.5, cpus=2)
    assert result.verdict["limit"] == "cpu_s"
    assert 500 <= result.verdict["usage"]["cpu_ms"] < 2000


def test_cpu_share_holds_for_all_processes_together(sandbox: Sandbox) -> None:
    result = sandbox.run("(while :; do :; done) & (while :; do :; done) & sleep 2", cpus=0.5)
    usage = result.verdict["usage"]
    assert usage["cpu_ms"] < usage["wall_ms"] * 0.75


def test_memory_of_many_processes_is_counted_together(sandbox: Sandbox) -> None:
    script = "x = bytearray(40 << 20); import time; time.sleep(5)"
    result = sandbox.run(
        f"for i in 1 2 3 4; do /usr/bin/python3 -c '{script}' & done; wait $! && wait",
        memory=100 << 20,
    )
    assert result.verdict["oom"] is True
    assert result.verdict["usage"]["mem_peak"] <= 100 << 20


def test_shared_memory_counts_as_memory(sandbox: Sandbox) -> None:
    result = sandbox.run("head -c 60M /dev/zero > /dev/shm/x", memory=32 << 20)
    assert (result.verdict["limit"], result.verdict["oom"]) == ("memory", True)
    assert "32 MiB" in result.verdict["advice"]


def test_host_loopback_and_abstract_sockets_are_out_of_reach(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind("\0sandboxd-test-canary")
        unix.listen()
        port = tcp.getsockname()[1]
        result = sandbox.run(
            f"(echo > /dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo reached tcp; "
            '/usr/bin/python3 -c "import socket; s = socket.socket(socket.AF_UNIX); '
            "s.connect(chr(0) + 'sandboxd-test-canary'); print('reached unix')\"; "
            "tail -n +3 /proc/net/dev | cut -d: -f1"
        )
    assert "reached" not in result.stdout
    assert "lo" in result.stdout.split()


def test_own_loopback_works(sandbox: Sandbox) -> None:
    script = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); "
        "c = socket.create_connection(s.getsockname()); print('connected')"
    )
    assert sandbox.run(f'/usr/bin/python3 -c "{script}"').stdout == "connected\n"


def test_loopback_that_is_down_stops_the_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "apply", lambda: None)
    result = sandbox.run("echo ran")
    assert (result.last["event"], result.last["stage"]) == ("fault", "network")


def _caught(pid: int) -> set[int]:
    """The signals that a process has handlers for."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(status.split("SigCgt:")[1].split()[0], 16)
    return {number for number in signal.valid_signals() if mask >> (number - 1) & 1}


def _init(shim: int) -> int:
    """The pid of a shim's init, once a program of the run is there."""
    deadline = time.monotonic() + 20
    while True:
        assert time.monotonic() < deadline
        for child in Path(f"/proc/{shim}/task/{shim}/children").read_text().split():
            if Path(f"/proc/{child}/task/{child}/children").read_text().split():
                return int(child)
        time.sleep(0.02)


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

    def look(started: Started) -> None:
        caught.update(_caught(_init(started.pid)))

    send = "read go; for s in SEGV BUS FPE ILL ABRT; do kill -$s 1; done; echo alive"
    assert sandbox.run(send, answers=["go\n"], while_running=look).stdout == "alive\n"
    assert caught & faults == (set() if protected else faults)
