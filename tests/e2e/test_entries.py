"""The jails that wait for runs: prepared ones and warm ones, and the spawner that makes them.

Whatever of them is killed, stopped or outdated: each run begins once and has its result.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from sandboxd.model import STEPS
from sandboxd.warden.runs.entries import WARM_MAX

from ..waiting import until
from .daemon import Daemon, Outcome, follow, run, running
from .test_full import SMALL, fill, small

WARM = "[runs]\nprepared = 2\nwarm_s = 30\n"
COLD = "[runs]\nprepared = 2\nwarm_s = 0\n"
WARM_MEMORY, PREPARED_MEMORY = 8 << 20, 4 << 20
"""Bytes of a jail that waits, as docs/operations.md promises."""

NONE = "[runs]\nprepared = 0\nwarm_s = 0\n"


def family(daemon: Daemon, title: str) -> list[psutil.Process]:
    """The processes below the warden whose title begins so, shims and inits among them."""
    assert daemon.process
    below = psutil.Process(daemon.process.pid).children(recursive=True)
    return [one for one in below if _title(one).startswith(f"sandboxd: {title}")]


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error, IndexError):
        return process.cmdline()[0]
    return ""


def prepared(daemon: Daemon) -> list[psutil.Process]:
    """The shims that wait for their first run, once there are two of them with their inits."""
    return until(lambda: _complete(daemon))


def _complete(daemon: Daemon) -> list[psutil.Process] | None:
    processes = family(daemon, "prepared")
    pids = {one.pid for one in processes}
    shims = [one for one in processes if one.ppid() not in pids]
    return shims if len(processes) == 4 and len(shims) == 2 else None


def warm(daemon: Daemon) -> psutil.Process:
    """The one warm shim."""

    def look() -> psutil.Process | None:
        shims = [one for one in family(daemon, "shim") if _title(one).endswith("warm")]
        return shims[0] if len(shims) == 1 else None

    return until(look)


def ended(*processes: psutil.Process) -> bool:
    """All of them have ended."""
    return all(not one.is_running() or one.status() == psutil.STATUS_ZOMBIE for one in processes)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[[str], tuple[Daemon, httpx.Client]]]:
    """Starts a daemon with a configuration and one session, `kept`."""
    with contextlib.ExitStack() as stack:

        def begin(config: str) -> tuple[Daemon, httpx.Client]:
            daemon = stack.enter_context(running(folder, config))
            http = stack.enter_context(daemon.client())
            stack.callback(daemon.purge)
            assert http.post("/session", json={"image": "c", "name": "kept"}).status_code == 201
            return daemon, http

        yield begin


Start = Callable[[str], tuple[Daemon, httpx.Client]]


def count(http: httpx.Client) -> Outcome:
    """A run that leaves a trace each time that it begins."""
    outcome = run(http, "kept", {"exec": "echo begun >> begun; wc -l < begun"})
    assert outcome.exits[-1] == 0
    return outcome


def test_run_has_an_entry_that_was_prepared_and_another_one_is_prepared_then(start: Start) -> None:
    daemon, http = start(COLD)
    waiting = prepared(daemon)
    assert count(http).text("stdout") == "1\n"
    until(lambda: any(ended(one) for one in waiting))
    assert len(prepared(daemon)) == 2


def test_daemon_without_entries_has_no_spawner_and_keeps_no_shim(start: Start) -> None:
    daemon, http = start(NONE)
    assert count(http).text("stdout") == "1\n"
    assert not family(daemon, "prepared") and not family(daemon, "spawner")
    until(lambda: not family(daemon, "shim"))
    assert count(http).text("stdout") == "2\n"


def test_next_run_of_a_session_has_the_shim_of_the_last_one(start: Start) -> None:
    daemon, http = start(WARM)
    assert count(http).text("stdout") == "1\n"
    first = warm(daemon)
    assert count(http).text("stdout") == "2\n"
    assert warm(daemon) == first


def test_idle_session_has_no_process_after_the_rest(start: Start) -> None:
    daemon, http = start("[runs]\nprepared = 0\nwarm_s = 0.3\n")
    count(http)
    until(lambda: not family(daemon, "shim") and not family(daemon, "init"))
    assert count(http).text("stdout") == "2\n"


STAYS = {
    "a failure": ("exit 3", True),
    "a signal of its own": ("kill -9 $$", True),
    "a refused call": ("unshare -U true; true", False),
    "an end by the clock": ("sleep 60", False),
    "a want of memory": ("/usr/bin/python3 -c 'x = bytearray(600 << 20)'; true", False),
    "a want of processes": (
        "/usr/bin/python3 -c 'import os\nwhile True: os.fork() or os.pause()'; true", False,
    ),
}  # fmt: skip
"""How a run ends -> its program, and whether its shim stays."""


@pytest.mark.parametrize("end", STAYS)
def test_only_a_run_that_has_ended_by_itself_leaves_its_shim(start: Start, end: str) -> None:
    program, stays = STAYS[end]
    daemon, http = start(WARM)
    limits = {"wall_s": 2, "mem": "256m", "pids": 20}
    run(http, "kept", {"exec": program, "limits": {"exec": limits}})
    if stays:
        warm(daemon)
    else:
        until(lambda: not family(daemon, "shim"))
    assert count(http).text("stdout") == "1\n"


LEAVES = """
set -e
(trap '' TERM HUP; setsid sleep 300 &)
echo secret > /dev/shm/file
ipcmk -M 64 -S 1 -Q > /dev/null
/usr/bin/python3 - <<'end'
import ctypes
libc = ctypes.CDLL(None)
assert libc.mq_open(b"/queue", 0o102, 0o600, None) >= 0
end
"""
LOOKS = """
ls /dev/shm /dev/mqueue
tail -qn +2 /proc/sysvipc/*
ls -d /proc/[0-9]* | wc -l
"""


def test_nothing_but_files_of_the_session_is_there_in_the_next_run(start: Start) -> None:
    daemon, http = start(WARM)
    assert run(http, "kept", {"exec": LEAVES}).exits[-1] == 0
    first = warm(daemon)
    outcome = run(http, "kept", {"exec": LOOKS})
    assert warm(daemon) == first
    assert outcome.text("stdout") == "/dev/mqueue:\n\n/dev/shm:\n3\n"  # the shell, ls and wc


def test_run_with_other_limits_gets_another_jail(start: Start) -> None:
    daemon, http = start(WARM)
    count(http)
    first = warm(daemon)
    options = {"exec": "ulimit -n", "limits": {step: {"nofile": 99} for step in STEPS}}
    assert run(http, "kept", options).text("stdout") == "99\n"
    until(lambda: ended(first))


def test_at_most_sixteen_jails_stay_warm_and_each_takes_little_memory(start: Start) -> None:
    daemon, http = start(WARM)
    for number in range(WARM_MAX + 2):
        name = f"session-{number}"
        assert http.post("/session", json={"image": "c", "name": name}).status_code == 201
        assert run(http, name, {"exec": "true"}).exits[-1] == 0
    shims = until(lambda: _settled(daemon))
    inits = [child for shim in shims for child in shim.children()]
    assert len(inits) == WARM_MAX
    used = sum(one.memory_full_info().uss for one in (*shims, *inits))
    assert used <= WARM_MAX * WARM_MEMORY
    used = sum(one.memory_full_info().uss for one in family(daemon, "prepared"))
    assert used <= 2 * PREPARED_MEMORY


def _settled(daemon: Daemon) -> list[psutil.Process] | None:
    """The shims, once all are warm and no more than may be."""
    shims = family(daemon, "shim")
    all_warm = all(_title(one).endswith("warm") for one in shims)
    return shims if all_warm and len(shims) == WARM_MAX else None


def test_sessions_never_share_a_shim(start: Start) -> None:
    daemon, http = start(WARM)
    count(http)
    first = warm(daemon)
    http.post("/session", json={"image": "c", "name": "other"})
    assert run(http, "other", {"exec": "ls"}).text("stdout") == ""
    shims = {one.pid for one in family(daemon, "shim")}
    assert first.pid in shims and len(shims) == 2
    assert http.delete("/session/other").status_code == 200
    assert first.pid in {one.pid for one in family(daemon, "shim")}


def test_deletion_of_a_session_takes_its_warm_shim(start: Start) -> None:
    daemon, http = start(WARM)
    count(http)
    warm(daemon)
    assert http.delete("/session/kept").status_code == 200
    assert not family(daemon, "shim") and not family(daemon, "init")
    until(lambda: os.listdir(daemon.state / "slots") == [])


def test_killed_spawner_costs_no_run_and_another_one_is_started(start: Start) -> None:
    daemon, http = start(WARM)
    call = {"mode": "batch", "code": "", "runId": "r", "options": {"exec": "read x; echo $x"}}
    http.post("/session/kept", json=call)
    waiting = prepared(daemon)
    (spawner,) = family(daemon, "spawner")
    spawner.kill()
    until(lambda: ended(spawner, *waiting))
    outcome = follow(http, "kept", call | {"mode": "input", "code": "answered", "options": {}})
    assert (outcome.text("stdout"), outcome.exits[-1]) == ("answered\n", 0)
    assert count(http).text("stdout") == "1\n"
    assert not set(prepared(daemon)) & set(waiting)


@pytest.mark.parametrize("victim", ["shims", "inits", "all"])
def test_killed_entries_cost_no_run(start: Start, victim: str) -> None:
    daemon, http = start(COLD)
    shims = prepared(daemon)
    inits = [child for one in shims for child in one.children()]
    for process in {"shims": shims, "inits": inits, "all": [*shims, *inits]}[victim]:
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended with the one before
            process.kill()
    assert count(http).text("stdout") == "1\n"
    until(lambda: ended(*shims, *inits))


def test_killed_warm_shim_costs_no_run(start: Start) -> None:
    daemon, http = start(WARM)
    count(http)
    warm(daemon).kill()
    assert count(http).text("stdout") == "2\n"


def test_order_that_an_entry_does_not_acknowledge_goes_to_another_one(start: Start) -> None:
    daemon, http = start(COLD)
    stopped = prepared(daemon)
    for process in stopped:
        process.suspend()
    assert count(http).text("stdout") == "1\n"
    for process in stopped:
        process.resume()
    until(lambda: ended(*stopped))
    assert count(http).text("stdout") == "2\n"


def test_order_that_meets_a_leaving_shim_goes_to_another_one(start: Start) -> None:
    daemon, http = start(WARM)
    assert count(http).text("stdout") == "1\n"
    leaving = warm(daemon)
    leaving.suspend()
    assert count(http).text("stdout") == "2\n"
    leaving.resume()
    until(lambda: ended(leaving))
    assert count(http).text("stdout") == "3\n"


def run_at_warden(
    pool: ThreadPoolExecutor, http: httpx.Client, daemon: Daemon, number: int
) -> Future[Outcome]:
    """A run that has reached the warden: its directory is there."""
    outcome = pool.submit(count, http)
    until(lambda: list(daemon.state.glob(f"slots/*/runs/{number}")) or outcome.done())
    assert not outcome.done()
    return outcome


