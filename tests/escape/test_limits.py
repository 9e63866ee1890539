"""The limits of a step: their verdicts, and the same program without the limit."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from typing import Any

import pytest

from sandboxd.config.settings import STEP_LIMITS
from sandboxd.host import cgroup_settings
from sandboxd.jail import rlimits
from sandboxd.jail.cgroup import Group
from sandboxd.model import Limits
from sandboxd.shim import ipc
from sandboxd.shim.console import ConsoleCopier
from sandboxd.shim.deadlines import Deadlines
from sandboxd.shim.storage import Storage
from sandboxd.warden.runs.worker import Worker

from ..sandbox import BareWarden, Sandbox, lease

PYTHON = "exec /usr/bin/python3 -c '{}'"
FILL = "exec head -c 40M /dev/zero > {}"


@pytest.fixture
def small(warden: BareWarden) -> Iterator[Sandbox]:
    """A session whose disk is full soon."""
    sandbox = lease(warden, size=24 << 20, inodes=512)
    yield sandbox
    warden.free(sandbox.slot)


def outcome(verdict: dict[str, Any]) -> tuple[str, str | None]:
    return verdict["outcome"], verdict["limit"]


def test_full_disk_stops_the_writer_and_is_explained(small: Sandbox) -> None:
    result = small.run(FILL.format("big"))
    assert outcome(result.verdict) == ("limit", "disk")
    assert "disk is full" in result.verdict["advice"]
    counted = result.verdict["counters"]["disk_bytes"]
    assert 10 << 20 < counted["after"] - counted["before"] < 24 << 20
    again = small.run("exit 3")
    assert (again.exit, again.verdict["limit"]) == (3, None), "it was full before, and not for this"
    assert outcome(small.run("echo x > y || exit 4").verdict) == ("failure", "disk")


def test_disk_that_was_full_for_a_moment_is_the_verdict_of_a_failed_program(small: Sandbox) -> None:
    result = small.run(f"({FILL.format('big')}) ; code=$?; rm big; exit $code")
    assert result.verdict["limit"] == "disk"


def test_too_many_files_are_refused_and_are_the_verdict(small: Sandbox) -> None:
    result = small.run("mkdir d && cd d && for i in {1..600}; do : > $i || exit 1; done")
    assert outcome(result.verdict) == ("limit", "inodes")


def test_step_that_outgrows_its_disk_limit_ends_and_the_run_goes_on(sandbox: Sandbox) -> None:
    result = sandbox.run(
        "echo next", clean="head -c 30M /dev/zero > f; sync; sleep 9", disk=8 << 20
    )
    verdict = result.events[0]["verdict"]
    assert outcome(verdict) == ("limit", "disk")
    assert (verdict["signal"], verdict["sent_by"]) == ("SIGKILL", "sandboxd")
    assert (result.stdout, result.exit) == ("next\n", 0)


def test_step_outgrows_its_disk_limit_when_the_disk_is_not_looked_at(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Storage, "check", lambda storage: None)
    assert sandbox.run("head -c 30M /dev/zero > f; sleep 0.3", disk=8 << 20).exit == 0


def test_step_that_makes_too_many_files_ends(sandbox: Sandbox) -> None:
    result = sandbox.run("mkdir d; cd d; for i in {1..500}; do : > $i; done; sleep 9", inodes=100)
    assert outcome(result.verdict) == ("limit", "inodes")
    assert "100 new files" in result.verdict["advice"]


@pytest.mark.parametrize(
    ("command", "verdict", "words"),
    [
        ("exec dd if=/dev/zero of=f bs=1M count=9", ("limit", "fsize"), "4 MiB"),
        ("dd if=/dev/zero of=f bs=1M count=9; exit $?", ("failure", None), "limits.fsize"),
    ],
)
def test_file_does_not_grow_beyond_its_limit(
    sandbox: Sandbox, command: str, verdict: tuple[str, str | None], words: str
) -> None:
    """Only the signal of the first process is proved. A shell's 153 could be a program's own."""
    result = sandbox.run(command, clean="rm -f f", fsize=4 << 20)
    assert outcome(result.verdict) == verdict
    assert words in result.verdict["advice"]
    assert sandbox.run("stat -c %s f").stdout == f"{4 << 20}\n"


def test_program_that_ignores_the_signal_of_a_large_file_is_explained(sandbox: Sandbox) -> None:
    result = sandbox.run(PYTHON.format('open("f", "wb").write(bytes(9 << 20))'), fsize=4 << 20)
    assert outcome(result.verdict) == ("failure", "fsize")


def test_program_that_runs_out_of_descriptors_is_explained(sandbox: Sandbox) -> None:
    result = sandbox.run(PYTHON.format('x = [open("/dev/null") for _ in range(99)]'), nofile=32)
    assert outcome(result.verdict) == ("failure", "nofile")
    assert "may have 32" in result.verdict["advice"]


def test_program_opens_more_files_without_its_rlimit(
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
    assert outcome(result.verdict) == ("success", "output")
    assert result.verdict["usage"]["cut_bytes"] == 99_004
    assert result.verdict["usage"]["stdout_bytes"] == 100_000


def test_output_that_the_spool_has_no_room_for_is_counted(sandbox: Sandbox) -> None:
    result = sandbox.run("head -c 40M /dev/zero | tr '\\0' x")
    usage = result.verdict["usage"]
    assert usage["cut_bytes"] == usage["stdout_bytes"] - len(result.stdout) == result.lost


def test_out_of_memory_kill_of_a_child_is_counted_and_is_the_verdict(sandbox: Sandbox) -> None:
    """The first process ends by itself, with an exit code of its own. The limit is far above the
    heap of these tests, which the init of this run has: else the kernel would kill init."""
    grab = "/usr/bin/python3 -c 'x = bytearray(900 << 20)'"
    result = sandbox.run(f"{grab}; exit 9", memory=512 << 20)
    assert (outcome(result.verdict), result.exit) == (("limit", "memory"), 9)
    counters = result.verdict["counters"]
    assert counters["oom_kills"]["after"] > counters["oom_kills"]["before"]
    if sandbox.warden.resources.hierarchy.base.get(""):  # v1 has stopped counting in later kernels
        assert counters["memory_hits"]["after"] > counters["memory_hits"]["before"]
    assert "512 MiB" in result.verdict["advice"]


def test_refused_fork_is_counted(sandbox: Sandbox) -> None:
    result = sandbox.run("for i in {1..20}; do sleep 5 & done; exit 1", pids=8)
    assert outcome(result.verdict) == ("limit", "pids")
    counted = result.verdict["counters"]["pids_refused"]
    assert counted["after"] > counted["before"]


def test_verdict_tells_a_signal_of_the_program_from_one_of_sandboxd(sandbox: Sandbox) -> None:
    verdict = sandbox.run("kill -KILL $$").verdict
    assert (verdict["outcome"], verdict["signal"]) == ("signal", "SIGKILL")
    assert verdict["sent_by"] == "program"


def test_verdict_says_that_the_kernel_sent_sigsegv(sandbox: Sandbox) -> None:
    result = sandbox.run(PYTHON.format("import ctypes; ctypes.string_at(0)"))
    assert (result.verdict["signal"], result.verdict["sent_by"]) == ("SIGSEGV", "kernel")


def test_memory_of_an_earlier_step_that_cannot_be_freed_is_the_verdict_memory(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipc, "clear", lambda: None)
    own = {"exec": {"memory": 32 << 20}}
    result = sandbox.run("echo ran", build="head -c 60M /dev/zero > /dev/shm/x", per_step=own)
    assert (result.stdout, result.exit) == ("", 137)
    assert outcome(result.verdict) == ("limit", "memory")
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
        "tail -c 8; pwd; env -u PYTHONUNBUFFERED | sort; cat"
    )
    result = sandbox.run(ask, build=ask, per_step={"exec": {"nofile": 100}}, answers=[None, None])
    half = len(result.stdout) // 2
    assert result.stdout[:half] == result.stdout[half:]
    assert result.stdout.startswith("4\n1\n1000\n") and result.waited == 2


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Leave the limits of these control files out of those that are written into a cgroup."""
    settings = Group._settings

    def others(group: Group, limits: Limits) -> list[tuple[str, str]]:
        return [pair for pair in settings(group, limits) if not pair[0].startswith(names)]

    monkeypatch.setattr(Group, "_settings", others)


