"""Many short sessions by several clients at once; then everything is where it was before.

A first part fills what fills once: caches, the rows of ended sessions, the allocator's arenas.
From then on, however many sessions come and go, processes, descriptors, mounts, loop devices,
cgroups and directories are the same in number, and memory stays within an allowance that does not
depend on how many there were. `./scripts/soak` does some thousand,
`scripts/test-world soak` some hundred.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from ..loop_devices import backing_files
from ..processes import children, files
from .conftest import passable
from .daemon import Daemon, run, running

SESSIONS = int(os.environ.get("SANDBOXD_SOAK", "80"))
CLIENTS = 8

pytestmark = pytest.mark.world

WARDEN_MIB, API_MIB = 4, 24
"""Growth of memory that is allowed after the first part: fragments, and counters of metrics."""

CONFIG = """
[scratch]
size = 33554432
inodes = 1024
[sessions]
ended_kept = 20
"""


@dataclass(frozen=True)
class Held:
    """The resources of the host that a daemon has."""

    processes: int
    warden_fds: int
    api_fds: int
    api_threads: int
    mounts: int
    loops: int
    cgroups: int
    slots: int
    warden_mib: float
    api_mib: float

    @classmethod
    def of(cls, daemon: Daemon) -> Held:
        """Now."""
        assert daemon.process
        warden = daemon.process.pid
        api, state = daemon.api, str(daemon.state)
        return cls(
            processes=1 + len(children(warden)),
            warden_fds=len(os.listdir(f"/proc/{warden}/fd")),
            api_fds=len(os.listdir(f"/proc/{api}/fd")),
            api_threads=len(os.listdir(f"/proc/{api}/task")),
            mounts=Path(f"/proc/{warden}/mounts").read_text().count(state),
            loops=sum(name.startswith(state) for name in backing_files()),
            cgroups=len(_groups(state)),
            slots=len(os.listdir(daemon.state / "slots")),
            warden_mib=_resident(warden),
            api_mib=_resident(api),
        )

    def counts(self) -> dict[str, int]:
        """All but memory, and the threads that a pool keeps."""
        memory = ("warden_mib", "api_mib", "api_threads")
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in memory}


def _descriptors(daemon: Daemon) -> list[str]:
    """The files that the api holds, for the reader of a failure."""
    return sorted(files(daemon.api).values())


def _resident(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / (1 << 20)


def _groups(state: str) -> set[str]:
    """The cgroups of the runs of the daemon with this state directory (warden/startup.py)."""
    own = "sandboxd-" + sha256(state.encode()).hexdigest()[:8]
    return {
        f"{top}/{name}"
        for top, names, _ in os.walk("/sys/fs/cgroup")
        if os.path.basename(top) == own
        for name in names
        if "." in name
    }


def _program(http: httpx.Client, session: str) -> None:
    files = {"src": ("a.txt", b"some text\n")}
    assert http.post(f"/session/{session}/upload", files=files).status_code in (200, 204)
    done = run(http, session, {"build": "cp a.txt b.txt", "exec": "cat b.txt; exit 3"})
    assert done.text("stdout") == "some text\n"
    assert done.exits[-1] == 3
    answer = http.get(f"/session/{session}/download_single", params={"file": "b.txt"})
    assert answer.content == b"some text\n"


def _flood(http: httpx.Client, session: str) -> None:
    done = run(http, session, {"exec": "yes | head -c 2000000; ls /proc/self/fd | wc -l"})
    assert done.exits[-1] == 0


def _bomb(http: httpx.Client, session: str) -> None:
    command = "for i in 1 2 3 4 5 6 7 8; do sleep 100 & done; kill -9 $$"
    assert run(http, session, {"exec": command}).exits[-1] != 0


def _left_running(http: httpx.Client, session: str) -> None:
    call = {"mode": "batch", "code": "", "options": {"exec": "setsid sleep 100 & sleep 100"}}
    assert http.post(f"/session/{session}", json=call, timeout=60).status_code == 200


def _broken_off(http: httpx.Client, session: str) -> None:
    call = {"mode": "batch", "code": "", "options": {"exec": "sleep 0.2; echo late"}}
    try:
        http.post(f"/session/{session}", json=call, timeout=0.05)
    except httpx.TimeoutException:
        pass  # that is the point: the client has gone


def _mistaken(http: httpx.Client, session: str) -> None:
    assert http.post(f"/session/{session}", json={"mode": "batch"}).status_code < 500
    assert http.post(f"/session/{session}", content=b"{").status_code == 400
    assert http.get(f"/session/{session}/files", params={"path": "/etc"}).status_code < 500


LIVES: tuple[Callable[[httpx.Client, str], None], ...] = (
    _program, _flood, _bomb, _left_running, _broken_off, _mistaken,
)  # fmt: skip


def _live(http: httpx.Client, number: int, tally: Counter[str]) -> None:
    """One session, from its creation to its end."""
    life = random.Random(number).choice(LIVES)
    response = http.post("/session", json={"image": "c", "name": f"soak-{number}"})
    assert response.status_code == 201, response.text
    life(http, f"soak-{number}")
    assert http.delete(f"/session/soak-{number}").status_code == 200
    tally[life.__name__.strip("_")] += 1


def _live_many(daemon: Daemon, numbers: range) -> Counter[str]:
    """As many sessions, by CLIENTS clients."""
    tally: Counter[str] = Counter()

    def client(first: int) -> None:
        with daemon.client() as http:
            for number in numbers[first::CLIENTS]:
                _live(http, number, tally)

    with ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(client, first) for first in range(CLIENTS)]:
            done.result()
    return tally


def _settled(daemon: Daemon, wanted: dict[str, int] | None = None) -> Held:
    """The daemon's resources, when their numbers are `wanted`, or do not change for five
    seconds: on a busy machine a jail takes long to be prepared, and a warm one waits for three."""
    deadline = time.monotonic() + 30
    before, same = Held.of(daemon), 0
    while time.monotonic() < deadline:
        time.sleep(0.5)
        held = Held.of(daemon)
        same = same + 1 if held.counts() == before.counts() else 0
        if held.counts() == wanted or (wanted is None and same >= 10):
            return held
        before = held
    return before


def test_sessions_come_and_go_and_nothing_of_them_stays() -> None:
    began = time.monotonic()
    with passable() as folder, running(folder, CONFIG) as daemon:
        part = max(40, SESSIONS // 10)
        _live_many(daemon, range(-part - 20, -part))  # vacant slots and prepared jails are there
        empty = _settled(daemon)
        _live_many(daemon, range(-part, 0))
        first = _settled(daemon, empty.counts())
        print(f"\nafter the first part: {first}")
        tally: Counter[str] = Counter()
        for quarter in range(4):
            tally += _live_many(
                daemon, range(quarter * SESSIONS // 4, (quarter + 1) * SESSIONS // 4)
            )
            seconds = time.monotonic() - began
            print(f"{tally.total()} sessions, {seconds:.0f} s: {Held.of(daemon)}")
        last = _settled(daemon, empty.counts())
        print(f"at the end: {last}\n{dict(tally)}\nthe api holds {_descriptors(daemon)}")
    assert tally.total() == SESSIONS
    assert last.counts() == first.counts() == empty.counts()
    assert last.warden_mib - first.warden_mib < WARDEN_MIB
    assert last.api_mib - first.api_mib < API_MIB