def test_prepared_entries_killed_with_an_order_unread_cost_no_run(start: Start) -> None:
    daemon, http = start(COLD)
    stopped = prepared(daemon)
    for process in stopped:
        process.suspend()
    with ThreadPoolExecutor() as pool:
        outcome = run_at_warden(pool, http, daemon, 1)
        for process in stopped:
            process.kill()
        assert outcome.result().text("stdout") == "1\n"
    until(lambda: ended(*stopped))
    assert count(http).text("stdout") == "2\n"


def test_warm_shim_killed_with_an_order_unread_costs_no_run(start: Start) -> None:
    daemon, http = start(WARM)
    assert count(http).text("stdout") == "1\n"
    leaving = warm(daemon)
    leaving.suspend()
    with ThreadPoolExecutor() as pool:
        outcome = run_at_warden(pool, http, daemon, 2)
        leaving.kill()
        assert outcome.result().text("stdout") == "2\n"
    until(lambda: ended(leaving))


def test_spawner_killed_while_an_order_is_unread_costs_no_run(start: Start) -> None:
    daemon, http = start(COLD)
    stopped = prepared(daemon)
    for process in stopped:
        process.suspend()
    (spawner,) = family(daemon, "spawner")
    with ThreadPoolExecutor() as pool:
        outcome = run_at_warden(pool, http, daemon, 1)
        spawner.kill()
        assert outcome.result().text("stdout") == "1\n"
    until(lambda: ended(spawner, *stopped))
    assert not set(prepared(daemon)) & set(stopped)


