"""Every limit holds, its verdict is right, and without it the attack succeeds."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from typing import Any

import pytest

from sandboxd.jail import cgroup, mounts, rlimits, rootfs
from sandboxd.model import Limits
from sandboxd.shim import shared_memory
from sandboxd.shim.console import ConsoleCopier
from sandboxd.shim.deadlines import Deadlines
from sandboxd.shim.storage import Storage
from sandboxd.warden.requests import Requests

from ..sandbox import Sandbox, lease

PYTHON = "exec /usr/bin/python3 -c '{}'"
FILL = "exec head -c 40M /dev/zero > {}"


@pytest.fixture
def small(requests: Requests) -> Iterator[Sandbox]:
    """A session whose disk is full soon."""
    made = lease(requests, size=24 << 20, inodes=512)
    yield made
    requests.free(made.slot)


def told(verdict: dict[str, Any]) -> tuple[str, str]:
    return verdict["outcome"], verdict["limit"]


def test_full_disk_stops_the_writer_and_is_told(small: Sandbox) -> None:
    result = small.run(FILL.format("big"))
    assert told(result.verdict) == ("limit", "disk")
    assert "disk is full" in result.verdict["advice"]
    counted = result.verdict["counters"]["disk_bytes"]
    assert 10 << 20 < counted["after"] - counted["before"] < 24 << 20
    again = small.run("exit 3")
    assert (again.exit, again.verdict["limit"]) == (3, None), "it was full before, and not for this"
    assert told(small.run("echo x > y || exit 4").verdict) == ("failure", "disk")


def test_disk_that_was_full_for_a_moment_is_told_by_the_program(small: Sandbox) -> None:
    result = small.run(f"({FILL.format('big')}) ; code=$?; rm big; exit $code")
    assert result.verdict["limit"] == "disk"


def test_too_many_files_are_refused_and_told(small: Sandbox) -> None:
    result = small.run("mkdir d && cd d && for i in {1..600}; do : > $i || exit 1; done")
    assert told(result.verdict) == ("limit", "inodes")


def test_step_that_outgrows_its_disk_limit_ends_and_the_run_goes_on(sandbox: Sandbox) -> None:
    result = sandbox.run(
        "echo next", clean="head -c 30M /dev/zero > f; sync; sleep 9", disk=8 << 20
    )
    verdict = result.events[0]["verdict"]
    assert told(verdict) == ("limit", "disk")
    assert (verdict["signal"], verdict["sent_by"]) == ("SIGKILL", "sandboxd")
    assert verdict["usage"]["wall_ms"] < 5000
    assert (result.stdout, result.exit) == ("next\n", 0)


def test_without_the_look_at_the_disk_a_step_outgrows_its_limit(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Storage, "check", lambda storage: None)
    assert sandbox.run("head -c 30M /dev/zero > f; sleep 0.3", disk=8 << 20).exit == 0


def test_step_that_makes_too_many_files_ends(sandbox: Sandbox) -> None:
    result = sandbox.run("mkdir d; cd d; for i in {1..500}; do : > $i; done; sleep 9", inodes=100)
    assert told(result.verdict) == ("limit", "inodes")
    assert "100 new files" in result.verdict["advice"]


@pytest.mark.parametrize(
    "command",
    ["exec dd if=/dev/zero of=f bs=1M count=9", "dd if=/dev/zero of=f bs=1M count=9; exit $?"],
)
def test_file_does_not_grow_beyond_its_limit(sandbox: Sandbox, command: str) -> None:
    result = sandbox.run(command, clean="rm -f f", fsize=4 << 20)
    assert told(result.verdict) == ("limit", "fsize")
    assert "4 MiB" in result.verdict["advice"]
    assert sandbox.run("stat -c %s f").stdout == f"{4 << 20}\n"


def test_program_that_ignores_the_signal_of_a_large_file_is_explained(sandbox: Sandbox) -> None:
    result = sandbox.run(PYTHON.format('open("f", "wb").write(bytes(9 << 20))'), fsize=4 << 20)
    assert told(result.verdict) == ("failure", "fsize")


def test_without_its_rlimit_a_file_grows(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = rlimits.plan
    without = (resource.RLIMIT_FSIZE,)
    monkeypatch.setattr(
        rlimits, "plan", lambda limits: {k: v for k, v in plan(limits).items() if k not in without}
    )
    assert sandbox.run("head -c 9M /dev/zero > f", fsize=4 << 20).exit == 0


def test_descriptors_run_out_and_it_is_told(sandbox: Sandbox) -> None:
    result = sandbox.run(PYTHON.format('x = [open("/dev/null") for _ in range(99)]'), nofile=32)
    assert told(result.verdict) == ("failure", "nofile")
    assert "may have 32" in result.verdict["advice"]


def test_without_its_rlimit_a_program_opens_more(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = rlimits.plan
    without = (resource.RLIMIT_NOFILE,)
    monkeypatch.setattr(
        rlimits, "plan", lambda limits: {k: v for k, v in plan(limits).items() if k not in without}
    )
    assert sandbox.run(PYTHON.format('[open("/dev/null") for _ in range(99)]'), nofile=32).exit == 0


def test_output_beyond_its_limit_is_dropped_and_counted(sandbox: Sandbox) -> None:
    result = sandbox.run("head -c 100000 /dev/zero | tr '\\0' x; echo err >&2; exit 0", output=1000)
    assert result.stdout == "x" * 1000 and result.stderr == ""
    assert told(result.verdict) == ("success", "output")
    assert result.verdict["usage"]["cut_bytes"] == 99_004
    assert result.verdict["usage"]["stdout_bytes"] == 100_000


def test_output_that_the_spool_has_no_room_for_is_counted(sandbox: Sandbox) -> None:
    result = sandbox.run("head -c 40M /dev/zero | tr '\\0' x")
    usage = result.verdict["usage"]
    assert usage["cut_bytes"] == usage["stdout_bytes"] - len(result.stdout) == result.lost


def test_kill_for_memory_of_a_child_is_proved_and_told(sandbox: Sandbox) -> None:
    """The first process ends by itself, with an exit code of its own. The limit is far above the
    heap of these tests, which the init of this run has: else the kernel would take that."""
    grab = "/usr/bin/python3 -c 'x = bytearray(900 << 20)'"
    result = sandbox.run(f"{grab}; exit 9", memory=512 << 20)
    assert (told(result.verdict), result.exit) == (("limit", "memory"), 9)
    counters = result.verdict["counters"]
    assert counters["oom_kills"]["after"] > counters["oom_kills"]["before"]
    if sandbox.requests.hierarchy.base.get(""):  # v1 has stopped counting in later kernels
        assert counters["memory_hits"]["after"] > counters["memory_hits"]["before"]
    assert "512 MiB" in result.verdict["advice"]


def test_refused_fork_is_counted(sandbox: Sandbox) -> None:
    result = sandbox.run("for i in {1..20}; do sleep 5 & done; exit 1", pids=8)
    assert told(result.verdict) == ("limit", "pids")
    counted = result.verdict["counters"]["pids_refused"]
    assert counted["after"] > counted["before"]


def test_signal_of_the_program_itself_is_not_taken_for_ours(sandbox: Sandbox) -> None:
    verdict = sandbox.run("kill -KILL $$").verdict
    assert (verdict["outcome"], verdict["signal"]) == ("signal", "SIGKILL")
    assert verdict["sent_by"] == "program"


def test_fault_is_the_kernels(sandbox: Sandbox) -> None:
    result = sandbox.run(PYTHON.format("import ctypes; ctypes.string_at(0)"))
    assert (result.verdict["signal"], result.verdict["sent_by"]) == ("SIGSEGV", "kernel")


LEAVE = (
    "head -c 60M /dev/zero > /dev/shm/x; mkdir -p /dev/shm/a/b; chmod 0 /dev/shm/a; "
    "ipcmk -M 30M -S 4 -Q >/dev/null; /usr/bin/python3 -c '\n"
    "import ctypes, os; l = ctypes.CDLL(None); l.shmat.restype = ctypes.c_void_p\n"
    'n = int(list(open("/proc/sysvipc/shm"))[1].split()[1])\n'
    "ctypes.memset(ctypes.c_void_p(l.shmat(n, None, 0)), 1, 30 << 20)'"
)


def test_memory_that_a_step_leaves_is_not_the_next_ones(sandbox: Sandbox) -> None:
    look = "ls -A /dev/shm; cat /proc/sysvipc/{shm,sem,msg} | grep -vc key"
    result = sandbox.run(look, build=LEAVE, shm=64 << 20)
    assert result.events[1]["exit"] == 0, result.stderr
    assert result.stdout == "0\n"


def test_without_clearing_it_is(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "clear", lambda: None)
    look = "ls -A /dev/shm; cat /proc/sysvipc/{shm,sem,msg} | grep -vc key"
    assert sandbox.run(look, build=LEAVE, shm=64 << 20).stdout == "a\nx\n3\n"


def test_memory_that_cannot_be_freed_is_told_and_no_fault_of_ours(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "clear", lambda: None)
    own = {"exec": {"memory": 32 << 20}}
    result = sandbox.run("echo ran", build="head -c 60M /dev/zero > /dev/shm/x", per_step=own)
    assert (result.stdout, result.exit) == ("", 137)
    assert told(result.verdict) == ("limit", "memory")
    assert "an earlier step" in result.verdict["advice"]


def test_smaller_memory_limit_after_a_step_that_filled_memory(sandbox: Sandbox) -> None:
    own = {"exec": {"memory": 32 << 20}}
    shut = "head -c 60M /dev/zero > /dev/shm/x; chmod 0 /dev/shm"
    result = sandbox.run("ls -A /dev/shm", build=shut, per_step=own)
    assert (result.stdout, result.exit) == ("", 0)


def test_limits_of_each_step_are_its_own(sandbox: Sandbox) -> None:
    """Also those that cannot be raised once they are set."""
    steps = {
        "build": {"nofile": 200, "fsize": 1 << 20},
        "exec": {"nofile": 100, "fsize": 2 << 20},
    }
    ask = "ulimit -Hn; ulimit -n; ulimit -Hf; ulimit -f; ulimit -n 201 2>&1 | wc -l"
    result = sandbox.run(ask, build=ask, per_step=steps)
    build, exec = result.stdout.split()[:5], result.stdout.split()[5:]
    assert build == ["200", "200", "1024", "1024", "1"]
    assert exec == ["100", "100", "2048", "2048", "1"]


def test_step_with_limits_of_its_own_is_started_like_any_other(sandbox: Sandbox) -> None:
    ask = (
        "ls /proc/self/fd | wc -l; ps -o sid= -p $$ | grep -cw $$; cat /proc/self/oom_score_adj; "
        "grep -E 'SigBlk|NoNewPrivs|Seccomp:' /proc/self/status; grep SigIgn /proc/self/status | "
        "tail -c 8; pwd; env | sort; cat"
    )
    result = sandbox.run(ask, build=ask, per_step={"exec": {"nofile": 100}}, answers=[None, None])
    half = len(result.stdout) // 2
    assert result.stdout[:half] == result.stdout[half:]
    assert result.stdout.startswith("4\n1\n1000\n") and result.waited == 2


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Leave the limits of these control files out of what is written into a cgroup."""
    for function in ("_v1_values", "_v2_values"):
        real = getattr(cgroup, function)

        def kept(limits: Limits, real: Any = real) -> list[tuple[str, str]]:
            return [pair for pair in real(limits) if not pair[0].startswith(names)]

        monkeypatch.setattr(cgroup, function, kept)


