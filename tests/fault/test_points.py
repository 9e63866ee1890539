"""A short attack with every change; `scripts/fault` is the long one."""

from __future__ import annotations

from ..e2e.conftest import passable
from .points import attack


def test_daemon_that_is_killed_again_and_again_keeps_its_promises() -> None:
    with passable() as folder:
        report = attack(folder, points=12, seed="short", at_once=4)
        log = (folder / "log").read_text(errors="replace")
    assert report.broken == [], "\n".join([*report.broken, log[-8000:]])
    assert report.lived == 12 and report.kills > 6
    assert "Traceback" not in log
