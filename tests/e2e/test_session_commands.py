"""The commands of a CI user: sessions that are kept, steps in them, files, folders, the wait."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ..waiting import PATIENCE_S, until
from .daemon import Daemon, environ, sessions_of
from .test_holders import program, started

CONFIG = "[admission.owner]\nsessions = 2\n"

pytestmark = pytest.mark.usefixtures("lasting")  # the next test needs the places


def sandboxd(
    daemon: Daemon, *args: str, stdin: str = "", cwd: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A command that speaks with the daemon."""
    at = 2 if args[0] == "folder" else 1
    socket = ("--socket", f"{daemon.folder}/api.sock")
    return subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", *args[:at], *socket, *args[at:]],
        env=environ() | variables,
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )


def kept_session(daemon: Daemon, place: str, name: str) -> str:
    """A session of this name that stays after a run."""
    done = sandboxd(daemon, "run", place, "--exec", "*", "--keep", "--name", name, "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    events = [json.loads(line) for line in done.stdout.splitlines()]
    (session,) = [event["session"] for event in events if "session" in event]
    return str(session)


def test_kept_session_takes_further_commands_until_it_is_removed(
    daemon: Daemon, tmp_path: Path
) -> None:
    session = kept_session(daemon, program(tmp_path, "echo one > file; echo of the run\n"), "kept")
    with daemon.client() as http:
        facts = http.get("/session/kept").json()["sandbox"]
        assert (facts["ttlSeconds"], facts["ends"]["reason"]) == (86400, "time-to-live")
    listed = json.loads(sandboxd(daemon, "ps", "--json").stdout)
    assert [(one["name"], one["id"], one["status"]) for one in listed] == [
        ("kept", session, "RUNNING")
    ]
    assert sandboxd(daemon, "logs", "kept").stdout == "of the run\n"
    done = sandboxd(daemon, "exec", "kept", "--", "sh", "-c", 'cat file -; exit "$1"', "x", "3",
                    stdin="two\n")  # fmt: skip
    assert (done.stdout, done.returncode) == ("one\ntwo\n", 3), done.stderr
    assert "file" in sandboxd(daemon, "ls", "kept").stdout
    again = sandboxd(daemon, "run", str(tmp_path), "--exec", "*", "--keep", "--name", "kept")
    assert again.returncode == 2 and "'sandboxd rm kept' removes it" in again.stderr
    assert sandboxd(daemon, "rm", "kept").returncode == 0
    assert sessions_of(daemon.state) == {}
    again = sandboxd(daemon, "exec", "kept", "--", "true")
    assert again.returncode == 125 and "'sandboxd ps' lists the sessions" in again.stderr


def test_words_of_exec_are_read_by_no_shell(daemon: Daemon, tmp_path: Path) -> None:
    kept_session(daemon, program(tmp_path, "true\n"), "words")
    done = sandboxd(daemon, "exec", "words", "--", "printf", "%s|", "a b", "$HOME", "*", "it's")
    assert done.stdout == "a b|$HOME|*|it's|"
    late = sandboxd(daemon, "exec", "words", "-q", "--", "true")
    assert late.returncode == 2 and "options come before SESSION" in late.stderr
    assert sandboxd(daemon, "rm", "words").returncode == 0


def test_files_are_copied_into_a_session_and_out_of_it(daemon: Daemon, tmp_path: Path) -> None:
    kept_session(daemon, program(tmp_path, "mkdir -p d/e; echo x > d/e/f\n"), "copies")
    (tmp_path / "tree" / "inner").mkdir(parents=True)
    (tmp_path / "tree" / "inner" / "a").write_text("a")
    (tmp_path / "tree" / "run").write_text("b")
    (tmp_path / "tree" / "run").chmod(0o755)
    for source, target in [("tree", "d"), ("tree", "other"), ("tree/run", "d/"), ("tree/run", "z")]:
        done = sandboxd(daemon, "cp", str(tmp_path / source), f"copies:{target}", "-q")
        assert done.returncode == 0, done.stderr
    done = sandboxd(daemon, "exec", "-q", "copies", "--", "find", "d", "other", "z", "-type", "f")
    assert sorted(done.stdout.split()) == [
        "d/e/f", "d/run", "d/tree/inner/a", "d/tree/run", "other/inner/a", "other/run", "z",
    ]  # fmt: skip
    out = tmp_path / "out"
    out.mkdir()
    assert sandboxd(daemon, "cp", "copies:d/e", str(out), "-q").returncode == 0
    assert (out / "e" / "f").read_text() == "x\n"
    assert sandboxd(daemon, "cp", "copies:z", str(out / "new"), "-q").returncode == 0
    assert (out / "new").read_text() == "b" and os.access(out / "new", os.X_OK)
    assert sandboxd(daemon, "cp", "copies:", str(out / "all"), "-q").returncode == 0
    assert (out / "all" / "other" / "inner" / "a").read_text() == "a"
    assert sandboxd(daemon, "cp", "copies:none", str(out), "-q").returncode == 1
    assert sandboxd(daemon, "cp", "a", "b").returncode == 2
    assert sandboxd(daemon, "rm", "copies").returncode == 0


def test_copy_that_is_not_possible_is_refused_in_one_line(daemon: Daemon, tmp_path: Path) -> None:
    session = kept_session(daemon, program(tmp_path, "mkdir d; echo x > f\n"), "refused")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("old")
    (tmp_path / "hangs").symlink_to("nothing")
    assert sandboxd(daemon, "folder", "create", "store").returncode == 0
    assert sandboxd(daemon, "folder", "cp", str(tmp_path / "file"), "store:f").returncode == 0
    for words, reason in {
        "cp refused:d file": "file: Not a directory; name another place",
        "cp refused:f new/": "new/: Not a directory; name another place",
        "cp refused:f none/new": f"none/new: there is no folder {tmp_path}/none; make it first",
        "cp refused:f /dev/null/x": "/dev/null/x: there is no folder /dev/null; make it first",
        "cp refused:none .": "none: the session has nothing of this name",
        "cp refused:/etc/passwd .": "results: '/etc/passwd' is outside /home/work",
        "cp fifo refused:": "fifo is no file or directory; only these can be copied",
        "cp hangs refused:": "hangs is no file or directory; only these can be copied",
        "get refused none": "none: the session has nothing of this name",
        "get refused f --into file": f"file: {tmp_path}/file is no folder",
        "get unknown f": "there is no session unknown; 'sandboxd ps' lists the sessions",
        "folder cp store:f none/new": f"none/new: there is no folder {tmp_path}/none; make it",
        "folder cp store: file": "file: File exists; name another place",
        "folder ls none": "Virtual folder none does not exist; make it with 'sandboxd",
    }.items():
        done = sandboxd(daemon, *words.split(), cwd=tmp_path)
        assert done.returncode and done.stdout == "", words
        assert done.stderr.startswith(f"sandboxd: {reason}"), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
    assert (tmp_path / "file").read_text() == "old"
    assert sandboxd(daemon, "folder", "rm", "store").returncode == 0
    assert sandboxd(daemon, "rm", session).returncode == 0


def test_logs_follow_a_run_to_its_end_beside_its_client(daemon: Daemon, tmp_path: Path) -> None:
    place = program(tmp_path, "echo first; until [ -e go ]; do sleep 0.1; done; echo last\n")
    with started(daemon, "run", place, "--exec", "*", "-q", "--name", "follow") as run:
        until(lambda: sandboxd(daemon, "logs", "follow").stdout == "first\n")
        with started(daemon, "logs", "follow", "-f") as follower:
            assert follower.stdout and follower.stdout.readline() == "first\n"
            with daemon.client() as http:
                http.post("/session/follow/upload", files={"src": ("go", b"")})
            assert run.communicate()[0] == "first\nlast\n"
            assert follower.wait(PATIENCE_S) == 0
            assert follower.stdout.read() in ("last\n", "")  # the session may end first


def test_logs_have_output_of_any_size_and_both_streams_as_bytes(
    daemon: Daemon, tmp_path: Path
) -> None:
    text = "head -c 3000000 /dev/zero | tr '\\0' x; printf '\\303\\251\\n'; printf err >&2\n"
    kept_session(daemon, program(tmp_path, text), "logged")
    for options in ([], ["-f"]):
        done = sandboxd(daemon, "logs", "logged", *options)
        assert done.stdout == "x" * 3000000 + "é\n"
        assert done.stderr == "err"
    assert sandboxd(daemon, "rm", "logged").returncode == 0


def test_folder_keeps_files_between_runs(daemon: Daemon, tmp_path: Path) -> None:
    assert sandboxd(daemon, "folder", "create", "cache", "--size", "16m").returncode == 0
    (tmp_path / "seed").write_text("seed\n")
    assert sandboxd(daemon, "folder", "cp", str(tmp_path / "seed"), "cache:").returncode == 0
    place = program(tmp_path, "cat cache/seed; mkdir -p cache/d/.git; echo new > cache/d/file; "
                    "cp cache/seed cache/d/.git/config\n")  # fmt: skip
    done = sandboxd(daemon, "run", place, "--exec", "*", "-q", "--folder", "cache",
                    "--get", "cache/d/file", "--into", str(tmp_path))  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "seed\n"), done.stderr
    assert (tmp_path / "file").read_text() == "new\n"
    assert "d" in sandboxd(daemon, "folder", "ls", "cache").stdout
    assert "cache" in sandboxd(daemon, "folder", "ls").stdout
    done = sandboxd(daemon, "folder", "cp", "cache:d", str(tmp_path / "copy"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy" / "file").read_text() == "new\n"
    assert "d/.git belongs to version control; left out" in done.stderr
    assert not (tmp_path / "copy" / ".git").exists()
    info = json.loads(sandboxd(daemon, "folder", "info", "cache", "--json").stdout)
    assert info["numFiles"] == 3
    read_only = program(tmp_path, "echo x > cache/seed\n")
    done = sandboxd(daemon, "run", read_only, "--exec", "*", "-q", "--folder", "cache:ro")
    assert done.returncode != 0 and "Read-only" in done.stderr
    assert sandboxd(daemon, "folder", "rm", "cache:d").returncode == 0
    assert sandboxd(daemon, "folder", "rm", "cache").returncode == 0
    assert sandboxd(daemon, "folder", "ls").stdout == ""


def test_values_of_variables_come_from_the_environment_and_from_files(
    daemon: Daemon, tmp_path: Path
) -> None:
    (tmp_path / "list").write_text("# comment\nFROM_FILE=a b=c\nOWN\n\n")
    place = program(tmp_path, 'echo "$OWN|$FROM_FILE|$PLAIN"\n')
    files = ("--env-file", str(tmp_path / "list"), "--env", "OWN", "--env", "PLAIN=p")
    done = sandboxd(daemon, "run", place, "--exec", "*", "-q", *files, OWN="mine")
    assert done.stdout == "mine|a b=c|p\n", done.stderr
    missing = sandboxd(daemon, "run", place, "--exec", "*", "--env", "OWN")
    assert missing.returncode == 2 and "set OWN in your environment" in missing.stderr


def test_build_has_a_time_limit_of_its_own(daemon: Daemon, tmp_path: Path) -> None:
    place = program(tmp_path, "true\n")
    done = sandboxd(daemon, "run", place, "--build", "sleep 60", "--build-timeout", "0.5",
                    "--timeout", "30")  # fmt: skip
    assert done.returncode == 124, done.stderr


def test_disk_and_processes_of_a_session_are_limited(daemon: Daemon, tmp_path: Path) -> None:
    place = program(tmp_path, "df -m --output=size . | tail -1; ulimit -u >/dev/null; cat pids\n")
    (tmp_path / "program" / "pids").write_text("")
    done = sandboxd(daemon, "run", place, "--exec", "*", "-q", "--disk", "32m", "--pids", "20")
    assert done.returncode == 0 and int(done.stdout.split()[0]) <= 32, done.stderr
    wrong = sandboxd(daemon, "run", place, "--exec", "*", "--pids", "many")
    assert wrong.returncode == 2 and "pids" in wrong.stderr


# -- the wait for a turn


def test_run_waits_for_a_full_machine_and_says_so(daemon: Daemon, tmp_path: Path) -> None:
    place = program(tmp_path, "echo ran\n")
    with daemon.client() as http:
        others = [http.post("/session", json={"image": "shell"}).json() for _ in range(2)]
        refused = sandboxd(daemon, "run", place, "--exec", "*")
        assert refused.returncode == 2 and "sessions" in refused.stderr
        short = sandboxd(daemon, "run", place, "--exec", "*", "--wait=1")
        assert short.returncode == 125 and "no turn within --wait 1" in short.stderr
        assert "waiting, position 1: " in short.stderr
        with started(daemon, "run", place, "--exec", "*", "--wait") as process:
            assert process.stderr and "waiting, position 1: " in process.stderr.readline()
            for other in others:
                http.delete(f"/session/{other['sessionId']}")
            assert process.communicate()[0] == "ran\n"
            assert process.returncode == 0
    assert sessions_of(daemon.state) == {}


def test_run_waits_for_a_drained_daemon_and_says_so(daemon: Daemon, tmp_path: Path) -> None:
    place = program(tmp_path, "echo ran\n")
    with daemon.client() as http:
        http.post("/admin/drain", json={})
        try:
            refused = sandboxd(daemon, "run", place, "--exec", "*")
            assert refused.returncode == 125 and "--wait" in refused.stderr
            with started(daemon, "run", place, "--exec", "*", "--wait") as process:
                assert process.stderr and "waiting, " in process.stderr.readline()
                http.post("/admin/drain", json={"undo": True})
                assert process.communicate()[0] == "ran\n"
        finally:
            http.post("/admin/drain", json={"undo": True})


# -- the shell of a CI system


STEP = """\
echo "$1|$GITHUB_RUN_ID|$NAMED|$GITHUB_TOKEN|$PATH_OF_HOST|$GITHUB_WORKSPACE"
read line < "$GITHUB_EVENT_PATH"; echo "$line"
printf 'A=1\\nB=2\\n' >> "$GITHUB_ENV"
echo result=2 >> "$GITHUB_OUTPUT"
echo changed > "$GITHUB_EVENT_PATH"
exit 7
"""


def test_script_of_a_step_has_its_files_and_the_variables_of_the_list(
    daemon: Daemon, tmp_path: Path
) -> None:
    for name in ("env", "output", "event"):
        (tmp_path / name).write_text("before\n")
    (tmp_path / "step").write_text(STEP)
    variables = {
        "GITHUB_ENV": f"{tmp_path}/env", "GITHUB_OUTPUT": f"{tmp_path}/output",
        "GITHUB_EVENT_PATH": f"{tmp_path}/event", "GITHUB_RUN_ID": "12", "NAMED": "n",
        "GITHUB_TOKEN": "secret", "PATH_OF_HOST": "x", "SANDBOXD_ENV": "NAMED",
        "SANDBOXD_PASS": "B,C_*", "GITHUB_WORKSPACE": str(tmp_path),
    }  # fmt: skip
    done = sandboxd(daemon, "sh", "-e", str(tmp_path / "step"), "arg", cwd=tmp_path, **variables)
    _, *output, _ = done.stdout.splitlines()  # between the lines that stop workflow commands
    assert output == ["arg|12|n|||/home/work", "before"], done.stderr
    assert done.returncode == 7
    assert (tmp_path / "env").read_text() == "before\nSANDBOXD_STEP_A=1\nB=2\n"
    assert (tmp_path / "output").read_text() == "before\nresult=2\n"
    assert (tmp_path / "event").read_text() == "before\n"
    assert sessions_of(daemon.state) == {}


def test_steps_share_the_session_that_the_environment_names(daemon: Daemon, tmp_path: Path) -> None:
    kept_session(daemon, program(tmp_path, "true\n"), "steps")
    (tmp_path / "step").write_text("echo $(( $(cat n 2>/dev/null) + 1 )) > n; cat n; ls /tmp -A\n")
    for number in ("1\n", "2\n"):
        done = sandboxd(daemon, "sh", str(tmp_path / "step"), SANDBOXD_SESSION="steps")
        assert done.stdout.startswith(number), done.stderr
    assert done.stdout.count(".sandboxd-") == 1, "the files of the first step are gone"
    assert sandboxd(daemon, "rm", "steps").returncode == 0


def test_file_of_a_step_is_written_through_no_link(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("untouched")
    (tmp_path / "env").symlink_to("other")
    done = sandboxd(daemon, "sh", "-c", 'echo A=1 >> "$GITHUB_ENV"', GITHUB_ENV=f"{tmp_path}/env")
    assert done.returncode == 2
    assert (tmp_path / "other").read_text() == "untouched"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_the_shell_reaches_the_script_which_may_clean_up(
    daemon: Daemon, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "step").write_text("trap 'echo saved; exit 9' TERM INT\necho up\nsleep 60 & wait\n")
    with started(daemon, "sh", str(tmp_path / "step")) as process:
        assert process.stdout and process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert process.communicate()[0] == "saved\n"
        assert process.returncode == (143 if number == signal.SIGTERM else 9)
    until(lambda: sessions_of(daemon.state) == {})


def test_script_ends_with_the_ci_system_that_is_killed(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "step").write_text("echo up\nsleep 60\n")
    words = [sys.executable, "-P", "-m", "sandboxd", "sh", "--socket",
             f"{daemon.folder}/api.sock", str(tmp_path / "step")]  # fmt: skip
    system = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    with subprocess.Popen(
        [sys.executable, "-c", system, *words], env=environ(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout and process.stdout.readline() == "up\n"
        process.kill()
        until(lambda: sessions_of(daemon.state) == {})


def test_first_line_of_a_script_can_name_the_shell(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "sandboxd").write_text(f'#!/bin/sh\nexec {sys.executable} -P -m sandboxd "$@"\n')
    (tmp_path / "step").write_text(
        "#!/usr/bin/env -S sandboxd sh -ex\necho $((6 * 7)) $1\nfalse\necho x\n"
    )
    for name in ("sandboxd", "step"):
        (tmp_path / name).chmod(0o755)
    variables = environ() | {"SANDBOXD_SOCKET": f"{daemon.folder}/api.sock"}
    variables["PATH"] = f"{tmp_path}:{variables['PATH']}"
    done = subprocess.run(
        [str(tmp_path / "step"), "a"], env=variables, capture_output=True, text=True, timeout=120,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("42 a\n", 1), done.stderr
    assert done.stderr.splitlines() == ["+ echo 42 a", "+ false"]
