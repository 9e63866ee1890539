"""`./scripts/sandboxd run` as a user has it: a private daemon, and everything gone after."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..http_clients import GUARD_S
from ..processes import children, files
from ..waiting import PATIENCE_S, until
from .daemon import ROOT, Daemon, environ, sessions_of
from .own_leaks import leaks


def sandboxd(*args: str, cwd: Path = ROOT, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", *args],
        cwd=cwd,
        env=environ(),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=GUARD_S,
    )


def private(*args: str, cwd: Path = ROOT, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """`run` with a daemon of its own, whether or not one is running on this machine."""
    before = leaks()
    done = sandboxd("run", *args, "--private", cwd=cwd, stdin=stdin)
    assert leaks() <= before
    return done


def shared(daemon: Daemon, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """`run` with the daemon of this module, at a quarter of the cost. No session is left."""
    done = sandboxd("run", *args, "--socket", f"{daemon.folder}/api.sock", stdin=stdin)
    assert sessions_of(daemon.state) == {}
    return done


def started(folder: Path, socket: str = "") -> subprocess.Popen[str]:
    """`run` in the background, its standard output to read and its standard input to write."""
    command = [sys.executable, "-P", "-m", "sandboxd", "run", str(folder), "--exec", "*", "-q"]
    command += ["--timeout", "600"]  # longer than a test waits for the end of what is left
    return subprocess.Popen(
        [*command, *(["--socket", socket] if socket else ["--private"])],
        env=environ(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_wordcount_is_built_and_run() -> None:
    done = private("examples/wordcount", "--build", "*", "--exec", "./main data/*.txt")
    assert done.returncode == 0, done.stderr
    assert "words, " in done.stdout.splitlines()[-1]
    assert "sandboxd:" not in done.stdout
    assert "exec finished (exit code 0)" in done.stderr


def test_exit_code_is_the_programs(daemon: Daemon) -> None:
    done = shared(
        daemon, "examples/wordcount", "--build", "*", "--exec", "./main none; exit 42", "-q"
    )
    assert done.returncode == 42
    assert done.stderr.splitlines()[-1] == "wordcount: none: No such file or directory"


def test_question_is_answered_from_standard_input(daemon: Daemon) -> None:
    done = shared(daemon, "examples/inventory", "--exec", "*", stdin="Kim\n")
    assert done.returncode == 0, done.stderr
    assert "Hello, Kim." in done.stdout
    assert "inventory: done" in done.stderr


def test_end_of_standard_input_is_handed_on(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "main.sh").write_text("cat; echo end\n")
    assert shared(daemon, str(tmp_path), "--exec", "*", "-q").stdout == "end\n"


def test_failed_build_exits_as_the_compiler_and_runs_no_exec(
    daemon: Daemon, tmp_path: Path
) -> None:
    (tmp_path / "main.c").write_text("int main(void) { return x; }\n")
    done = shared(daemon, str(tmp_path))
    assert done.returncode == 1, "that of the compiler"
    assert "main.c:1" in done.stderr
    assert "the build failed, so exec was not run" in done.stderr


def test_time_limit_exits_with_124(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "main.sh").write_text("echo begin; sleep 60\n")
    done = shared(daemon, str(tmp_path), "--exec", "*", "--timeout", "5")
    assert (done.returncode, done.stdout) == (124, "begin\n")
    assert "time limit" in done.stderr


def test_json_is_one_object_a_line(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "main.sh").write_text("echo out; echo err >&2; exit 5\n")
    done = shared(daemon, str(tmp_path), "--exec", "*", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    console = {e["type"]: e["data"] for e in events if e["event"] == "console"}
    assert console == {"stdout": "out\n", "stderr": "err\n"}
    assert events[-1] == {"event": "end", "exitCode": 5}
    assert done.stderr == ""


def test_output_of_a_command_comes_while_the_program_waits(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "main.sh").write_text("echo first; read -r go; echo $go\n")
    with started(tmp_path, f"{daemon.folder}/api.sock") as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "first\n"
        process.stdin.write("second\n")
        process.stdin.flush()
        assert process.stdout.readline() == "second\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_command_leaves_nothing(tmp_path: Path, number: int) -> None:
    before = leaks()
    (tmp_path / "main.sh").write_text("echo up; setsid sleep 600 & sleep 600\n")
    with started(tmp_path) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        process.wait(PATIENCE_S)
    until(lambda: leaks() <= before)


def test_terminated_command_lets_the_trap_of_its_job_run(tmp_path: Path) -> None:
    (tmp_path / "main.sh").write_text("trap 'echo saving; exit 3' TERM; echo up; sleep 60 & wait\n")
    with started(tmp_path) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "saving\n"
        assert process.wait(PATIENCE_S) == 143


def test_a_private_daemon_whose_warden_is_killed_leaves_nothing(tmp_path: Path) -> None:
    before = leaks()
    (tmp_path / "main.sh").write_text("echo up; setsid sleep 600 & sleep 600\n")
    with started(tmp_path) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        (warden,) = children(process.pid, "sandboxd: warden")
        os.kill(warden, signal.SIGKILL)
        assert process.wait(PATIENCE_S) == 125
    until(lambda: leaks() <= before)


def test_what_both_left_when_they_were_killed_goes_with_the_next_command(tmp_path: Path) -> None:
    before = leaks()
    (tmp_path / "main.sh").write_text("echo up; sleep 60\n")
    with started(tmp_path) as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        (warden,) = children(process.pid, "sandboxd: warden")
        (folder,) = {
            os.path.dirname(os.path.dirname(name))
            for name in files(warden).values()
            if name.endswith("/state/lock")
        }
        os.kill(warden, signal.SIGSTOP)
        process.kill()
        process.wait(PATIENCE_S)
        os.kill(warden, signal.SIGKILL)
    assert os.path.isdir(folder)
    (tmp_path / "main.sh").write_text("echo done\n")
    assert sandboxd("run", str(tmp_path), "--exec", "*", "--private").returncode == 0
    assert os.path.isdir(folder)  # it may be that of a daemon that has not started yet
    os.utime(folder, (time.time() - 3600,) * 2)
    assert sandboxd("run", str(tmp_path), "--exec", "*", "--private").returncode == 0
    assert not os.path.exists(folder) and leaks() <= before


def test_terminated_command_deletes_its_session_from_a_daemon_that_others_use(
    daemon: Daemon, tmp_path: Path
) -> None:
    (tmp_path / "main.sh").write_text("echo up; sleep 60\n")
    with started(tmp_path, f"{daemon.folder}/api.sock") as process:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        assert len(sessions_of(daemon.state)) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 143
    assert sessions_of(daemon.state) == {}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run"], "FOLDER"),
        (["run", "/nonexistent"], "is not a folder"),
        (["run", "examples/wordcount", "--image", "klingon"], "klingon"),
        (["run", "examples/wordcount", "--env", "X"], "NAME=VALUE"),
        (["run", "examples/wordcount", "--mem", "lots"], "mem"),
        (["run", "examples/wordcount", "--into", "/dev/null/x", "--get", "main"], "/dev/null/x: "),
        (["run", "systemd"], "--image"),
        (["run", "examples/wordcount", "--timeout", "nan"], "--timeout"),
        (["fly"], "invalid choice"),
        ([], "COMMAND"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(args: list[str], message: str) -> None:
    extra = ["--private"] if args[1:] else []
    done = sandboxd(*args, *extra)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if "starting a private" not in line]
    assert len(lines) == 1
    assert message in lines[0]


def test_runtimes_are_listed_with_the_reason_why_one_is_absent() -> None:
    listed = {r["name"]: r for r in json.loads(sandboxd("runtimes", "--json").stdout)}
    assert {"c", "cpp", "python", "nodejs", "java", "golang", "rust", "perl", "ruby", "lua", "php",
            "shell"} <= set(listed)  # fmt: skip
    assert listed["python"]["available"]
    assert all(r["available"] or r["reason"] for r in listed.values())
    assert "python" in sandboxd("runtimes").stdout
