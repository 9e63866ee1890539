"""The ends of jails that wait for runs, and of the spawner: by a kill, a stop, a reload or a drain.

Each run begins once and has its result. The tests of one configuration are together, since they
share a daemon.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import psutil
import pytest

from ..waiting import until
from .daemon import Daemon, Outcome, follow, run
from .waiting_jails import COLD, WARM, Start, count, ended, family, prepared, warm


@dataclass(frozen=True, slots=True)
class RunWithSilent:
    """A run of the warden, by its number, and the stopped jails of which one has its order."""

    number: int
    silent: list[psutil.Process]
    outcome: Future[Outcome]

    def is_right(self) -> bool:
        """The run has begun once."""
        return self.outcome.result().text("stdout") == f"{self.number}\n"


def run_at_silent(
    pool: ThreadPoolExecutor,
    http: httpx.Client,
    jails: Callable[[], list[psutil.Process]],
    daemon: Daemon,
    first: int,
) -> RunWithSilent:
    """A run that is not over, and whose directory is there, from number `first` on: one whose order
    has already gone on to another jail when this process looks comes too soon."""
    number = first
    while True:
        silent = jails()
        for process in silent:
            process.suspend()
        outcome = pool.submit(count, http)
        pattern = f"slots/*/runs/{number}"
        until(lambda: list(daemon.state.glob(pattern)) or outcome.done())  # noqa: B023  # at once
        one = RunWithSilent(number, silent, outcome)
        if not outcome.done():
            return one
        assert one.is_right()
        number += 1


def kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):  # it has ended, perhaps with another one
        process.kill()


@pytest.mark.parametrize("victim", ["shims", "inits", "all"])
def test_killed_entries_cost_no_run(start: Start, victim: str) -> None:
    daemon, http = start(COLD)
    shims = prepared(daemon)
    inits = [child for one in shims for child in one.children()]
    for process in {"shims": shims, "inits": inits, "all": [*shims, *inits]}[victim]:
        kill(process)
    assert count(http).text("stdout") == "1\n"
    until(lambda: ended(*shims, *inits))


def test_order_that_an_entry_does_not_acknowledge_goes_to_another_one(start: Start) -> None:
    daemon, http = start(COLD)
    stopped = prepared(daemon)
    for process in stopped:
        process.suspend()
    assert count(http).text("stdout") == "1\n"
    until(lambda: ended(*stopped))  # the warden has ended them: none begins the run later
    assert count(http).text("stdout") == "2\n"


def test_prepared_entries_killed_with_an_order_unread_cost_no_run(start: Start) -> None:
    daemon, http = start(COLD)
    with ThreadPoolExecutor() as pool:
        one = run_at_silent(pool, http, lambda: prepared(daemon), daemon, 1)
        for process in one.silent:
            kill(process)
        assert one.is_right()
    until(lambda: ended(*one.silent))
    assert count(http).text("stdout") == f"{one.number + 1}\n"


def test_spawner_killed_while_an_order_is_unread_costs_no_run(start: Start) -> None:
    daemon, http = start(COLD)
    (spawner,) = family(daemon, "spawner")
    with ThreadPoolExecutor() as pool:
        one = run_at_silent(pool, http, lambda: prepared(daemon), daemon, 1)
        kill(spawner)
        assert one.is_right()
    until(lambda: ended(spawner, *one.silent))
    assert not set(prepared(daemon)) & set(one.silent)


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


def test_killed_warm_shim_costs_no_run(start: Start) -> None:
    daemon, http = start(WARM)
    count(http)
    warm(daemon).kill()
    assert count(http).text("stdout") == "2\n"


def test_order_that_meets_a_silent_shim_goes_to_another_one_and_its_end_is_seen(
    start: Start,
) -> None:
    """The order in the socket of the silent one has the files of the run, too."""
    daemon, http = start(WARM)
    assert count(http).text("stdout") == "1\n"
    silent = warm(daemon)
    silent.suspend()
    command = {"exec": "sleep 3; echo begun >> begun; wc -l < begun"}
    assert run(http, "kept", command).text("stdout") == "2\n"
    assert ended(silent)
    assert count(http).text("stdout") == "3\n"


def test_warm_shim_killed_with_an_order_unread_costs_no_run(start: Start) -> None:
    daemon, http = start(WARM)
    assert count(http).text("stdout") == "1\n"
    with ThreadPoolExecutor() as pool:
        one = run_at_silent(pool, http, lambda: [warm(daemon)], daemon, 2)
        for process in one.silent:
            kill(process)
        assert one.is_right()
    until(lambda: ended(*one.silent))


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
