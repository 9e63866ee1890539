"""Measures `sh -c true` in several ways, one after the other, round by round.

Machines are noisy and drift, so only a ratio within one round means anything: the table has the
median and the 99th percentile of each way, and the median of its ratios to the bare spawn of the
same round. Between two measurements is a pause, since an idle machine is what a user meets: a
tight loop hides what waking up costs (an attach to a cgroup, above all).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from sandboxd.cli.client import Client
from sandboxd.cli.private_daemon import private_daemon

PAUSE_S = 0.006
COMMAND = ["/bin/sh", "-c", "true"]
BARE = "bare posix_spawn"

Way = Callable[[], object]


def bare() -> None:
    """The baseline: a process, and nothing around it."""
    os.waitpid(os.posix_spawn(COMMAND[0], COMMAND, {}), 0)


def others() -> dict[str, Way]:
    """What this host has to compare with."""
    namespaces = ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork"]
    found: dict[str, Way] = {}
    if unshare := shutil.which("unshare"):
        found["unshare, five namespaces"] = lambda: run([unshare, *namespaces, *COMMAND])
    if bwrap := shutil.which("bwrap"):
        view = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
        found["bubblewrap, no limits"] = lambda: run([bwrap, "--unshare-all", *view, *COMMAND])
    return found


def run(command: list[str]) -> None:
    """Another program, by vfork as far as Python has it."""
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def batch(client: Client, session: str) -> None:
    """One run of an exec step over HTTP, from the request to the verdict."""
    options = {"exec": "true", "live": True}
    call = {"mode": "batch", "code": "", "options": options}
    while True:
        result = client.call("POST", f"/session/{session}", call)["result"]
        if result["status"] == "finished":
            assert result["exitCode"] == 0, result
            return
        call = {"mode": "continue", "code": "", "runId": result["runId"], "options": {"live": True}}


def whole(client: Client) -> None:
    """A session for one run: create, run, delete."""
    session = client.create("sh", {})["sessionId"]
    batch(client, session)
    client.call("DELETE", f"/session/{session}")


def measure(ways: dict[str, Way], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each way in each round; the first round warms up and does not count."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            time.sleep(PAUSE_S)
            began = time.perf_counter()
            way()
            if number:
                taken[name].append((time.perf_counter() - began) * 1000)
        if sys.stderr.isatty():
            print(f"\rround {number} of {rounds}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=200, metavar="ROUNDS", help="default: 200")
    parser.add_argument("--json", action="store_true", help="all times, in milliseconds")
    args = parser.parse_args()
    with private_daemon() as socket:
        client = Client(socket)
        session = client.create("sh", {})["sessionId"]
        ways: dict[str, Way] = {
            BARE: bare,
            **others(),
            "sandboxd, a run in a session": lambda: batch(client, session),
            "sandboxd, create + run + delete": lambda: whole(client),
        }
        taken = measure(ways, max(1, args.n))
        client.close()
    if args.json:
        print(json.dumps(taken))
        return
    print(f"{'':34}{'median ms':>10}{'p99':>9}{'x bare':>9}")
    for name, times in taken.items():
        ratio = statistics.median(t / b for t, b in zip(times, taken[BARE], strict=True))
        high = sorted(times)[min(len(times) - 1, len(times) * 99 // 100)]
        print(f"{name:34}{statistics.median(times):10.2f}{high:9.2f}{ratio:9.2f}")


if __name__ == "__main__":
    main()
