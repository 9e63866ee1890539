"""`python -m tests.fault.points`: kills a daemon at many moments, and says what it broke.

Several sessions live at once, so that each kill finds the others at other moments too.
"""

from __future__ import annotations

import argparse
import os
import queue
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from .life import Life, Point
from .service import Service, chosen


@dataclass
class Report:
    """The outcome of all points: `broken` has those that broke a promise, with the error."""

    lived: int = 0
    kills: int = 0
    broken: list[str] = field(default_factory=list)


def attack(folder: Path, points: int, seed: str, at_once: int, only: int | None = None) -> Report:
    """Live `points` lives on a daemon in `folder`, `at_once` of them at a time."""
    report = Report()
    todo: queue.SimpleQueue[tuple[int, Point, Life]] = queue.SimpleQueue()
    service = Service(folder, 870000 + os.getpid() % 1000 * 128)
    try:
        service.wait_until_ready()
        for number, by in enumerate(chosen(seed, points)):
            point = Point.chosen(by)
            if only in (None, number):
                todo.put((number, point, Life(service, f"life-{number}", point, by)))
        threads = [threading.Thread(target=_live, args=(todo, report)) for _ in range(at_once)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        try:
            service.wait_until_ready()
            service.expect_nothing_left()
        except AssertionError as error:
            report.broken.append(f"after all: {error}")
        report.kills = service.kills
        return report
    finally:
        if service.left():
            service.purge()
        service.stop()


def _live(todo: queue.SimpleQueue[tuple[int, Point, Life]], report: Report) -> None:
    while True:
        try:
            number, point, life = todo.get_nowait()
        except queue.Empty:
            return
        try:
            life.live()
        except Exception:  # a broken promise, or a client that met what it does not understand
            report.broken.append(f"point {number}, {point}: {traceback.format_exc()}")
        report.lived += 1


def main() -> int:
    """Attack, and print what came of it."""
    parser = argparse.ArgumentParser(prog="scripts/fault", description=__doc__)
    parser.add_argument("--points", type=int, default=300, help="how many kills")
    parser.add_argument("--seed", default="0", help="which ones; the same seed gives the same")
    parser.add_argument("--at-once", type=int, default=3, help="sessions that live at once")
    parser.add_argument("--only", type=int, help="the point of this number alone")
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sandboxd-fault-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        report = attack(folder, args.points, args.seed, args.at_once, args.only)
        for text in report.broken:
            print(text)
        if report.broken:
            print((folder / "log").read_text(errors="replace")[-20000:], file=sys.stderr)
    seconds = time.monotonic() - began
    print(
        f"{report.lived} lives, {report.kills} kills, {len(report.broken)} broken promises, "
        f"{seconds:.0f} s (seed {args.seed})"
    )
    return 1 if report.broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
