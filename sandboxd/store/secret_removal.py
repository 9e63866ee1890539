"""The removal of the secrets of ended sessions from the files of the database.

A session has an environment and commands, and so has each of its runs. Their rows go when the
session ends. SQLite overwrites a row that goes (PRAGMA secure_delete), but two kinds of remains
stay: the log has the pages of before, and a page that was split has a copy of rows that have moved.
So all rows of the small tables with secrets are written anew, in pages that were overwritten, and
then the log is moved into the database and cut to nothing (PRAGMA wal_checkpoint, TRUNCATE). Both
happen at once after the end of one session, and together for all while many end.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from .database import Database, Unwritable

TABLES = ("secrets", "runs")

PAUSE_S = 1.0
"""Seconds between two removals, at least; each syncs the disk three times."""

PAUSE_SHARE = 20
"""A pause takes as many times as long as the removal before it: rows of runs may be large."""


def remove_secrets(database: Database) -> None:
    """Overwrite what ended sessions have left. Where another process or a full disk prevents that,
    the database keeps its mark `has_remains`. Blocks."""
    with database.alone(), contextlib.suppress(Unwritable):
        with database.transaction() as connection:
            for table in TABLES:
                rows = connection.execute(f"SELECT * FROM {table}").fetchall()
                connection.execute(
                    f"DELETE FROM {table}"
                )  # without WHERE: each page is overwritten
                if rows:
                    marks = ", ".join("?" * len(rows[0]))
                    connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        database.has_remains = not database.truncate_log()


class SecretRemoval:
    """The task that removes secrets from `database`, while there are some to remove."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._task: asyncio.Task[None] | None = None

    def begin_if_due(self) -> None:
        """Remove secrets soon, if sessions have ended."""
        if self._database.has_remains and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._work(), name="removal of secrets")

    async def _work(self) -> None:
        while self._database.has_remains:
            began = time.monotonic()
            await asyncio.to_thread(remove_secrets, self._database)
            await asyncio.sleep(max(PAUSE_S, PAUSE_SHARE * (time.monotonic() - began)))

    async def close(self) -> None:
        """End the task; the next daemon begins with a removal."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