def test_program_is_held_back_at_its_cpu_quota_and_not_without_it(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    throttled: list[int] = []

    def look(started: Worker) -> None:
        assert started.group
        throttled.append(started.group.files.throttled())

    spin = PYTHON.format("import time\nwhile time.process_time() < 0.5: pass\ninput()")
    assert sandbox.run(spin, cpus=0.1, answers=["\n"], on_wait=look).exit == 0
    without(monkeypatch, "cpu.")
    assert sandbox.run(spin, cpus=0.1, answers=["\n"], on_wait=look).exit == 0
    assert throttled[0] > 0 and throttled[1] == 0


def test_program_goes_on_after_its_cpu_time_without_its_deadline(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    spin = PYTHON.format("import time\nwhile time.process_time() < 0.6: pass")
    assert sandbox.run(spin, cpu_s=0.1).verdict["limit"] == "cpu_s"
    monkeypatch.setattr(Deadlines, "cpu_reached", lambda *_: False)
    assert sandbox.run(spin, cpu_s=0.1).exit == 0


def test_full_shared_memory_is_explained(sandbox: Sandbox) -> None:
    result = sandbox.run(FILL.format("/dev/shm/x"), shm=8 << 20)
    assert outcome(result.verdict) == ("limit", "shm") and "8 MiB" in result.verdict["advice"]


def test_all_output_is_stored_without_its_limit(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach = ConsoleCopier.attach
    monkeypatch.setattr(ConsoleCopier, "attach", lambda console, _: attach(console, STEP_LIMITS))
    assert sandbox.run("head -c 100000 /dev/zero | tr '\\0' x", output=9).stdout == "x" * 100_000


def test_advice_counts_the_processes_of_its_own_step(sandbox: Sandbox) -> None:
    many = "for i in {1..30}; do sleep 60 & done; kill %{1..30}; wait"
    grab = PYTHON.format("x = bytearray(90 << 20)")
    result = sandbox.run(grab, build=many, memory=48 << 20)
    assert result.events[1]["verdict"]["usage"]["pids_peak"] > 30
    assert "reached by 1 process;" in result.verdict["advice"]


SOCKETS = """
import socket
listener, ends, sent = socket.socket(), [], 0
listener.bind(("127.0.0.1", 0))
listener.listen(400)
for _ in range(120):
    sock = socket.socket()
    sock.settimeout(3)
    try:
        sock.connect(listener.getsockname())
        ends += [sock, listener.accept()[0]]
        sock.setblocking(False)
        while True: sent += sock.send(bytes(1 << 16))
    except BlockingIOError:
        pass
    except OSError:
        break
print(sent >> 20)
"""


def test_buffers_of_sockets_are_bounded(sandbox: Sandbox) -> None:
    """Without a bound the buffers count for the whole host, and slow all its connections down."""
    result = sandbox.run(f"/usr/bin/python3 - <<'E'\n{SOCKETS}\nE", memory=64 << 20)
    assert result.verdict["outcome"] == "limit" or int(result.stdout) < 96, result.stderr


def test_buffers_of_sockets_have_no_bound_in_v1_without_their_limit(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sandbox.warden.resources.hierarchy.base.get(""):
        pytest.skip("cgroup v2 always counts them as memory")
    without(monkeypatch, cgroup_settings.V1_SOCKETS)
    result = sandbox.run(f"/usr/bin/python3 - <<'E'\n{SOCKETS}\nE", memory=64 << 20)
    assert int(result.stdout) > 200
