"""Words of a command line that are not UTF-8: they reach the program as they are, or are refused in
one line. A file system and a shell know bytes, and a CI system has variables of other encodings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .daemon import Daemon, environ
from .test_holders import program
from .test_session_commands import kept_session

BYTE = b"\xff"


def sandboxd(daemon: Daemon, *words: bytes) -> subprocess.CompletedProcess[bytes]:
    """A command that speaks with the daemon."""
    socket = f"{daemon.folder}/api.sock"
    return subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", *words],
        env=environ() | {"SANDBOXD_SOCKET": socket},
        capture_output=True,
        timeout=120,
    )


@pytest.fixture
def session(daemon: Daemon, tmp_path: Path) -> Iterator[str]:
    yield kept_session(daemon, program(tmp_path, "mkdir $'a\\xff'; touch $'a\\xff/b'\n"), "bytes")
    assert sandboxd(daemon, b"rm", b"bytes").returncode == 0


def test_command_and_variable_keep_bytes_that_are_not_utf8(daemon: Daemon, session: str) -> None:
    assert sandboxd(daemon, b"exec", b"bytes", b"--", b"echo", BYTE).stdout == BYTE + b"\n"
    script = (b"exec", b"--env", b"A=" + BYTE, b"bytes", b"--", b"sh", b"-c", b'echo "$A"')
    assert sandboxd(daemon, *script).stdout == BYTE + b"\n"
    assert sandboxd(daemon, b"sh", b"--env", b"A=" + BYTE, b"-c", b'echo "$A"').stdout == (
        BYTE + b"\n"
    )


def test_files_with_names_that_are_not_utf8_are_listed_and_copied(
    daemon: Daemon, session: str, tmp_path: Path
) -> None:
    listed = sandboxd(daemon, b"ls", b"bytes", b"a" + BYTE)
    assert (listed.returncode, listed.stdout.split()[-1]) == (0, b"b"), listed.stderr
    into = bytes(tmp_path) + b"/into"
    fetched = sandboxd(daemon, b"cp", b"bytes:a" + BYTE, into)
    assert fetched.returncode == 0, fetched.stderr
    assert sandboxd(daemon, b"cp", into, b"bytes:c" + BYTE).returncode == 0
    assert sandboxd(daemon, b"ls", b"bytes", b"c" + BYTE).returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        (b"exec", BYTE, b"--", b"true"), (b"logs", BYTE), (b"rm", BYTE), (b"ls", BYTE),
        (b"get", BYTE, b"x"), (b"cp", BYTE + b":x", b"."), (b"sh", b"--session", BYTE, b"-c", b""),
        (b"folder", b"create", BYTE), (b"folder", b"rm", BYTE), (b"folder", b"info", BYTE),
        (b"folder", b"ls", BYTE), (b"folder", b"cp", BYTE + b":x", b"."),
        (b"sh", b"--image", BYTE, b"-c", b""), (b"sh", b"--folder", BYTE, b"-c", b""),
        (b"sh", b"--network", BYTE, b"-c", b""),
    ],
    ids=lambda words: ascii(b" ".join(words)),
)  # fmt: skip
def test_name_that_is_not_utf8_is_refused_in_one_line(
    daemon: Daemon, words: tuple[bytes, ...]
) -> None:
    done = sandboxd(daemon, *words)
    assert done.returncode in (1, 2, 125)
    assert b"internal error" not in done.stderr and done.stderr.count(b"\n") == 1, done.stderr
