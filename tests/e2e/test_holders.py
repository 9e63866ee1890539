"""Commands that are killed leave no session, at whatever moment, also over a restart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..waiting import PATIENCE_S, until
from .daemon import Daemon, environ, running, sessions_of

CONFIG = "[admission.owner]\nsessions = 1\n"


@contextmanager
def started(daemon: Daemon, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A command in the background, which is killed at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "sandboxd", *args, "--socket", f"{daemon.folder}/api.sock"],
        env=environ(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def program(folder: Path, text: str) -> str:
    place = folder / "program"
    place.mkdir(exist_ok=True)
    (place / "main.sh").write_text(text)
    return str(place)


def gone(daemon: Daemon) -> None:
    until(lambda: sessions_of(daemon.state) == {})


def killed(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE_S)


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_run_that_is_killed_as_soon_as_it_has_a_session_leaves_nothing(
    daemon: Daemon, tmp_path: Path, turn: int
) -> None:
    place = program(tmp_path, "sleep 60\n")
    for name in range(turn * 100):  # so that the upload takes longer at each turn
        (tmp_path / "program" / str(name)).write_bytes(os.urandom(4096))
    with started(daemon, "run", place, "--exec", "*", "-q") as process:
        until(lambda: sessions_of(daemon.state))
        killed(process)
        gone(daemon)


def test_run_that_is_killed_while_its_program_runs_leaves_nothing(
    daemon: Daemon, tmp_path: Path
) -> None:
    place = program(tmp_path, "echo up; setsid sleep 60 & sleep 60\n")
    with started(daemon, "run", place, "--exec", "*", "-q") as process:
        assert process.stdout and process.stdout.readline() == "up\n"
        killed(process)
        gone(daemon)


def test_run_that_is_killed_while_it_waits_leaves_its_place_in_the_queue(
    daemon: Daemon, tmp_path: Path
) -> None:
    place = program(tmp_path, "echo up; sleep 60\n")
    with started(daemon, "run", place, "--exec", "*", "-q") as first:
        assert first.stdout and first.stdout.readline() == "up\n"
        with started(daemon, "run", place, "--exec", "*", "--wait") as second:
            assert second.stderr and "waiting, position 1: " in second.stderr.readline()
            killed(second)
            with daemon.client() as http:
                until(lambda: len(http.get("/session/_/match?id=run-").json()["matches"]) == 1)
        killed(first)
        gone(daemon)


def test_run_goes_on_over_a_restart_and_leaves_nothing_when_it_is_killed_then(
    folder: Path, tmp_path: Path
) -> None:
    place = program(tmp_path, "echo up; until [ -e go ]; do sleep 0.1; done; echo on; sleep 60\n")
    with (
        running(folder) as daemon,
        started(daemon, "run", place, "--exec", "*", "-q", "--timeout", "600") as process,
    ):
        assert process.stdout and process.stdout.readline() == "up\n"
        daemon.end("both")
        daemon.start()
        (session,) = sessions_of(daemon.state).values()
        with daemon.client() as http:
            url = f"/session/{session}"
            until(lambda: http.get(url).json()["sandbox"]["ends"] is None)  # it is held again
            http.post(f"/session/{session}/upload", files={"src": ("go", b"")})
        assert process.stdout.readline() == "on\n"
        killed(process)
        gone(daemon)


def test_session_of_a_run_that_was_killed_while_the_daemon_was_away_waits_for_its_holder(
    folder: Path, tmp_path: Path
) -> None:
    place = program(tmp_path, "echo up; sleep 60\n")
    with (
        running(folder) as daemon,
        started(daemon, "run", place, "--exec", "*", "-q", "--timeout", "600") as process,
    ):
        assert process.stdout and process.stdout.readline() == "up\n"
        daemon.end("both")
        killed(process)
        daemon.start()
        (session,) = sessions_of(daemon.state).values()
        with daemon.client() as http:
            end = http.get(f"/session/{session}").json()["sandbox"]["ends"]
            assert end["reason"] == "time-to-live"
            with http.stream("GET", f"/session/{session}/hold") as answer:  # it is taken up again
                assert next(answer.iter_lines()) == "event: session_held"
        gone(daemon)


@pytest.mark.parametrize("option", ["--with-parent", "--quiet"])
def test_run_whose_parent_was_killed_ends_only_with_the_option(
    daemon: Daemon, tmp_path: Path, option: str
) -> None:
    place = program(tmp_path, "echo up; until [ -e go ]; do sleep 0.1; done; echo over\n")
    words = [sys.executable, "-P", "-m", "sandboxd", "run", place, "--exec", "*", "-q", option,
             "--socket", f"{daemon.folder}/api.sock"]  # fmt: skip
    middle = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", middle, *words], env=environ(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as parent:  # fmt: skip
        assert parent.stdout and parent.stdout.readline() == "up\n"
        (session,) = sessions_of(daemon.state).values()
        parent.kill()
        if option == "--quiet":  # it goes on
            with daemon.client() as http:
                http.post(f"/session/{session}/upload", files={"src": ("go", b"")})
        assert parent.stdout.read() == ("over\n" if option == "--quiet" else "")
    gone(daemon)