def test_full_disk_with_jails_waiting_costs_no_run_but_those_that_it_refuses(folder: Path) -> None:
    state = folder / "state"
    with contextlib.ExitStack() as stack:
        stack.enter_context(small(state, "size=48m"))
        daemon = stack.enter_context(running(folder, SMALL + WARM))
        http = stack.enter_context(daemon.client())
        http.post("/session", json={"image": "c", "name": "kept"}).raise_for_status()
        assert count(http).text("stdout") == "1\n"
        waiting = [*prepared(daemon), warm(daemon)]
        fill(state / "filler")
        call = {"mode": "batch", "code": "", "options": {"exec": "echo begun >> begun"}}
        assert http.post("/session/kept", json=call | {"runId": "full"}).status_code == 507
        assert not any(ended(one) for one in waiting)
        (state / "filler").unlink()
        assert count(http).text("stdout") == "2\n"
        assert http.delete("/session/kept").status_code == 200


def test_drain_lets_the_jails_that_wait_take_no_new_run_and_end_with_the_daemon(
    start: Start,
) -> None:
    daemon, http = start(WARM)
    call = {"mode": "batch", "code": "", "runId": "r", "options": {"exec": "read x; echo $x"}}
    http.post("/session/kept", json=call)
    http.post("/admin/drain", json={"deadline": 60}).raise_for_status()
    refused = http.post("/session/kept", json=call | {"runId": "new"})
    assert refused.status_code == 503, refused.text
    outcome = follow(http, "kept", call | {"mode": "input", "code": "answered", "options": {}})
    assert (outcome.text("stdout"), outcome.exits[-1]) == ("answered\n", 0)
    waiting = [*prepared(daemon), *family(daemon, "spawner"), warm(daemon)]
    daemon.end("neither")
    until(lambda: ended(*waiting))
    daemon.start()
    with daemon.client() as again:
        assert count(again).text("stdout") == "1\n"
        assert again.delete("/session/kept").status_code == 200


