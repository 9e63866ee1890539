"""A daemon that many sessions attack at once answers, says why each ended, and does not grow."""

from __future__ import annotations

from .conftest import passable
from .daemon import running
from .stress import ATTACKS, attack

MET = {
    "memory": {"memory"}, "shared memory": {"fsize"}, "disk": {"disk"},
    "inodes": {"disk", "memory"}, "descriptors": {"nofile"}, "cpu": {"cpu_s"},
}  # fmt: skip
"""Attack -> the limits of which it meets one, if it is not too slow for it (the kernel's part of a
file is memory of its maker's); the others go on until the time is over."""


def test_daemon_under_attack_answers_and_does_not_grow() -> None:
    with passable() as folder, running(folder) as daemon:
        first = attack(daemon, sessions=12, seconds=5)
        second = attack(daemon, sessions=12, seconds=5)
    for report in (first, second):
        assert report.wrong == [], report.text()
        assert report.after and report.latencies and report.honest
        assert report.after.descriptors <= report.before.descriptors
        for name, limits in report.verdicts.items():
            assert limits <= {"wall_s"} | MET.get(name, set()) or name == "depth", report.text()
    assert set(first.verdicts) == set(ATTACKS)
    assert second.after and first.after
    assert second.after.memory < first.after.memory + (8 << 10), "KiB that each round would add"
    assert second.after.threads <= first.after.threads + 2
