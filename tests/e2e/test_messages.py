"""The messages of `sandboxd run` to its user: what happened, and what this user can type."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from .daemon import Daemon
from .test_run import sandboxd


class Run:
    """`sandboxd run` on one daemon, in a folder of its own."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        self.folder = folder
        self._socket = f"{daemon.folder}/api.sock"

    def __call__(self, *args: str, **files: str) -> subprocess.CompletedProcess[str]:
        """Run the folder with these files, whose "_" stand for dots."""
        for name, text in files.items():
            (self.folder / name.replace("_", ".")).write_text(text)
        return sandboxd("run", str(self.folder), *args, "--socket", self._socket)


@pytest.fixture
def run(daemon: Daemon, tmp_path: Path) -> Run:
    """The command."""
    return Run(daemon, tmp_path)


def test_failed_build_exits_with_its_own_code(run: Run) -> None:
    done = run("--build", "exit 5", "--exec", "echo never", main_sh="")
    assert (done.returncode, done.stdout) == (5, "")
    assert "the build failed, so exec was not run" in done.stderr
    quiet = run("--build", "exit 5", "--exec", "echo never", "-q")
    assert (quiet.returncode, quiet.stdout) == (5, "")
    assert quiet.stderr == "sandboxd: the build failed, so exec was not run\n"
    assert run("--build", "kill -9 $$", "--exec", "true").returncode == 137
    assert run("--build", "exit 0", "--exec", "exit 3").returncode == 3
    assert run("--build", "exit 5", "--exec", "true", "--json").stdout.endswith(
        '{"event": "end", "exitCode": 5}\n'
    )


def test_clean_of_the_runtime_removes_nothing(run: Run) -> None:
    done = run("--image", "c", "--clean", "*", "--build", "cat result", "--exec", "true",
               Makefile="clean:\n\trm -f result\n", result="precious\n")  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "precious\n"), done.stderr


def test_unknown_image_names_those_that_there_are_once(run: Run) -> None:
    done = run("--image", "klingon", main_sh="")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.count("available here: ") == 1 and done.stderr.count("python") == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--mem", "2x"), "--mem: a size in bytes"),
        (("--limit", "colour=red"), "--limit colour: unknown here; known are cpu_s, disk"),
        (("--env", "1A=b"), "--env: a name consists of letters"),
        (("--image", "klingon"), "available here: "),
        (("--get", "y", "--into", "/proc/x"), "/proc/x: "),
    ],
)
def test_mistake_is_found_before_a_private_daemon_is_started(
    tmp_path: Path, args: tuple[str, ...], words: str
) -> None:
    (tmp_path / "main.sh").touch()
    done = sandboxd("run", str(tmp_path), "--private", *args)
    assert done.returncode == 2 and words in done.stderr
    assert "starting a private daemon" not in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "prog"),
    [(("run", "x", "--nonsense"), "run"), (("audit", "--nonsense"), "audit"),
     (("keypair", "list", "--nonsense"), "keypair list")],
)  # fmt: skip
def test_unknown_option_points_at_the_help_of_its_command(args: tuple[str, ...], prog: str) -> None:
    done = sandboxd(*args)
    assert done.returncode == 2
    assert done.stderr == (
        f"sandboxd: unrecognized arguments: --nonsense; see 'sandboxd {prog} --help'\n"
    )


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--timeout", "0.3", "--exec", "sleep 60"), "ask for more with --timeout SECONDS, or"),
        (("--limit", "wall_s=0.3", "--exec", "sleep 60"),
         "ask for more with --limit wall_s=SECONDS, or"),
        (("--limit", "wall_s=0.3", "--build", "sleep 60", "--exec", "true"),
         "ask for more with --limit wall_s=SECONDS, or"),
        (("--mem", "20m", "--exec", "exec perl -e '$x = \"x\" x 90000000'"),
         "ask for more with --mem SIZE"),
        (("--mem", "20m", "--exec", "perl -e '$x = \"x\" x 90000000'; true"),
         "want of memory, and its exit status does not show it; ask for more with --mem SIZE"),
        (("--limit", "pids=5", "--exec", "perl -e 'for (1..9) { defined(fork) or die }'"),
         "ask for more with --limit pids=N"),
        (("--limit", "disk=16m", "--exec", "head -c 20m /dev/zero >big"),
         "ask for more with --limit disk=SIZE"),
        (("--limit", "output=1k", "--exec", "head -c 9000 /dev/zero"),
         "ask for more with --limit output=SIZE"),
        (("--timeout", "999999", "--exec", "true"),
         "exec.wall_s was lowered from 999999 s to 3600 s, the most that is allowed"),
        (("--mem", "900g", "--exec", "true"),
         "limits of this session: mem was lowered from 900 GiB to 4 GiB, the most that is allowed"),
        (("--exec", "*"),
         'exec "*" looked for main.pl in /home/work and found none; upload one, or name a command '
         "with --exec"),
    ],
)  # fmt: skip
def test_advice_names_the_option(run: Run, args: tuple[str, ...], words: str) -> None:
    image = "perl" if args[-1] == "*" else "shell"
    done = run("--image", image, *args, main_sh="")
    assert words in done.stderr, done.stderr
    assert "options." not in done.stderr and "resource" not in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "python3 -c \"import urllib.request as u; u.urlopen('http://example.com')\"",
        "python3 -c \"import socket; socket.gethostbyname('example.com')\"",
        "perl -MIO::Socket::INET -e 'IO::Socket::INET->new(\"example.com:80\") or die $@'",
        "getent hosts example.com || { echo 'example.com: Name or service not known'; exit 2; }",
    ],
)
def test_program_that_looks_for_a_name_is_advised_that_there_is_no_network(
    run: Run, command: str
) -> None:
    done = run("--exec", command, main_sh="")
    assert done.returncode != 0
    assert "exec: this sandbox has no network: " in done.stderr, done.stderr


