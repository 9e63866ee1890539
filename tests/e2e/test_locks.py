"""The bound of the locks on files that a run holds: the warden watches, the run ends by its limit.

Each program makes 150,000 locks, 30 MB of the kernel's memory, and holds them for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from .daemon import run

Make = Callable[..., str]

PROGRAM = """
import fcntl, os, struct, sys, time
files, locks, seconds = map(int, sys.argv[1:])
held = [os.memfd_create("locks") for _ in range(files)]
for fd in held:
    for at in range(locks):
        fcntl.fcntl(fd, fcntl.F_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 2 * at, 1, 0))
print("held", flush=True)
time.sleep(seconds)
print("at the end", flush=True)
"""
HELD_S = 60
LIMITS = {"exec": {"wall_s": 90}}

HIDING = """
import fcntl, os, struct, sys, time
processes, locks, seconds = map(int, sys.argv[1:])
copied = os.memfd_create("copied")
for _ in range(1000):
    os.dup(copied)
ready, done = os.pipe()
for _ in range(processes):
    if os.fork() == 0:
        for _ in range(10):
            fd = os.memfd_create("locks")
            for at in range(locks // 10):
                fcntl.fcntl(fd, fcntl.F_SETLK, struct.pack("hhqqi4x", 1, 0, 2 * at, 1, 0))
        os.write(done, b".")
        time.sleep(seconds + 60)
for _ in range(processes):
    os.read(ready, 1)
print("held", flush=True)
time.sleep(seconds)
print("at the end", flush=True)
"""
"""Forty such processes have more descriptors than the first count looks at."""


def program(files: int, locks: int, seconds: int) -> dict[str, Any]:
    return {
        "clean": f"cat > hold.py <<'E'\n{PROGRAM}\nE",
        "exec": f"exec /usr/bin/python3 hold.py {files} {locks} {seconds}",
        "limits": LIMITS,
    }


def test_run_that_holds_more_locks_than_it_may_is_ended_and_says_so(
    http: httpx.Client, session: Make
) -> None:
    outcome = run(http, session(), program(500, 300, HELD_S))
    verdict = outcome.results[-1]["verdict"]
    assert (verdict["outcome"], verdict["limit"]) == ("limit", "locks"), verdict
    assert "100000 locks on files" in verdict["advice"]
    assert "at the end" not in outcome.text("stdout")


def test_run_that_holds_as_many_as_it_may_goes_on(http: httpx.Client, session: Make) -> None:
    outcome = run(http, session(), program(300, 300, 2))
    assert outcome.exits[-1] == 0
    assert outcome.text("stdout").endswith("at the end\n")


def hiding(processes: int, locks: int, seconds: int) -> dict[str, Any]:
    return {
        "clean": f"cat > hide.py <<'E'\n{HIDING}\nE",
        "exec": f"exec /usr/bin/python3 hide.py {processes} {locks} {seconds}",
        "limits": LIMITS,
    }


def test_run_that_hides_its_locks_behind_copies_of_descriptors_is_ended(
    http: httpx.Client, session: Make
) -> None:
    outcome = run(http, session(), hiding(40, 4000, HELD_S))
    verdict = outcome.results[-1]["verdict"]
    assert (verdict["outcome"], verdict["limit"]) == ("limit", "locks"), verdict
    assert "at the end" not in outcome.text("stdout")


def test_run_with_very_many_descriptors_and_as_many_locks_as_it_may_have_goes_on(
    http: httpx.Client, session: Make
) -> None:
    outcome = run(http, session(), hiding(40, 2000, 3))
    assert outcome.exits[-1] == 0
    assert outcome.text("stdout").endswith("at the end\n")
