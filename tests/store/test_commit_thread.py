"""The group commit: works together in one transaction, written first and durable later."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from sandboxd.errors import Invalid
from sandboxd.store import runs, sessions
from sandboxd.store.database import Database, Unwritable
from sandboxd.store.wal import WalFile

from ..waiting import PATIENCE_S
from .test_store import ROW, RUN


@pytest.fixture
def database(database: Database) -> Database:
    """With a session."""
    sessions.add(database, ROW)
    return database


class Disk:
    """The syncs of the log: counted, and held up while it `hangs`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.syncs, self.error = 0, 0
        self.reached, self._goes_on = threading.Event(), threading.Event()
        self._goes_on.set()
        self._sync = WalFile.sync
        monkeypatch.setattr(WalFile, "sync", lambda file: self.sync(file))

    def sync(self, file: WalFile) -> None:
        self.syncs += 1
        self.reached.set()
        self._goes_on.wait(PATIENCE_S)
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        self._sync(file)

    def hang(self) -> None:
        self._goes_on.clear()
        self.reached.clear()

    def go_on(self) -> None:
        self._goes_on.set()

    async def is_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, PATIENCE_S)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk(monkeypatch)
    yield disk
    disk.go_on()


def test_works_that_wait_for_a_disk_are_committed_with_one_sync(
    database: Database, disk: Disk
) -> None:
    async def scenario() -> None:
        disk.hang()
        first = asyncio.create_task(database.run(runs.add, ROW.id, 1.0, [RUN]))
        await disk.is_reached()
        others = [asyncio.create_task(database.run(runs.add, ROW.id, 1.0, [RUN])) for _ in "abc"]
        await asyncio.sleep(0)
        assert not first.done()
        disk.go_on()
        assert [await first, *[await other for other in others]] == [[1], [2], [3], [4]]

    asyncio.run(scenario())
    assert disk.syncs == 2


def test_work_is_written_before_it_is_durable(path: str, database: Database, disk: Disk) -> None:
    """A second process sees what is written: so does the next daemon after a kill."""

    async def scenario() -> None:
        disk.hang()
        commit = database.begin(runs.add, ROW.id, 1.0, [RUN])
        assert await commit.written == [1]
        assert not commit.durable.done()
        with sqlite3.connect(path) as other:
            assert other.execute("SELECT number FROM runs").fetchall() == [(1,)]
        other.close()
        disk.go_on()
        assert await commit.durable == [1]

    asyncio.run(scenario())