def test_without_its_limit_a_program_takes_more_memory(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    grab = PYTHON.format("x = bytearray(90 << 20)")
    assert sandbox.run(grab, memory=48 << 20).exit != 0
    without(monkeypatch, "memory.")
    assert sandbox.run(grab, memory=48 << 20).exit == 0


def test_without_its_limit_a_program_starts_more_processes(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork = "for i in {1..20}; do sleep 1 & done; wait; exit 0"
    assert sandbox.run(fork, pids=8).verdict["counters"]["pids_refused"]["after"] > 0
    without(monkeypatch, "pids.")
    assert sandbox.run(fork, pids=8).verdict["usage"]["pids_peak"] > 20


def test_without_its_quota_a_program_takes_more_of_the_cpu(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    spin = PYTHON.format("import time\nwhile time.process_time() < 0.5: pass")
    held = sandbox.run(spin, cpus=0.1).verdict["usage"]
    assert held["cpu_ms"] < held["wall_ms"] * 0.25
    without(monkeypatch, "cpu.")
    free = sandbox.run(spin, cpus=0.1).verdict["usage"]
    assert free["wall_ms"] < held["wall_ms"] * 0.7


@pytest.mark.parametrize(
    ("rule", "limit"), [("wall_reached", {"wall_s": 0.3}), ("cpu_reached", {"cpu_s": 0.1})]
)
def test_without_its_deadline_a_program_goes_on(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, rule: str, limit: dict[str, Any]
) -> None:
    spin = PYTHON.format("import time\nwhile time.process_time() < 0.6: pass")
    assert sandbox.run(spin, **limit).verdict["limit"] in limit
    monkeypatch.setattr(Deadlines, rule, lambda *_: False)
    assert sandbox.run(spin, **limit).exit == 0


def test_without_its_size_shared_memory_takes_more(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill = FILL.format("/dev/shm/x")
    result = sandbox.run(fill, shm=8 << 20)
    assert told(result.verdict) == ("limit", "shm") and "8 MiB" in result.verdict["advice"]
    real = rootfs.session

    def larger(uid: int, gid: int, workdir: int, tmp: int, shm: int) -> list[mounts.Part]:
        return real(uid, gid, workdir, tmp, 64 << 20)

    monkeypatch.setattr(rootfs, "session", larger)
    assert sandbox.run(fill, shm=8 << 20).exit == 0


def test_without_its_limit_all_output_is_kept(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach = ConsoleCopier.attach
    monkeypatch.setattr(ConsoleCopier, "attach", lambda console, limit: attach(console, 1 << 40))
    assert sandbox.run("head -c 100000 /dev/zero | tr '\\0' x", output=9).stdout == "x" * 100_000


def test_advice_counts_the_processes_of_its_own_step(sandbox: Sandbox) -> None:
    many = "for i in {1..30}; do sleep 60 & done; kill %{1..30}; wait"
    grab = PYTHON.format("x = bytearray(90 << 20)")
    result = sandbox.run(grab, build=many, memory=48 << 20)
    assert result.events[1]["verdict"]["usage"]["pids_peak"] > 30
    assert "reached by 1 process;" in result.verdict["advice"]


SOCKETS = """
import socket
listener, kept, sent = socket.socket(), [], 0
listener.bind(("127.0.0.1", 0))
listener.listen(400)
for _ in range(120):
    sock = socket.socket()
    sock.settimeout(3)
    try:
        sock.connect(listener.getsockname())
        kept += [sock, listener.accept()[0]]
        sock.setblocking(False)
        while True: sent += sock.send(bytes(1 << 16))
    except BlockingIOError:
        pass
    except OSError:
        break
print(sent >> 20)
"""


def test_buffers_of_sockets_are_bounded(sandbox: Sandbox) -> None:
    """They would count for the whole host: one program could slow all its connections down."""
    result = sandbox.run(f"/usr/bin/python3 - <<'E'\n{SOCKETS}\nE", memory=64 << 20)
    assert result.verdict["outcome"] == "limit" or int(result.stdout) < 96, result.stderr


def test_without_their_bound_they_are_not(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = cgroup._v1_values
    monkeypatch.setattr(
        cgroup, "_v1_values",
        lambda limits: [pair for pair in values(limits) if pair[0] != cgroup._V1_SOCKETS],
    )  # fmt: skip
    if sandbox.requests.hierarchy.base.get(""):  # v2 counts them as memory, always
        return
    result = sandbox.run(f"/usr/bin/python3 - <<'E'\n{SOCKETS}\nE", memory=64 << 20)
    assert int(result.stdout) > 200