def test_smallest_disk_has_half_of_its_size_for_files(run: Run) -> None:
    done = run("--limit", "disk=16m", "--exec", "head -c 8m /dev/zero >big && stat -c %s big",
               main_sh="")  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "8388608\n"), done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--timeout", "abc"), "--timeout: 'abc': a number of seconds is needed"),
        (("--timeout", "0"), "--timeout 0: a number of seconds above 0 is needed"),
        (
            ("--mem", "lots"),
            '--mem: a size in bytes, or with a unit such as "256m" or "1g", is '
            "expected, not 'lots'",
        ),
        (("--into", "/dev/null/x", "--get", "y"), "/dev/null/x: /dev/null is no folder"),
        (("--into", "/proc/x", "--get", "y"), "/proc/x: nothing can be written to /proc"),
        (("--timeot", "3"), "unrecognized arguments: --timeot 3; see 'sandboxd run --help'"),
        (("--mem", "1k"), "--mem: at least 8 MiB are needed"),
        (("--cpus", "many"), "--cpus: a number is expected"),
        (("--cpus", "0"), "--cpus: a number above 0 is expected"),
        (("--env", "FOO"), "--env FOO: write NAME=VALUE"),
        (("--env", "1A=b"), "--env: a name consists of letters"),
        (("--limit", "pids"), "--limit pids: write NAME=VALUE"),
        (("--limit", "pids="), "--limit pids=: write NAME=VALUE"),
        (
            ("--limit", "pids=x"),
            "--limit pids: a whole number, 1 or more, is expected, not 'x'",
        ),
        (("--limit", "colour=red"), "--limit colour: unknown here; known are cpu_s, disk"),
        (("--limit", "disk=1m"), "--limit disk: at least 16 MiB are needed"),
    ],
)
def test_mistake_is_one_line_that_names_the_option(
    run: Run, args: tuple[str, ...], words: str
) -> None:
    done = run(*args, main_sh="")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert words in done.stderr and "config." not in done.stderr
    assert "Input validation" not in done.stderr and "internal" not in done.stderr