def test_work_that_needs_no_sync_does_not_wait_for_the_disk_and_gets_one_later(
    database: Database, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandboxd.store.commit_thread.SYNC_S", 0.01)

    async def scenario() -> None:
        disk.hang()
        assert await database.write(runs.add, ROW.id, 1.0, [RUN]) == [1]
        await disk.is_reached()
        disk.go_on()

    asyncio.run(scenario())
    assert disk.syncs == 1


def test_log_is_on_the_disk_when_the_database_is_closed(path: str, disk: Disk) -> None:
    database = Database(path)
    sessions.add(database, ROW)
    asyncio.run(database.write(runs.add, ROW.id, 1.0, [RUN]))
    database.close()
    assert disk.syncs == 1


def test_log_that_nobody_has_changed_is_not_synced(database: Database, disk: Disk) -> None:
    assert asyncio.run(database.run(sessions.ids)) == {ROW.id}
    assert disk.syncs == 0


def test_error_of_the_disk_is_that_of_the_works_that_wait_for_it(
    database: Database, disk: Disk
) -> None:
    async def scenario() -> None:
        disk.error = 5
        commit = database.begin(runs.add, ROW.id, 1.0, [RUN])
        assert await commit.written == [1]
        with pytest.raises(Unwritable):
            await commit.durable
        disk.error = 0
        assert await database.run(runs.add, ROW.id, 1.0, [RUN]) == [2]

    asyncio.run(scenario())


def grouped(database: Database, disk: Disk, works: list[Callable[[Database], Any]]) -> list[Any]:
    """The outcomes of works that are in one group."""

    async def scenario() -> list[Any]:
        disk.hang()
        first = asyncio.create_task(database.run(runs.number, ROW.id, 1.0))
        await disk.is_reached()
        tasks = [asyncio.create_task(database.run(work)) for work in works]
        await asyncio.sleep(0)
        disk.go_on()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(scenario())


def failing(database: Database) -> None:
    """A work that writes, and fails then."""
    with database.transaction() as connection:
        connection.execute("DELETE FROM sessions")
        raise ZeroDivisionError


def surrogate(database: Database) -> None:
    """A work that SQLite cannot take."""
    sessions.change(database, ROW, name="\udcff")


def add(database: Database) -> list[int]:
    """A work that adds a run."""
    return runs.add(database, ROW.id, 1.0, [RUN])


def test_work_that_fails_undoes_itself_and_no_other_of_its_group(
    database: Database, disk: Disk
) -> None:
    first, wrong, refused, last = grouped(database, disk, [add, failing, surrogate, add])
    assert (first, last) == ([2], [3])
    assert isinstance(wrong, ZeroDivisionError) and isinstance(refused, Invalid)
    assert sessions.ids(database) == {ROW.id}
    assert disk.syncs == 2


def test_work_that_undoes_the_whole_transaction_fails_alone(database: Database, disk: Disk) -> None:
    """As a full disk does within a statement."""

    def ruin(database: Database) -> None:
        with database.transaction() as connection:
            connection.execute("ROLLBACK")

    ids, ruined, added = grouped(database, disk, [sessions.ids, ruin, add])
    assert (ids, added) == ({ROW.id}, [2])
    assert isinstance(ruined, sqlite3.OperationalError)


def test_works_before_the_end_are_done(path: str) -> None:
    async def scenario() -> None:
        commit = first.begin(runs.add, ROW.id, 1.0, [RUN])
        await asyncio.to_thread(first.close)
        assert await commit.durable == [1]

    first = Database(path)
    sessions.add(first, ROW)
    asyncio.run(scenario())
    again = Database(path)
    assert [run.number for run in runs.all_rows(again)[ROW.id]] == [1]
    again.close()


def test_version_changes_with_the_commits_of_others_and_not_with_our_own(
    path: str, database: Database
) -> None:
    other = Database(path)

    async def ours(name: str) -> bytes:
        await database.run(sessions.change, ROW, name=name)
        return database.version()

    before = asyncio.run(ours("one"))
    assert asyncio.run(ours("two")) == before
    sessions.change(other, ROW, name="three")
    theirs = database.version()
    assert theirs != before
    assert asyncio.run(ours("four")) == theirs
    sessions.change(other, ROW, name="five")
    assert asyncio.run(ours("six")) not in (before, theirs)
    other.close()


def test_commit_of_another_process_between_two_of_our_own_is_not_missed(
    path: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after our commit and before we look at the version."""
    other, note = Database(path), database._index.note_own

    def late(before: bytes) -> bool:
        sessions.change(other, ROW, name="theirs")
        return note(before)

    asyncio.run(database.run(sessions.change, ROW, name="one"))
    before = database.version()
    monkeypatch.setattr(database._index, "note_own", late)
    asyncio.run(database.run(sessions.change, ROW, name="two"))
    assert database.version() != before
    other.close()


def test_row_of_a_run_that_begins_at_once_says_so_and_can_be_changed(database: Database) -> None:
    runs.add(database, ROW.id, 1.0, [replace(RUN, begun=True), RUN])
    assert [row.begun for row in runs.all_rows(database)[ROW.id]] == [True, False]
    runs.begun(database, ROW.id, 1, False)
    assert [row.begun for row in runs.all_rows(database)[ROW.id]] == [False, False]
