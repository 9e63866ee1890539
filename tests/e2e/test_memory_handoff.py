"""Memory that a run hands to programs of another one is not lost from sight when it is over."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import httpx

from sandboxd.host.cgroupfs import GroupFiles

from ..waiting import PATIENCE_S
from .daemon import Daemon, run
from .terminals import sit

Make = Callable[..., str]

KEEP = """
import os, socket
sock = socket.socket(socket.AF_UNIX)
sock.bind("t")
sock.listen()
os.rename("t", "s")
kept = []
print("keep" + "ing", flush=True)
while True:
    client, _ = sock.accept()
    kept += socket.recv_fds(client, 9, 9)[1]
    client.send(b"k")
"""
GIVE = """
import os, socket, time
while not os.path.exists("s"): time.sleep(0.05)
sock = socket.socket(socket.AF_UNIX)
sock.connect("s")
memory = os.memfd_create("memory")
for _ in range(64): os.write(memory, bytes(1 << 20))
socket.send_fds(sock, [b"x"], [memory])
sock.recv(1)
"""
SIZE = 60 << 20


def python(code: str, directory: str = ".") -> dict[str, Any]:
    """A run that its time limit does not end before the tests give up."""
    return {"exec": f"cd {directory} && exec /usr/bin/python3 -c '{code}'", "timeout": 600}


def groups(daemon: Daemon) -> Iterator[GroupFiles]:
    """The groups of the daemon that count memory, first that of all its runs."""
    name = "sandboxd-" + sha256(str(daemon.state).encode()).hexdigest()[:8]
    tops = [top for top, *_ in os.walk("/sys/fs/cgroup") if os.path.basename(top) == name]
    for controller in ("memory", ""):
        for directory, *_ in (one for top in tops for one in os.walk(top)):
            files = GroupFiles({controller: directory})
            if files.exists("memory.stat") and files.v2 == files.exists("memory.current"):
                yield files


def passed_on(daemon: Daemon) -> int:
    """Bytes that all runs are charged for, of which some hold files in memory, as they should now.

    The counts of a group's own memory are exact. Those of the groups below, in its memory.stat, may
    be 2 s late. The charges of a group that has gone stay with the groups above it.
    """
    assert max(one.shared_memory() for one in groups(daemon)) >= SIZE
    return next(groups(daemon)).memory_in_use()


def is_freed(daemon: Daemon, before: int, within_s: float = PATIENCE_S) -> bool:
    """All runs are charged for SIZE less than `before`."""
    until = time.monotonic() + within_s
    while next(groups(daemon)).memory_in_use() > before - SIZE:
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def test_terminal_that_keeps_the_memory_of_other_runs_is_ended(
    daemon: Daemon, http: httpx.Client, session: Make
) -> None:
    id = session()
    run(http, id, {"exec": f"cat > keep.py <<'E'\n{KEEP}\nE"})
    with sit(daemon, id) as screen:
        screen.type("/usr/bin/python3 keep.py\n")
        screen.until("keeping")
        assert run(http, id, python(GIVE)).exits[-1] == 0
        before = passed_on(daemon)
        screen.to_the_end()
    assert is_freed(daemon, before)


def test_session_with_the_same_folder_that_keeps_the_memory_is_ended_and_no_other(
    daemon: Daemon, http: httpx.Client, session: Make
) -> None:
    response = http.post("/folders", json={"name": "between", "host": "local", "quota": "32m"})
    assert response.status_code == 201, response.text
    one, other = (session(mounts=["between"]) for _ in range(2))
    apart = session()
    ends: dict[str, list[int | None]] = {}

    def begin(id: str, options: dict[str, Any]) -> threading.Thread:
        def follow() -> None:
            with daemon.client() as client:
                ends[id] = run(client, id, options).exits

        thread = threading.Thread(target=follow)
        thread.start()
        return thread

    keeps, sleeps = begin(one, python(KEEP, "between")), begin(apart, {"exec": "sleep 9"})
    assert run(http, other, python(GIVE, "between")).exits[-1] == 0
    before = passed_on(daemon)
    assert http.delete(f"/session/{other}").status_code == 200
    assert is_freed(daemon, before)
    keeps.join()
    sleeps.join()
    assert (ends[one][-1], ends[apart][-1]) == (-1, 0)
    assert http.delete(f"/session/{one}").status_code == 200
    assert http.delete(f"/folders/{response.json()['id']}").status_code == 204
