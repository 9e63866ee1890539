"""A benchmark of `sh -c true` in several sandboxes, one after the other, round by round.

Machines are noisy and drift, so only a ratio within one round has a meaning. The table shows the
median and the 99th percentile of each sandbox, and the median of its ratios to the bare spawn of
the same round. There is a pause between two measurements, since users meet an idle machine: a tight
loop hides the cost of a wake-up (above all that of an attach to a cgroup).
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

Act = Callable[[], object]
"""One measured act, which starts and awaits a command."""


def spawn_bare() -> None:
    """The baseline: a process without a sandbox."""
    os.waitpid(os.posix_spawn(COMMAND[0], COMMAND, {}), 0)


def other_sandboxes() -> dict[str, Act]:
    """The sandboxes of this host to compare with, by name."""
    namespaces = ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork"]
    acts: dict[str, Act] = {}
    if unshare := shutil.which("unshare"):
        acts["unshare, five namespaces"] = lambda: run([unshare, *namespaces, *COMMAND])
    if bwrap := shutil.which("bwrap"):
        view = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
        acts["bubblewrap, no limits"] = lambda: run([bwrap, "--unshare-all", *view, *COMMAND])
    return acts


def run(command: list[str]) -> None:
    """Run another program; Python starts it by vfork where it can."""
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def batch(client: Client, session: str) -> None:
    """Run one exec step over HTTP, from the request to the verdict."""
    options = {"exec": "true", "live": True}
    call = {"mode": "batch", "code": "", "options": options}
    while True:
        result = client.call("POST", f"/session/{session}", call)["result"]
        if result["status"] == "finished":
            assert result["exitCode"] == 0, result
            return
        call = {"mode": "continue", "code": "", "runId": result["runId"], "options": {"live": True}}


def session_of_one_run(client: Client) -> None:
    """Create a session, run one command in it, delete it."""
    session = client.create("sh", {})["sessionId"]
    batch(client, session)
    client.call("DELETE", f"/session/{session}")


def measure(acts: dict[str, Act], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each act in each round. The first round warms up and does not count."""
    times: dict[str, list[float]] = {name: [] for name in acts}
    for number in range(rounds + 1):
        for name, act in acts.items():
            time.sleep(PAUSE_S)
            began = time.perf_counter()
            act()
            if number:
                times[name].append((time.perf_counter() - began) * 1000)
        if sys.stderr.isatty():
            print(f"\rround {number} of {rounds}", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return times


def main() -> None:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=200, metavar="ROUNDS", help="default: 200")
    parser.add_argument("--json", action="store_true", help="all times, in milliseconds")
    args = parser.parse_args()
    with private_daemon() as daemon:
        client = Client(daemon.socket)
        session = client.create("sh", {})["sessionId"]
        acts: dict[str, Act] = {
            BARE: spawn_bare,
            **other_sandboxes(),
            "sandboxd, a run in a session": lambda: batch(client, session),
            "sandboxd, create + run + delete": lambda: session_of_one_run(client),
        }
        times_by_name = measure(acts, max(1, args.n))
        client.close()
    if args.json:
        print(json.dumps(times_by_name))
        return
    print(f"{'':34}{'median ms':>10}{'p99':>9}{'x bare':>9}")
    for name, times in times_by_name.items():
        ratio = statistics.median(t / b for t, b in zip(times, times_by_name[BARE], strict=True))
        high = sorted(times)[min(len(times) - 1, len(times) * 99 // 100)]
        print(f"{name:34}{statistics.median(times):10.2f}{high:9.2f}{ratio:9.2f}")


if __name__ == "__main__":
    main()
