"""A daemon that many sessions attack at once answers, says why each ended, and does not grow."""

from __future__ import annotations

from .conftest import passable
from .daemon import running
from .stress import ATTACKS, attack

SESSIONS = 12
MET = {
    "shared memory": {"fsize"}, "disk": {"disk"}, "inodes": {"disk", "inodes"},
    "depth": {"None", "disk", "inodes"},
    "descriptors": {"nofile"}, "cpu": {"cpu_s"},
}  # fmt: skip
"""Attack -> the limit that it meets, if it is not too slow for it. Any may meet that of memory too,
since what the kernel keeps for files and processes counts; the others go on until time is over."""


def test_daemon_under_attack_answers_and_does_not_grow() -> None:
    with passable() as folder, running(folder) as daemon:
        first = attack(daemon, SESSIONS, seconds=5)
        second = attack(daemon, SESSIONS, seconds=5)
    for report in (first, second):
        assert report.wrong == [], report.text()
        assert report.after and report.latencies and report.honest
        assert report.after.descriptors < report.before.descriptors + SESSIONS, "each left one"
        for name, limits in report.verdicts.items():
            assert limits <= {"wall_s", "memory"} | MET.get(name, set()), (name, report.text())
    assert set(first.verdicts) == set(ATTACKS)
    assert second.after and first.after
    assert second.after.memory < first.after.memory + (8 << 10), "KiB that each round would add"
    assert second.after.threads <= first.after.threads + 2
