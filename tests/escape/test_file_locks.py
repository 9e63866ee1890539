"""Locks on files in a run: those of databases are the kernel's, those of open files are bounded."""

from __future__ import annotations

import errno

import pytest

from sandboxd.jail.uncounted_memory import FILE_LOCK
from sandboxd.shim import bounded_calls

from ..sandbox import Sandbox

COMMAND = "exec /usr/bin/python3 - <<'E'\n{}\nE"

OPEN_FILES = """
import errno, fcntl, os, struct
SET, SET_AND_WAIT, GET = 37, 38, 36
def lock(command, at, kind=fcntl.F_WRLCK):
    try:
        fcntl.fcntl(fd, command, struct.pack("hhqqi4x", kind, 0, at, 1, 0))
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
fd = os.open("file", os.O_RDWR | os.O_CREAT)
print(lock(SET, 0), lock(SET_AND_WAIT, 2), lock(SET, 0, fcntl.F_UNLCK), lock(SET, 4))
print(lock(GET, 0))
fcntl.lockf(os.open("file", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 6)
"""

DATABASE = """
import sqlite3
with sqlite3.connect("base") as base:
    base.execute("pragma synchronous = off")  # the locks count here, and not the disk
    base.execute("create table numbers (number)")
    for number in range(300):
        base.execute("insert into numbers values (?)", [number])
        base.commit()
print(base.execute("select count(*) from numbers").fetchone()[0])
"""


def test_locks_of_open_files_work_up_to_their_bound(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = sandbox.run(COMMAND.format(OPEN_FILES))
    assert result.stdout == "done done done done\ndone\n", result.stderr
    assert result.verdict["denied"] == {}
    monkeypatch.setitem(bounded_calls._MOST, FILE_LOCK, (3, errno.ENOLCK))
    result = sandbox.run(COMMAND.format(OPEN_FILES))
    assert result.stdout == "done done done ENOLCK\ndone\n", result.stderr
    assert result.verdict["denied"] == {"fcntl (F_OFD_SETLK)": 1}


def test_locks_of_a_database_do_not_go_to_the_shim(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(bounded_calls._MOST, FILE_LOCK, (0, errno.ENOLCK))
    result = sandbox.run(COMMAND.format(DATABASE))
    assert result.stdout == "300\n", result.stderr
