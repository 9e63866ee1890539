"""The lines of a command that waits for its turn."""

from __future__ import annotations

import pytest

from sandboxd.cli.connection.turn import TurnWait
from sandboxd.cli.reporter import Reporter
from sandboxd.errors import Unavailable


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which the test moves."""
    now = [1000.0]
    monkeypatch.setattr("sandboxd.cli.connection.turn.time.monotonic", lambda: now[0])
    return now


def test_line_comes_at_each_change_and_twice_a_minute(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    wait = TurnWait(Reporter(quiet=False, as_json=False), None)
    for _ in range(62):
        wait.queued({"position": 2, "reason": "the host is full"})
        clock[0] += 1
    wait.queued({"position": 1, "reason": "the host is full"})
    assert capsys.readouterr().err.splitlines() == [
        "sandboxd: waiting, position 2: the host is full",
        "sandboxd: waiting, position 2: the host is full (for 30 s)",
        "sandboxd: waiting, position 2: the host is full (for 60 s)",
        "sandboxd: waiting, position 1: the host is full (for 62 s)",
    ]


def test_wait_that_is_long_enough_ends_with_the_reason(clock: list[float]) -> None:
    wait = TurnWait(Reporter(quiet=True, as_json=False), 5)
    wait.waits("the daemon is drained")
    clock[0] += 5
    with pytest.raises(Unavailable, match="no turn within --wait 5: the daemon is drained"):
        wait.waits("the daemon is drained")
