"""The rounds of the periodic work, and its rest in an idle daemon."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sandboxd.api.sessions import lifecycle, periodic_work
from sandboxd.config.settings import SessionsConfig

from .test_reaper import row


def sessions_of_one(
    *,
    busy: bool = False,
    idle_s: float = 0.0,
    are_due: bool = False,
    unheld_at: float | None = None,
) -> Any:
    """The part of a registry that the periodic work reads, with one session."""

    def end(_: float) -> lifecycle.End | None:
        return lifecycle.end(row(idle_s=idle_s), 1000.0, False, SessionsConfig(), unheld_at)

    session = SimpleNamespace(
        closed=True, pending=None, busy=busy, warned=False, due_end=end,
        runs=SimpleNamespace(expires_at=math.inf),
    )  # fmt: skip

    async def nothing() -> None:
        pass

    admission = SimpleNamespace(are_waiting=False, refresh=nothing)
    deferred = SimpleNamespace(are_due=are_due, settle=nothing)
    return SimpleNamespace(
        admission=admission, services=SimpleNamespace(deferred=deferred), used=asyncio.Event(),
        of=lambda _: [session], config=SimpleNamespace(sessions=SessionsConfig()),
    )  # fmt: skip


async def rounds(sessions: Any, uses: int = 0) -> int:
    """How many rounds with `sessions` there are until the work rests, or is seen to go on; the
    sessions are used so many times while it rests."""
    count = 0

    async def look(_: Any) -> None:
        nonlocal count
        count += 1

    keys = SimpleNamespace(refresh=sessions.services.deferred.settle)
    clock = SimpleNamespace(look=look, now=1000.0)
    task = asyncio.create_task(periodic_work.work(sessions, cast(Any, keys), cast(Any, clock)))
    for use in range(uses + 1):
        for _ in range(50):
            await asyncio.sleep(0)
        if use < uses:
            sessions.used.set()
    task.cancel()
    return count


@pytest.mark.parametrize(
    ("state", "rests"),
    [({}, True), ({"busy": True}, False), ({"are_due": True}, False), ({"idle_s": 61.0}, True),
     ({"idle_s": 60.0}, False), ({"unheld_at": 1030.0}, True), ({"unheld_at": 1000.0}, False)],
)  # fmt: skip
def test_periodic_work_of_an_idle_daemon_goes_on_only_after_a_use(
    state: dict[str, Any], rests: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periodic_work, "EVERY_S", 0)
    assert (asyncio.run(rounds(sessions_of_one(**state))) == 0) == rests
    if rests:
        assert asyncio.run(rounds(sessions_of_one(**state), uses=3)) == 3


def test_rest_of_the_periodic_work_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic_work, "EVERY_S", 0)
    monkeypatch.setattr(periodic_work, "REST_S", 1e-9)
    assert asyncio.run(rounds(sessions_of_one())) > 1
