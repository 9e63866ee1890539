"""The socket that a command uses, and the one line for a user without the right to open it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pathspec  # noqa: F401  # loaded before a child gives root up
import pytest

from sandboxd.cli import (  # noqa: F401  # loaded before a child gives root up
    doctor,
    drain,
    keypair,
    leaks,
    main,
    run,
    runtimes,
    selftest,
    serve,
)
from sandboxd.cli.main import main as command

from ..each_case import each_case

pytestmark = pytest.mark.slow  # a command for each socket

ROOT = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[str]:
    """A socket on which somebody listens, closed to all but root, as the daemon makes it."""
    path = f"/tmp/sandboxd-test-{os.getpid()}.sock"  # short, and where others can come to
    with socket.socket(socket.AF_UNIX) as it:
        it.bind(path)
        os.chmod(path, 0o600)
        it.listen()
        yield path
    os.unlink(path)


def as_nobody(*args: str) -> tuple[int, str]:
    """The exit status and the messages of `sandboxd ARGS` for a user without rights."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            os.dup2(writing, 2)
            tempfile.tempdir = "/tmp"  # that of the tests is closed to others
            os.chdir("/tmp")
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            sys.stdin = open(0, closefd=False)  # not those of pytest
            sys.stderr = open(2, "w", closefd=False)  # the child ends below
            status = command(args)
            sys.stderr.flush()
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading) as messages:
        text = messages.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


def started(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`sandboxd ARGS`."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", *args],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin:/usr/sbin"} | variables,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["run", "selftest"])
@pytest.mark.parametrize("kind", ["absent", "a file", "a directory", "left over", "too long"])
def test_socket_that_the_user_names_and_nobody_serves_is_an_error_and_starts_no_daemon(
    tmp_path: Path, name: str, kind: str
) -> None:
    path = tmp_path / "sock"
    if kind == "a file":
        path.touch()
    elif kind == "a directory":
        path.mkdir()
    elif kind == "left over":
        with socket.socket(socket.AF_UNIX) as over:
            over.bind(str(path))
    elif kind == "too long":
        path = tmp_path / ("x" * 120)
    folder = [str(ROOT / "examples/wordcount")] if name == "run" else []
    done = started(name, *folder, "--socket", str(path))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"sandboxd: --socket {path}: no daemon listens there (")
    assert done.stderr.count("\n") == 1 and "sandboxd serve" in done.stderr


@pytest.mark.parametrize("name", ["drain", "leaks"])
def test_command_about_a_daemon_that_is_not_there_names_the_remedy(
    tmp_path: Path, name: str
) -> None:
    done = started(name, "--socket", f"{tmp_path}/sock")
    assert done.returncode == 125 and done.stderr.count("\n") == 1
    assert "No such file or directory" in done.stderr and "sandboxd serve" in done.stderr


@pytest.mark.parametrize("words", [("run", str(ROOT / "examples/wordcount")), ("ps",)])
def test_socket_that_the_environment_names_is_as_one_of_the_option(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    named = {
        "SANDBOXD_SOCKET": f"{tmp_path}/of-variable",
        "SANDBOXD_ENDPOINT": "http://127.0.0.1:1",
    }
    done = started(*words, **named)
    assert done.returncode != 0 and f"{tmp_path}/of-variable" in done.stderr, done.stderr
    done = started(*words, "--socket", f"{tmp_path}/of-option", **named)
    assert done.returncode != 0 and f"{tmp_path}/of-option" in done.stderr, done.stderr


def test_socket_and_private_exclude_each_other() -> None:
    done = started("run", ".", "--socket", "x", "--private")
    assert done.returncode == 2 and "not allowed with argument --socket" in done.stderr


@pytest.mark.root
@pytest.mark.parametrize("name", ["run", "selftest", "drain", "leaks"])
def test_user_who_may_not_open_the_socket_gets_the_reason_and_starts_no_daemon(
    listener: str, name: str
) -> None:
    folder = ["/usr/share"] if name == "run" else []
    if name == "run":
        folder += ["--image", "c", "--exclude", "*"]
    status, text = as_nobody(name, *folder, "--socket", listener)
    assert (status, text.count("\n")) == (2, 1), text
    assert text == (
        f"sandboxd: {listener}: this user may not open the daemon's socket; it needs root: "
        "use sudo, or become a member of the socket's group\n"
    )


@pytest.mark.root
@each_case(
    "args",
    [
        ("serve",), ("serve", "--listen", "127.0.0.1:0"), ("doctor",), ("doctor", "--json"),
        ("keypair", "list"), ("keypair", "create"), ("keypair", "delete", "AK"),
        ("run", "/etc/ssl", "--image", "c", "--exclude", "*", "--private"),
        ("selftest", "--private"),
    ],
)  # fmt: skip
def test_message_to_a_user_who_is_not_root_says_that_the_command_needs_root(
    args: tuple[str, ...],
) -> None:
    status, text = as_nobody(*args)
    assert (status, text.count("\n")) == (2, 1), text
    assert "needs root" in text and "sudo" in text


@pytest.mark.root
def test_closed_configuration_needs_root(tmp_path: Path) -> None:
    path = Path(f"/tmp/sandboxd-test-{os.getpid()}.toml")
    path.touch(0o600)
    try:
        status, text = as_nobody("runtimes", "--config", str(path))
        assert (status, text) == (
            2, f"sandboxd: {path}: Permission denied; it needs root; use sudo\n",
        )  # fmt: skip
    finally:
        path.unlink()
