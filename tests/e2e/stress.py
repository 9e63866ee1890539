"""Hostile sessions side by side, and what the daemon does meanwhile.

Each session runs one of ATTACKS after the other until the time is over, under small limits,
while an honest session goes on with its work and somebody asks the daemon how it is. Measured
are answers, memory and descriptors of the daemon's two halves: before, the most during, and
after all sessions have been deleted. Run by hand with scripts/stress, small by test_attack.py.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from .conftest import passable
from .daemon import Daemon, Outcome, run

LIMITS = {
    "wall_s": 4, "cpu_s": 3, "mem": "48m", "pids": 40, "cpu": 0.2, "fsize": "16m", "output": "64m",
}  # fmt: skip
RESOURCES = {"resource_opts": {"disk": "16m"}}  # less for files than `fsize`
PYTHON = "exec /usr/bin/python3 -c '{}'"

ATTACKS = {
    "fork bomb": "f() { f | f & }; f; wait; sleep 9",
    "memory": PYTHON.format("x = [bytearray(1 << 20) for _ in iter(int, 1)]"),
    "shared memory": "exec head -c 1G /dev/zero > /dev/shm/x",
    "output": "exec yes $(head -c 2000 /dev/zero | tr '\\0' x)",
    "lines": "while :; do echo; echo >&2; done",
    "disk": "head -c 1G /dev/zero > big; exit 1",
    "inodes": "mkdir -p d; for i in {1..99999}; do : > d/$i || exit 1; done",
    "depth": PYTHON.format(
        'import os\nfor _ in range(9000): os.mkdir("d" * 200); os.chdir("d" * 200)'
    ),
    "refused calls": PYTHON.format(
        "import ctypes\nl = ctypes.CDLL(None)\nwhile True: l.syscall(165, 0, 0, 0, 0, 0)"
    ),
    "descriptors": PYTHON.format("import socket\nx = [socket.socketpair() for _ in iter(int, 1)]"),
    "cpu": "while :; do :; done & while :; do :; done & trap '' TERM XCPU; while :; do :; done",
    "stopped": "trap '' HUP TERM; sleep 99 & kill -STOP $$",
}


SETTLE_S = 15.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Of warden and api together, their shims and helpers left out: KiB, count, count."""

    memory: int
    descriptors: int
    threads: int


def sample(daemon: Daemon) -> Sample:
    """The resources of both halves of the daemon now, from /proc."""
    assert daemon.process
    pids = [daemon.process.pid, daemon.api]
    status = [_status(pid) for pid in pids]
    return Sample(
        sum(int(one["VmRSS"].split()[0]) for one in status),
        sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids),
        sum(int(one["Threads"]) for one in status),
    )


def _settled(daemon: Daemon, descriptors: int) -> Sample:
    """The resources once fewer than so many descriptors are open, or after SETTLE_S: processes
    for jobs of slots stay a while."""
    until = time.monotonic() + SETTLE_S
    while (now := sample(daemon)).descriptors >= descriptors and time.monotonic() < until:
        time.sleep(0.1)
    return now


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


