"""Locks of open files, which go with a descriptor that a run sends to a program of another one."""

from __future__ import annotations

import errno
from collections.abc import Callable

import httpx

from sandboxd.jail.uncounted_memory import FILE_LOCK
from sandboxd.shim.bounded_calls import MEETING_PART, OFD_LOCKS_MAX

from ..waiting import until
from . import waiting_runs
from .daemon import Daemon, run
from .terminals import sit

Make = Callable[..., str]

PROGRAM = """
import fcntl, os, struct, sys
fd = os.memfd_create("locks")
for at in range(int(sys.argv[1])):
    try:
        fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 2 * at, 1, 0))
    except OSError as error:
        print(at, error.errno, flush=True)
        break
else:
    print("all", flush=True)
"""
FEW = OFD_LOCKS_MAX // MEETING_PART


def program(locks: int) -> dict[str, str]:
    step = f"/usr/bin/python3 lock.py {locks}"
    return {"clean": f"cat > lock.py <<'E'\n{PROGRAM}\nE", "build": step, "exec": step}


def has_all(http: httpx.Client, session: str) -> bool:
    return run(http, session, program(FEW + 1)).text("stdout") == "all\nall\n"


def test_run_beside_a_terminal_that_could_keep_its_locks_makes_few_in_all_its_steps(
    daemon: Daemon, http: httpx.Client, session: Make
) -> None:
    """Each step had 65,536 of them, 13 MB, and a socket of the terminal has them for ever."""
    id = session()
    assert run(http, id, program(FEW + 1)).text("stdout") == "all\nall\n"
    with sit(daemon, id) as screen:
        screen.type("echo rea''dy\n")
        screen.until("ready")
        outcome = run(http, id, program(FEW + 1))
        screen.type("exit\n")
        screen.to_the_end()
    assert outcome.text("stdout") == f"{FEW} {errno.ENOLCK}\n0 {errno.ENOLCK}\n"
    assert outcome.results[-1]["verdict"]["denied"] == {FILE_LOCK: 1}
    until(lambda: has_all(http, id))  # the terminal is gone a moment after its client knows


def test_run_of_an_owner_whose_later_session_may_see_two_folders_makes_few(
    http: httpx.Client, session: Make
) -> None:
    """Two sessions with a folder each made 65,536 of them, and a third one got the files of both,
    which has both folders and began when they were made."""
    names = [f"family-{number}" for number in range(2)]
    folders = [
        http.post("/folders", json={"name": name, "host": "local", "quota": "32m"}).json()
        for name in names
    ]
    first, other = (session(mounts=[name]) for name in names)
    waiting_runs.begin(http, first)
    beside, apart = (run(http, id, program(FEW + 1)) for id in (other, session()))
    assert waiting_runs.end(http, first).text("stdout") == "lived\n"
    until(lambda: has_all(http, other))  # the same for the run that has ended
    for id in (first, other):
        http.delete(f"/session/{id}").raise_for_status()
    for folder in folders:
        http.delete(f"/folders/{folder['id']}").raise_for_status()
    assert beside.text("stdout") == f"{FEW} {errno.ENOLCK}\n0 {errno.ENOLCK}\n"
    assert apart.text("stdout") == "all\nall\n"
