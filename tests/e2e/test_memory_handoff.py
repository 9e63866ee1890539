"""Memory that a run hands to programs of another one is not lost from sight when it is over."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import httpx

from .daemon import Daemon, run
from .terminals import sit

Make = Callable[..., str]

KEEP = """
import os, socket
sock = socket.socket(socket.AF_UNIX)
sock.bind("s")
sock.listen()
kept = []
print("keep" + "ing", flush=True)
while True:
    client, _ = sock.accept()
    kept += socket.recv_fds(client, 9, 9)[1]
    client.send(b"k")
"""
GIVE = """
import os, socket, time
until = time.monotonic() + 10
while not os.path.exists("s") and time.monotonic() < until: time.sleep(0.05)
time.sleep(0.1)
sock = socket.socket(socket.AF_UNIX)
sock.connect("s")
memory = os.memfd_create("memory")
for _ in range(64): os.write(memory, bytes(1 << 20))
socket.send_fds(sock, [b"x"], [memory])
sock.recv(1)
"""
SIZE = 60 << 20


def python(code: str, directory: str = ".") -> dict[str, str]:
    return {"exec": f"cd {directory} && exec /usr/bin/python3 -c '{code}'"}


def shared_memory(daemon: Daemon) -> int:
    """Bytes of files in memory that all runs of the daemon are charged for, also those whose group
    has gone."""
    name = "sandboxd-" + sha256(str(daemon.state).encode()).hexdigest()[:8]
    tops = (top for top, *_ in os.walk("/sys/fs/cgroup") if os.path.basename(top) == name)
    stat = next(Path(top, "memory.stat") for top in tops if Path(top, "memory.stat").exists())
    words = dict(line.split() for line in stat.read_text().splitlines())
    return int(words.get("total_shmem", words["shmem"]))


def is_freed(daemon: Daemon, within_s: float = 8) -> bool:
    until = time.monotonic() + within_s
    while shared_memory(daemon) >= SIZE:
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
        assert shared_memory(daemon) >= SIZE, "it was passed on"
        screen.to_the_end()
    assert is_freed(daemon)


def test_session_with_the_same_folder_that_keeps_the_memory_is_ended_and_no_other(
    daemon: Daemon, http: httpx.Client, session: Make
) -> None:
    response = http.post("/folders", json={"name": "between", "host": "local", "quota": "32m"})
    assert response.status_code == 201, response.text
    one, other = (session(mounts=["between"]) for _ in range(2))
    apart = session()
    ends: dict[str, list[int | None]] = {}

    def begin(id: str, options: dict[str, str]) -> threading.Thread:
        def follow() -> None:
            with daemon.client() as client:
                ends[id] = run(client, id, options).exits

        thread = threading.Thread(target=follow)
        thread.start()
        return thread

    keeps, sleeps = begin(one, python(KEEP, "between")), begin(apart, {"exec": "sleep 9"})
    assert run(http, other, python(GIVE, "between")).exits[-1] == 0
    assert http.delete(f"/session/{other}").status_code == 200
    assert is_freed(daemon)
    keeps.join()
    sleeps.join()
    assert (ends[one][-1], ends[apart][-1]) == (-1, 0)
    assert http.delete(f"/session/{one}").status_code == 200
    assert http.delete(f"/folders/{response.json()['id']}").status_code == 204