@pytest.mark.parametrize("victim", ["warden", "both", "neither"])
def test_nothing_that_waits_outlives_its_daemon(start: Start, victim: str) -> None:
    daemon, http = start(WARM)
    count(http)
    waiting = [*prepared(daemon), *family(daemon, "spawner"), warm(daemon)]
    waiting += [child for one in waiting for child in one.children()]
    daemon.end(victim)
    until(lambda: ended(*waiting))
    daemon.start()
    with daemon.client() as again:
        assert count(again).text("stdout") == "2\n"
        assert again.delete("/session/kept").status_code == 200


def test_warm_shim_that_has_taken_the_next_run_outlives_the_warden(start: Start) -> None:
    daemon, http = start(WARM)
    count(http)
    warm(daemon)
    call = {"mode": "batch", "code": "", "runId": "r", "options": {}}
    options = {"exec": "echo begun >> begun; sleep 3; echo done"}
    http.post("/session/kept", json=call | {"options": options})
    until(lambda: (daemon.state / "slots").exists() and family(daemon, "shim"))
    daemon.end("both")
    daemon.start()
    with daemon.client() as again:
        outcome = follow(again, "kept", call | {"mode": "continue"})
        assert (outcome.text("stdout"), outcome.exits[-1]) == ("done\n", 0)
        assert count(again).text("stdout") == "3\n"
        assert again.delete("/session/kept").status_code == 200


def test_reload_replaces_all_that_wait(start: Start) -> None:
    daemon, http = start(WARM)
    count(http)
    waiting = [*prepared(daemon), warm(daemon)]
    path = daemon.folder / "config.toml"
    path.write_text(path.read_text() + '[rootfs]\netc = ["hostname"]\n')
    assert daemon.process
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: ended(*waiting))
    until(lambda: not run(http, "kept", {"exec": "test -e /etc/hostname"}).exits[-1])
