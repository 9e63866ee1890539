"""Runs outlive the daemon, however it ends: nothing is lost, doubled, or begun again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..waiting import until
from .daemon import ROOT, Daemon, Outcome, file_of, run, running, sessions_of, slots_in_use
from .own_leaks import leaks

pytestmark = pytest.mark.usefixtures("lasting")

VICTIMS = ("warden", "api", "both", "neither")

COUNT = "echo begun >> begun; for i in $(seq 60); do echo $i; sleep 0.05; done; exit 7"
COUNTED = "".join(f"{number}\n" for number in range(1, 61))


def begin(http: httpx.Client, session: str, run_id: str, options: dict[str, Any]) -> Outcome:
    """The first answer of a run."""
    outcome = Outcome()
    call = {"mode": "batch", "code": "", "runId": run_id, "options": options}
    outcome.add(http.post(f"/session/{session}", json=call).raise_for_status().json()["result"])
    return outcome


def go_on(http: httpx.Client, session: str, outcome: Outcome, **call: Any) -> dict[str, Any]:
    """The next answer of it."""
    call = {"mode": "continue", "code": "", "runId": outcome.results[-1]["runId"]} | call
    answer = http.post(f"/session/{session}", json=call)
    assert answer.status_code == 200, answer.text
    outcome.add(answer.json()["result"])
    return outcome.results[-1]


def follow(http: httpx.Client, session: str, outcome: Outcome) -> None:
    """All answers to the end."""

    def is_over() -> bool:
        if outcome.results[-1]["status"] not in ("finished", "exec-timeout"):
            go_on(http, session, outcome)
            return False
        return True

    until(is_over, 60)


@pytest.mark.parametrize("victim", VICTIMS)
def test_run_goes_on_and_its_client_where_it_was(daemon: Daemon, victim: str) -> None:
    with daemon.client() as http:
        http.post("/session", json={"image": "c", "name": "kept"})
        outcome = begin(http, "kept", "r", {"exec": COUNT})
        while not outcome.text("stdout"):
            go_on(http, "kept", outcome)
    daemon.end(victim)
    time.sleep(0.3)
    daemon.start()
    with daemon.client() as http:
        follow(http, "kept", outcome)
        assert outcome.text("stdout") == COUNTED
        assert outcome.results[-1]["exitCode"] == 7
        assert outcome.results[-1]["verdict"]["outcome"] == "failure"
        assert run(http, "kept", {"exec": "cat begun"}).text("stdout") == "begun\n"
        assert http.delete("/session/kept").status_code == 200


def test_run_that_ends_while_no_daemon_is_there_has_its_result(daemon: Daemon) -> None:
    with daemon.client() as http:
        http.post("/session", json={"image": "c", "name": "kept"})
        outcome = begin(http, "kept", "r", {"exec": "sleep 3; echo done; exit 5"})
    daemon.end("both")
    time.sleep(3)
    daemon.start()
    with daemon.client() as http:
        follow(http, "kept", outcome)
        assert (outcome.text("stdout"), outcome.exits[-1]) == ("done\n", 5)
        assert http.get("/session/kept").json()["sandbox"]["runs"]["active"] is None
        http.delete("/session/kept")


def test_queued_runs_begin_in_their_order_with_all_that_they_were_asked_with(
    daemon: Daemon,
) -> None:
    with daemon.client() as http:
        http.post("/session", json={"image": "c", "name": "kept"})
        first = begin(http, "kept", "a", {"exec": "sleep 8; echo a >> order"})
        options = {"exec": "echo b >> order; cat; echo $WORD", "stdin": "in",
                   "environ": {"WORD": "out"}}  # fmt: skip
        second = begin(http, "kept", "b", options)
        third = begin(http, "kept", "c", {"exec": "cat order"})
    daemon.end("both")
    daemon.start()
    with daemon.client() as http:
        for outcome in (third, second, first):
            follow(http, "kept", outcome)
        assert second.text("stdout") == "inout\n"
        assert third.text("stdout") == "a\nb\n"
        http.delete("/session/kept")


@pytest.mark.parametrize("victim", ["both", "neither"])
def test_program_that_waits_for_input_is_answered_after_a_restart(
    daemon: Daemon, victim: str
) -> None:
    ask = "read a; echo got $a; read b; echo got $b"
    with daemon.client() as http:
        http.post("/session", json={"image": "c", "name": "kept"})
        outcome = begin(http, "kept", "r", {"exec": ask})
        while go_on(http, "kept", outcome)["status"] != "waiting-input":
            pass
        while go_on(http, "kept", outcome, mode="input", code="1")["status"] != "waiting-input":
            pass
    daemon.end(victim)
    daemon.start()
    with daemon.client() as http:
        assert go_on(http, "kept", outcome)["status"] == "waiting-input"
        go_on(http, "kept", outcome, mode="input", code="2")
        follow(http, "kept", outcome)
        assert outcome.text("stdout") == "got 1\ngot 2\n"
        http.delete("/session/kept")


def test_finished_runs_can_still_be_asked_for(daemon: Daemon) -> None:
    with daemon.client() as http:
        http.post("/session", json={"image": "c", "name": "kept"})
        outcome = begin(http, "kept", "r", {"exec": "echo once; exit 3"})
        follow(http, "kept", outcome)
    daemon.end("both")
    daemon.start()
    with daemon.client() as http:
        again = go_on(http, "kept", outcome)
        assert (again["status"], again["exitCode"]) == ("finished", 3)
        assert again["console"] == [["stdout", "once\n"]]
        http.delete("/session/kept")


DIRECTORY = ("cursor", "console", "journal", "control", "cgroup")
"""The files of a run, in the order of their creation."""


def test_kill_while_the_directory_of_a_run_is_made_or_removed_costs_nothing_else(
    folder: Path,
) -> None:
    options = {"exec": "echo begun >> begun; echo told"}
    queued = [f"queued{there}" for there in range(len(DIRECTORY))]
    call = {"mode": "batch", "code": "", "options": options}
    with running(folder, "[console]\nruns_kept = 16\n") as daemon:
        with daemon.client() as http:
            http.post("/session", json={"image": "c", "name": "kept"})
            for name in (*DIRECTORY, "whole"):
                run(http, "kept", options, run_id=name)
            begin(http, "kept", "active", {"exec": "sleep 4; echo slept"})
            with ThreadPoolExecutor(len(queued)) as pool:
                for name in queued:
                    pool.submit(http.post, "/session/kept", json=call | {"runId": name})
        daemon.end("both")
        (slot,) = sessions_of(folder / "state")
        runs = folder / "state" / "slots" / slot / "runs"
        for number, name in enumerate(DIRECTORY, 1):  # removed in whatever order
            file_of(runs / str(number), name).unlink()
        for there in range(len(DIRECTORY)):  # made as far as this
            directory = runs / str(8 + there)
            directory.mkdir(mode=0o700)
            for name in DIRECTORY[:there]:
                file_of(directory, name).touch()
            if "cgroup" in DIRECTORY[:there]:
                text = (runs / "7" / "cgroup").read_text()
                (directory / "cgroup").write_text(text.replace('.7"', f'.{8 + there}"'))
        daemon.start()
        with daemon.client() as http:
            whole = {"mode": "continue", "code": "", "runId": "whole"}
            answer = http.post("/session/kept", json=whole).json()["result"]
            assert (answer["status"], answer["exitCode"]) == ("finished", 0)
            for name in ("active", *queued):
                outcome = Outcome()
                outcome.add({"status": "", "console": [], "runId": name})
                follow(http, "kept", outcome)
                assert outcome.text("stdout") == ("slept\n" if name == "active" else "told\n")
            begun = http.get("/session/kept/download_single?file=begun").text
            assert begun == "begun\n" * (len(DIRECTORY) + 1 + len(queued))
            assert http.delete("/session/kept").status_code == 200


def test_batch_command_is_seen_through_to_its_result(daemon: Daemon) -> None:
    query = "query($id: UUID!) { compute_session(id: $id) { result status_info } }"
    body = {"image": "c", "name": "batch", "type": "batch", "startupCommand": "sleep 2; exit 4"}
    with daemon.client() as http:
        id = http.post("/session", json=body).json()["sessionId"]
    daemon.end("both")
    daemon.start()
    with daemon.client() as http:

        def result() -> dict[str, Any] | None:
            answer = http.post("/admin/gql", json={"query": query, "variables": {"id": id}})
            node: dict[str, Any] = answer.json()["data"]["compute_session"]
            return None if node["result"] == "UNDEFINED" else node

        assert until(result) == {"result": "FAILURE", "status_info": None}
        http.delete("/session/batch")


@pytest.mark.parametrize("victim", ["shim", "init"])
def test_run_whose_own_process_is_killed_ends_with_an_honest_verdict(
    daemon: Daemon, victim: str
) -> None:
    with daemon.client() as http:
        http.post("/session", json={"image": "c", "name": "kept"})
        outcome = begin(http, "kept", "r", {"exec": "echo here; sleep 60"})
        while not outcome.text("stdout"):
            go_on(http, "kept", outcome)
        kill_titled(daemon, f"sandboxd: {victim}")
        follow(http, "kept", outcome)
        assert outcome.results[-1]["exitCode"] == -1
        assert outcome.text("stdout") == "here\n"
        assert "ended" in outcome.text("log")
        assert run(http, "kept", {"exec": "echo next"}).text("stdout") == "next\n"
        http.delete("/session/kept")


def kill_titled(daemon: Daemon, title: str) -> None:
    """SIGKILL what calls itself so, among the descendants of the daemon."""
    assert daemon.process
    for line in leaks():
        pid, _, name = line.partition(" ")
        if pid.isdigit() and name.startswith(title):
            with contextlib.suppress(ProcessLookupError):  # it ended with the one before
                os.kill(int(pid), signal.SIGKILL)


def test_deleting_after_a_restart_ends_what_an_earlier_daemon_has_started(daemon: Daemon) -> None:
    with daemon.client() as http:
        http.post("/session", json={"image": "c", "name": "kept"})
        begin(http, "kept", "r", {"exec": "trap '' TERM; setsid sleep 60 & sleep 60"})
    daemon.end("both")
    daemon.start()
    with daemon.client() as http:
        assert http.delete("/session/kept").status_code == 200
        assert not any("shim" in line or "init" in line for line in leaks())
        until(lambda: not slots_in_use(daemon.state))


def test_slot_that_no_session_owns_is_removed_with_what_runs_in_it(daemon: Daemon) -> None:
    with daemon.client() as http:
        http.post("/session", json={"image": "c", "name": "kept"})
        begin(http, "kept", "r", {"exec": "sleep 60"})
    daemon.end("both")
    with sqlite3.connect(daemon.state / "api/sandboxd.sqlite") as database:
        database.execute("DELETE FROM sessions")
    database.close()
    daemon.start()
    assert not any("shim" in line or "init" in line for line in leaks())
    until(lambda: not slots_in_use(daemon.state))


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_database_that_is_lost_does_not_cost_the_files_of_sessions(
    daemon: Daemon, how: str
) -> None:
    with daemon.client() as http:
        http.post("/session", json={"image": "c", "name": "kept"})
        assert run(http, "kept", {"exec": "echo precious > file"}).exits[-1] == 0
    daemon.end("neither")
    database = daemon.state / "api/sandboxd.sqlite"
    saved = database.read_bytes()
    database.write_bytes(b"")
    if how == "missing":
        database.unlink()
    with open(daemon.folder / "log", "w+") as log:
        daemon.errors = log.fileno()
        with pytest.raises(AssertionError, match="exit status 2"):
            daemon.start()
        daemon.errors = None
        log.seek(0)
        (said,) = log.readlines()
    assert f"is {how}" in said and "put back a copy" in said
    database.write_bytes(saved)
    daemon.start()
    with daemon.client() as http:
        assert run(http, "kept", {"exec": "cat file"}).text("stdout") == "precious\n"
        http.delete("/session/kept")


def test_command_line_follows_its_run_over_a_restart(daemon: Daemon) -> None:
    project = daemon.folder / "project"
    project.mkdir()
    (project / "main.sh").write_text("for i in $(seq 60); do echo $i; sleep 0.05; done; exit 7\n")
    command = [sys.executable, "-P", "-m", "sandboxd", "run", str(project), "--image", "c"]
    command += ["--exec", "sh main.sh", "--socket", f"{daemon.folder}/api.sock"]
    environ = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as client:
        assert client.stdout and client.stderr
        first = client.stdout.readline()
        daemon.end("both")
        daemon.start()
        rest, said = client.stdout.read(), client.stderr.read()
    assert first + rest == COUNTED
    assert client.returncode == 7, said
    assert "the run goes on" in said and "Traceback" not in said


@pytest.mark.parametrize("has_directory", [True, False])
def test_run_that_a_restart_of_the_host_cut_off_says_so(
    daemon: Daemon, has_directory: bool
) -> None:
    """No process survives a boot, and the kernel has another boot id. A cut of the power takes
    with it what was not on the disk yet: all that the run's directory had, perhaps."""
    with daemon.client() as http:
        http.post("/session", json={"image": "c", "name": "kept"})
        run(http, "kept", {"exec": "echo here > file"})
        program = "mkdir begun-once && echo begun && sleep 600"
        cut = begin(http, "kept", "cut", {"exec": program, "timeout": 600})
        while not cut.text("stdout"):
            go_on(http, "kept", cut)
        queued = begin(http, "kept", "queued", {"exec": "cat file"})
    shims = [line.split()[0] for line in leaks() if "shim" in line]
    daemon.end("both")
    for pid in shims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    with contextlib.closing(sqlite3.connect(daemon.state / "api/sandboxd.sqlite")) as database:
        database.execute("UPDATE runs SET boot = 'another'")
        database.commit()
    if not has_directory:
        (lost,) = daemon.folder.glob("state/slots/*/runs/2")
        shutil.rmtree(lost)
    daemon.start()
    with daemon.client() as http:
        follow(http, "kept", cut)
        follow(http, "kept", queued)
        assert (cut.text("stdout"), cut.results[-1]["exitCode"]) == ("begun\n", -1)
        ran = run(http, "kept", {"exec": "ls"}).text("stdout").split()
        assert ran == ["begun-once", "file"], "it was not begun once more"
        assert "the host was restarted" in cut.text("log")
        assert (queued.text("stdout"), queued.results[-1]["exitCode"]) == ("here\n", 0)
        http.delete("/session/kept")
