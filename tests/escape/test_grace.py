"""The end of a step by its time limit or on request: SIGTERM, a grace, SIGKILL."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandboxd.shim.run import RunExecution
from sandboxd.warden.runs.worker import Worker

from ..sandbox import Sandbox
from ..waiting import until

START_S = 4
"""Seconds in which a shell has certainly set its traps, on a busy machine too."""

TRAP = "trap 'echo saving; exit {}' TERM; sleep 30 & wait"
STUBBORN = "trap 'echo heard' TERM; while :; do sleep 60 & wait; done"


@pytest.mark.parametrize("status", [0, 3])
def test_trap_of_a_step_runs_at_the_time_limit_and_the_verdict_stays(
    sandbox: Sandbox, status: int
) -> None:
    result = sandbox.run(TRAP.format(status), wall_s=START_S)
    assert result.stdout == "saving\n"
    assert (result.verdict["outcome"], result.verdict["limit"]) == ("limit", "wall_s")
    assert result.verdict["sent_by"] == "sandboxd"
    assert result.exit is None


def test_step_that_ignores_sigterm_is_killed_after_its_grace(sandbox: Sandbox) -> None:
    result = sandbox.run(STUBBORN, wall_s=START_S, grace_s=2)
    assert result.stdout == "heard\n"
    assert (result.verdict["outcome"], result.verdict["limit"]) == ("limit", "wall_s")
    assert result.verdict["usage"]["wall_ms"] >= 1000 * (START_S + 2), (
        "the grace is part of the time"
    )


def test_step_without_grace_is_killed_at_once(sandbox: Sandbox) -> None:
    result = sandbox.run(TRAP.format(3), wall_s=2, grace_s=0)
    assert (result.stdout, result.verdict["limit"]) == ("", "wall_s")


def test_every_process_of_the_step_hears_of_its_end(sandbox: Sandbox) -> None:
    """Also a process in a session of its own, and the foreground child for which a shell waits."""
    own = "trap 'echo own session; exit' TERM; touch trapped; sleep 30 & wait"

    def trapped(_: Worker) -> None:
        until(lambda: any(Path(sandbox.slot.path).glob("**/trapped")))

    result = sandbox.run(
        f'trap "echo shell" TERM; setsid bash -c "{own}" & read -r _; sleep 30',
        on_wait=trapped,
        answers=["go\n"],
        wall_s=START_S,
    )
    assert sorted(result.stdout.splitlines()) == ["own session", "shell"]


def test_run_ends_with_a_step_that_reached_its_time_limit(sandbox: Sandbox) -> None:
    result = sandbox.run("echo exec", build=TRAP.format(0), per_step={"build": {"wall_s": START_S}})
    assert result.stdout == "saving\n"
    assert result.last["step"] == "build"


def test_trap_does_not_run_without_sigterm(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        RunExecution, "terminate", lambda execution, now: execution.deadlines.begin_grace(now)
    )
    assert sandbox.run(TRAP.format(3), wall_s=2, grace_s=0.2).stdout == ""
