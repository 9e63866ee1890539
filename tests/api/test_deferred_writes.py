"""The deferred writes: each is carried out once."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from sandboxd.api.sessions.deferred_writes import DeferredWrites
from sandboxd.store.database import Database, Unwritable

from ..waiting import eventually


def test_write_whose_caller_is_cancelled_is_carried_out_once(tmp_path: Path) -> None:
    """The end of the daemon cancels the periodic work. Dates that the clock's jump had shifted were
    shifted again then, and a restart ended all sessions for their age."""
    begun, may_end, times = threading.Event(), threading.Event(), list[int]()

    def act(_: Database) -> None:
        times.append(1)
        begun.set()
        may_end.wait()

    async def scenario() -> None:
        database = Database(str(tmp_path / "sandboxd.sqlite"))
        deferred = DeferredWrites(database)
        caller = asyncio.create_task(deferred.write(act))
        await eventually(begun.is_set)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        may_end.set()
        await deferred.settle()
        await deferred.close()
        assert not deferred.are_due and len(times) == 1
        database.close()

    asyncio.run(scenario())


def test_write_that_finds_no_room_is_due_until_it_does(tmp_path: Path) -> None:
    full, done = [True], list[str]()

    def act(_: Database, name: str) -> None:
        if full:
            raise Unwritable("no room")
        done.append(name)

    async def scenario() -> None:
        database = Database(str(tmp_path / "sandboxd.sqlite"))
        deferred = DeferredWrites(database)
        await deferred.write(act, "first")
        await asyncio.gather(deferred.write(act, "second"), deferred.write(act, "third"))
        with pytest.raises(Unwritable):
            await deferred.settle()
        assert deferred.are_due
        full.clear()
        await asyncio.gather(deferred.settle(), deferred.write(act, "fourth"))
        await deferred.close()
        assert done == ["first", "second", "third", "fourth"] and not deferred.are_due
        database.close()

    asyncio.run(scenario())
