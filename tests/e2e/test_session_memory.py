"""The memory of a session: its runs together hold no more than one of them may."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx

from .daemon import Daemon, Outcome, run
from .terminals import sit

Make = Callable[..., str]

LIMIT = {"mem": "96m"}
HOLD = '/usr/bin/python3 -c \'x = bytearray({} << 20); print("hold" + "ing", flush=True); input()\''
GRAB = "exec /usr/bin/python3 -c 'x = bytearray({} << 20)'"


def verdict(outcome: Outcome) -> dict[str, Any]:
    """The verdict of the last step."""
    value: dict[str, Any] = outcome.results[-1]["verdict"]
    return value


def test_run_beside_a_terminal_that_holds_memory_gets_what_is_left_and_a_verdict_that_says_so(
    daemon: Daemon, http: httpx.Client, session: Make
) -> None:
    id = session(resources=LIMIT)
    assert run(http, id, {"exec": GRAB.format(80)}).exits[-1] == 0, "alone it has enough"
    with sit(daemon, id) as screen:
        screen.type(HOLD.format(50) + "\n")  # less than the run has when the bound is reached
        screen.until("holding")
        outcome = run(http, id, {"exec": GRAB.format(80)})
        assert outcome.exits[-1] == 137
        said = verdict(outcome)
        assert (said["outcome"], said["limit"], said["oom"]) == ("limit", "memory", True)
        assert "the runs of this session together" in said["advice"]
        assert run(http, id, {"exec": GRAB.format(30)}).exits[-1] == 0
    assert run(http, id, {"exec": GRAB.format(80)}).exits[-1] == 0, "the terminal is gone"


def test_run_that_a_terminal_drives_out_of_memory_has_a_verdict_that_names_the_limit(
    daemon: Daemon, http: httpx.Client, session: Make
) -> None:
    id = session(resources=LIMIT)
    hold = (
        "exec /usr/bin/python3 -c 'import signal; x = bytearray(80 << 20)\n"
        'open("holds", "w").close(); signal.pause()\''
    )
    outcomes: list[Outcome] = []

    def follow() -> None:
        with daemon.client() as client:
            outcomes.append(run(client, id, {"exec": hold}))

    thread = threading.Thread(target=follow)
    thread.start()
    with sit(daemon, id) as screen:
        screen.type("until [ -e holds ]; do sleep 0.1; done; " + HOLD.format(60) + "\n")
        screen.until("holding")
        thread.join()
    said = verdict(outcomes[0])
    assert (said["outcome"], said["limit"], said["oom"]) == ("limit", "memory", True)
    assert "the runs of this session together" in said["advice"]


def test_run_whose_predecessor_filled_its_files_in_memory_has_all_of_its_memory(
    http: httpx.Client, session: Make
) -> None:
    """The files go with the mount namespace, a moment after the run."""
    id = session(resources=LIMIT, resource_opts={"shmem": "80m"})
    fill = "head -c 70m /dev/zero > /dev/shm/x"
    for _ in range(5):
        assert run(http, id, {"exec": fill}).exits[-1] == 0
        assert run(http, id, {"exec": GRAB.format(80)}).exits[-1] == 0
