"""Bytes are bytes: standard input and output of `sandboxd run`, byte for byte, also over a restart
of the daemon."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pty
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import httpx
import pytest

from ..waiting import PATIENCE_S, until
from .daemon import Daemon, environ, running

ALL = bytes(range(256))
LARGE = random.Random(11).randbytes(40_000_000)
"""More than is kept of a run: the program has to wait for its client."""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder to run."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "main.sh").write_text("")
    return tmp_path / "tree"


def command(daemon: Daemon, tree: Path, exec: str, *options: str) -> list[str]:
    arguments = [str(tree), "--exec", exec, "--socket", f"{daemon.folder}/api.sock", *options]
    return [sys.executable, "-P", "-m", "sandboxd", "run", *arguments]


def ran(
    daemon: Daemon, tree: Path, exec: str, *options: str, **how: Any
) -> subprocess.CompletedProcess[bytes]:
    """A whole `sandboxd run`."""
    how = {"capture_output": True, "timeout": 2 * PATIENCE_S} | how
    done: subprocess.CompletedProcess[Any] = subprocess.run(
        command(daemon, tree, exec, *options), env=environ(), **how
    )
    return done


@contextlib.contextmanager
def started(daemon: Daemon, tree: Path, exec: str, *options: str, **how: Any) -> Iterator[Any]:
    """A `sandboxd run` that goes on."""
    how = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE} | how
    process = subprocess.Popen(command(daemon, tree, exec, *options), env=environ(), **how)
    try:
        yield process
    finally:
        with process:
            process.kill()


def test_piped_bytes_go_through_the_program_and_back_unchanged(daemon: Daemon, tree: Path) -> None:
    done = ran(daemon, tree, "cat; cat >&2 /dev/null; exit 7", "-q", input=LARGE)
    assert done.returncode == 7
    assert done.stdout == LARGE and done.stderr == b""


def test_file_on_standard_input_keeps_its_place_for_the_shell_that_has_it_open(
    daemon: Daemon, tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").write_bytes(b"read before\n" + ALL)
    with (tmp_path / "in").open("rb", buffering=0) as file:
        assert file.read(12) == b"read before\n"
        assert ran(daemon, tree, "cat", "-q", stdin=file).stdout == ALL
        assert file.tell() == 12


def test_file_of_the_option_is_for_exec_alone(daemon: Daemon, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(ALL)
    options = ["-q", "--stdin", str(tmp_path / "in"), "--build", "wc -c"]
    assert ran(daemon, tree, "cat", *options, input=b"unused").stdout == b"0\n" + ALL


def test_steps_share_piped_input_as_the_commands_of_a_script_do(daemon: Daemon, tree: Path) -> None:
    options = ["-q", "--build", 'read a; echo "build $a"']
    done = ran(daemon, tree, 'read b; echo "exec $b"; cat', *options, input=b"1\n2\n3\n")
    assert done.stdout == b"build 1\nexec 2\n3\n"


@pytest.mark.parametrize("stdin", ["closed", "null"])
def test_absent_input_is_an_end_of_file(daemon: Daemon, tree: Path, stdin: str) -> None:
    how = {"stdin": subprocess.DEVNULL}
    if stdin == "closed":
        how = {"preexec_fn": lambda: os.close(0)}  # type: ignore[dict-item]  # see Popen
    assert ran(daemon, tree, "cat; echo end", "-q", **how).stdout == b"end\n"


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_command_with_closed_streams_ends_with_the_status_of_the_program(
    daemon: Daemon, tree: Path, closed: tuple[int, ...]
) -> None:
    def close() -> None:
        for number in closed:
            os.close(number)

    exec = "echo out; echo err >&2; exit 7"
    assert ran(daemon, tree, exec, preexec_fn=close).returncode == 7


def test_output_that_cannot_be_written_is_an_error_in_one_line(daemon: Daemon, tree: Path) -> None:
    with open("/dev/full", "wb") as full:
        how = {"capture_output": False, "stdout": full, "stderr": subprocess.PIPE}
        done = ran(daemon, tree, "seq 100000", "-q", **how)
    assert done.returncode == 125
    assert done.stderr == (
        b"sandboxd: the output cannot be written: No space left on device; send it to another "
        b"place\n"
    )


@pytest.mark.parametrize("exec", ["head -c 3", "printf yes", "exec <&-; printf yes"])
def test_command_ends_with_a_program_that_does_not_read_endless_input(
    daemon: Daemon, tree: Path, exec: str
) -> None:
    with started(daemon, tree, exec, "-q") as process:

        def feed() -> None:
            with contextlib.suppress(OSError):
                while True:
                    os.write(process.stdin.fileno(), b"yes\n" * 1000)

        threading.Thread(target=feed, daemon=True).start()
        assert process.stdout.read() == b"yes"
        assert process.wait(PATIENCE_S) == 0


def test_output_is_shown_while_a_thread_of_the_program_waits_for_quiet_input(
    daemon: Daemon, tree: Path
) -> None:
    exec = "exec 3<&0; cat <&3 & echo one; sleep 0.5; echo two; wait"
    with started(daemon, tree, exec, "-q") as process:
        assert process.stdout.readline() == b"one\n"
        assert process.stdout.readline() == b"two\n", "and no line was typed"
        process.stdin.write(b"typed\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"typed\n"
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 0


def test_lines_of_a_terminal_go_to_the_program_as_they_are_typed_and_its_end_too(
    daemon: Daemon, tree: Path
) -> None:
    master, slave = pty.openpty()
    exec = 'while read x; do echo "got $x"; done; echo end'
    with started(daemon, tree, exec, stdin=slave, stderr=subprocess.PIPE) as process:
        os.close(slave)
        for line in (b"first", b"second"):
            os.write(master, line + b"\n")
            assert process.stdout.readline() == b"got " + line + b"\n"
        os.write(master, b"\x04")
        assert process.stdout.readline() == b"end\n"
        assert process.wait(PATIENCE_S) == 0
    os.close(master)


def test_first_question_of_a_silent_program_is_explained_to_its_user(
    daemon: Daemon, tree: Path
) -> None:
    master, slave = pty.openpty()
    with started(daemon, tree, "read x", stdin=slave, stderr=subprocess.PIPE) as process:
        os.close(slave)
        assert any(b"fflush(stdout)" in line for line in process.stderr)
        os.write(master, b"answer\n")
        assert b"fflush" not in process.stderr.read()
    os.close(master)


def test_interrupt_reaches_a_program_that_waits_for_input(daemon: Daemon, tree: Path) -> None:
    exec = "trap 'echo interrupted; exit 4' INT; echo up; read x"
    with started(daemon, tree, exec, "-q") as process:
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b"interrupted\n"
        assert process.wait(PATIENCE_S) == 4


def test_end_of_a_burst_is_shown(daemon: Daemon, tree: Path) -> None:
    done = ran(daemon, tree, "seq 1 300000; echo RESULT; exit 3", "-q")
    assert done.returncode == 3
    lines = done.stdout.splitlines()
    assert len(lines) == 300_001 and lines[-1] == b"RESULT" and done.stderr == b""


def test_line_of_sandboxd_does_not_go_on_with_a_line_of_the_program(
    daemon: Daemon, tree: Path
) -> None:
    done = ran(daemon, tree, "printf out", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
               capture_output=False)  # fmt: skip
    assert b"out\nsandboxd: exec finished" in done.stdout
    apart = ran(daemon, tree, "printf out")
    assert apart.stdout == b"out" and b"\n\n" not in apart.stderr


def test_events_in_json_have_bytes_that_no_text_has_in_base64(daemon: Daemon, tree: Path) -> None:
    done = ran(daemon, tree, r"printf 'caf\303\251 '; sleep 0.3; printf '\377\n' >&2", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    console = {event["type"]: event for event in events if event["event"] == "console"}
    assert console["stdout"]["data"] == "café " and "base64" not in console["stdout"]
    assert console["stderr"]["data"] == "\ufffd\n"
    assert base64.b64decode(console["stderr"]["base64"]) == b"\xff\n"


@pytest.mark.parametrize("victim", ["both", "neither"])
def test_input_and_output_go_on_at_the_right_byte_after_a_restart_of_the_daemon(
    folder: Path, tree: Path, victim: str
) -> None:
    data, options = LARGE[:6_000_000], ("-q", "--timeout", "120")
    received = bytearray()

    def receive(stream: IO[bytes]) -> None:
        while piece := os.read(stream.fileno(), 1 << 16):
            received.extend(piece)

    with (
        running(folder) as daemon,
        started(daemon, tree, "cat; exit 5", *options, stderr=subprocess.PIPE) as process,
    ):
        reading = threading.Thread(target=receive, args=(process.stdout,), daemon=True)
        reading.start()
        process.stdin.write(data[:3_000_000])
        until(lambda: len(received) > 1_000_000)
        daemon.end(victim)
        daemon.start()
        process.stdin.write(data[3_000_000:])
        process.stdin.close()
        assert process.wait(2 * PATIENCE_S) == 5, process.stderr.read()
        reading.join()
    assert bytes(received) == data


def test_console_from_any_offset_is_exact_also_after_a_restart(folder: Path) -> None:
    places = (1, 600_001, 1_048_576, 1_888_890)
    want = "".join(f"{number}\n" for number in range(1, 300_001))

    def rest(http: httpx.Client, place: int) -> str:
        result: dict[str, Any] = {}
        text, offset = "", {"console": place, "steps": 3}
        while result.get("status") != "finished":
            call = {"mode": "continue", "runId": "r", "options": {"offset": offset}}
            result = http.post("/session/kept", json=call).json()["result"]
            text += "".join(data for kind, data in result["console"] if kind == "stdout")
            offset = result["offset"]
            assert offset["console"] == place + len(text)
        return text

    with running(folder) as daemon:
        with daemon.client() as http:
            http.post("/session", json={"image": "shell", "name": "kept"})
            call = {"mode": "batch", "runId": "r", "options": {"exec": "seq 1 300000"}}
            while http.post("/session/kept", json=call).json()["result"]["status"] != "finished":
                call = {"mode": "continue", "runId": "r"}
            for place in places:
                assert rest(http, place) == want[place:]
        daemon.end("both")
        daemon.start()
        with daemon.client() as http:
            for place in places:
                assert rest(http, place) == want[place:]
            http.delete("/session/kept")