@dataclass
class Report:
    """The result of a test. Latencies in seconds, of requests that are answered without a jail."""

    before: Sample
    most: Sample
    after: Sample | None = None
    latencies: list[float] = field(default_factory=list)
    honest: int = 0
    verdicts: dict[str, set[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def note(self, attack: str, outcome: Outcome) -> None:
        """An attack has come to its end."""
        verdict = outcome.results[-1].get("verdict") or {}
        self.verdicts.setdefault(attack, set()).add(str(verdict.get("limit")))

    def text(self) -> str:
        """For people."""
        rows = [("", "memory KiB", "descriptors", "threads")]
        for name in ("before", "most", "after"):
            one = getattr(self, name)
            rows.append((name, str(one.memory), str(one.descriptors), str(one.threads)))
        lines = ["".join(word.rjust(13) for word in row) for row in rows]
        spread = sorted(self.latencies)
        lines.append(
            f"{len(spread)} requests answered meanwhile: median {statistics.median(spread):.3f} s, "
            f"99 % within {spread[int(len(spread) * 0.99)]:.3f} s, all within {spread[-1]:.3f} s"
        )
        lines.append(f"honest runs that were done meanwhile: {self.honest}")
        lines += [f"{name:>14}: {', '.join(sorted(v))}" for name, v in self.verdicts.items()]
        return "\n".join(lines + [f"WRONG: {what}" for what in self.wrong])


def attack(daemon: Daemon, sessions: int, seconds: float) -> Report:
    """Let `sessions` attack for so long; the report has what went wrong.

    At rest the number of descriptors differs by a few (spares in preparation, connections that
    are closed late), so it is awaited only that each session has not left one.
    """
    with daemon.client() as http:
        warm = create(http, "warm")
        run(http, warm, {"exec": "echo warm"})
        http.delete(f"/session/{warm}").raise_for_status()
    report = Report(first := sample(daemon), first)
    until = time.monotonic() + seconds
    jobs: list[Callable[[], None]] = [lambda: watch(daemon, report, until)]
    jobs += [lambda: work(daemon, report, until)]
    order = itertools.cycle(ATTACKS)
    for number in range(sessions):
        names = list(itertools.islice(order, 5))
        jobs.append(functools.partial(misbehave, daemon, report, number, names, until))
    side_by_side(jobs, report)
    report.after = _settled(daemon, report.before.descriptors + sessions)
    return report


def side_by_side(jobs: list[Callable[[], None]], report: Report) -> None:
    """Do the jobs side by side. The report gets every exception of a job."""

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except Exception as error:  # of any kind: the report has it
            report.wrong.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=guarded, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def create(http: httpx.Client, name: str, **config: Any) -> str:
    """A session for attacks, or for honest work."""
    answer = http.post("/session", json={"image": "c", "name": f"stress-{name}", "config": config})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["sessionId"])


def misbehave(daemon: Daemon, report: Report, number: int, names: list[str], until: float) -> None:
    """One hostile session: its attacks in turn, then it is deleted, whatever it has left."""
    with daemon.client() as http:
        session = create(http, str(number), **RESOURCES)
        for name in itertools.cycle(names):
            step = {"exec": ATTACKS[name], "limits": {"exec": LIMITS}, "clean": "rm -rf d dd*"}
            report.note(name, run(http, session, step))
            if time.monotonic() > until:  # after the first, however late that was
                break
        answer = http.delete(f"/session/{session}")
        assert answer.status_code == 200, answer.text


def work(daemon: Daemon, report: Report, until: float) -> None:
    """An honest user beside them."""
    with daemon.client() as http:
        session = create(http, "honest")
        while not report.honest or time.monotonic() < until:
            outcome = run(http, session, {"build": "echo int > x.h", "exec": "cat x.h; exit 7"})
            assert (outcome.text("stdout"), outcome.exits[-1]) == ("int\n", 7), outcome.results
            report.honest += 1
        http.delete(f"/session/{session}").raise_for_status()


def watch(daemon: Daemon, report: Report, until: float) -> None:
    """Ask for a list of sessions, again and again, and look what the daemon has become."""
    with daemon.client() as http:
        while not report.latencies or time.monotonic() < until:
            began = time.monotonic()
            http.get("/session/_/match", params={"id": "stress"}).raise_for_status()
            report.latencies.append(time.monotonic() - began)
            now = sample(daemon)
            pairs = [(getattr(report.most, f), getattr(now, f)) for f in Sample.__slots__]
            report.most = Sample(*(max(pair) for pair in pairs))
            time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/stress", description=__doc__)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    config = f"[slots]\nfirst_uid = 620000\ncount = {options.sessions + 8}\n"
    with passable() as folder:
        daemon = Daemon(folder, config)
        with (folder / "log").open("w+") as log:
            daemon.errors = log.fileno()
            daemon.start()
            try:
                report = attack(daemon, options.sessions, options.seconds)
            finally:
                daemon.stop()
            log.seek(0)
            report.wrong += [line for line in log if "level=error" in line or "Traceback" in line]
    print(report.text())
    raise SystemExit(bool(report.wrong))


if __name__ == "__main__":
    main()
