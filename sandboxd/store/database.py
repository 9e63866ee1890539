"""The SQLite database: opened, migrated, used by one thread at a time; by the api, in a thread of
its own.

Write-ahead logging with synchronous=FULL: a commit is on the disk when it returns, so a reply after
it stays true after a loss of power (sqlite.org/wal.html). The thread of the api instead syncs the
log itself, once for all commits that wait (commit_thread.py). It sets synchronous=NORMAL, with
which SQLite still syncs the log before each checkpoint.

The log's index is a file, too, created by the first process that opens the database. A full disk
has no room for it, and then the daemon is needed most, so it has the index in memory and the
database to itself (sqlite.org/wal.html#use_of_wal_without_shared_memory) until there is room.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from typing import Concatenate, Literal, ParamSpec, TypeVar

from ..errors import ConfigError, Invalid, NoSpace
from ..host.free_space import FreeSpace
from . import wal
from .commit_thread import Commit, CommitThread
from .migrations import MIGRATIONS
from .wal import WalFile, WalIndex

P = ParamSpec("P")
T = TypeVar("T")

ROOM = 1 << 20
"""Bytes that must be free for the log and its index."""

INODES = 8

_TRANSACTION = ("BEGIN IMMEDIATE", "COMMIT", ("ROLLBACK",))
_SAVEPOINT = ("SAVEPOINT work", "RELEASE work", ("ROLLBACK TO work", "RELEASE work"))
"""The statements that begin a transaction, end it, and undo it."""

REMEDY = (
    "put back a copy of it, or move it, what begins with its name, and the directory slots away: "
    "then sandboxd starts without its sessions and keypairs"
)
"""The remedy for a damaged database."""

_log = logging.getLogger(__name__)


class Unwritable(NoSpace, sqlite3.OperationalError):
    """The database cannot be written for now, mostly for want of disk space."""


class Database:
    """The open file at `path`. Blocks on the disk: an event loop uses it with `run`."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._thread = CommitThread(self)
        self._lock = threading.RLock()
        self._is_group = self._is_dirty = False
        self._synchronous = "FULL"
        self._log = WalFile(path)
        self.has_remains = True  # of the secrets of ended sessions (secret_removal.py)
        try:
            self._open_anyhow()
            self._check()
            self._migrate()
        except (sqlite3.Error, OSError, Unwritable) as error:
            raise ConfigError(
                f"{path}: cannot be used as a database: {_with_remedy(error)}"
            ) from None

    def _open_anyhow(self) -> None:
        """Open it; alone, where the disk has no room to do so with others."""
        try:
            self._connection, self._index = self._open(alone=False)
        except (sqlite3.OperationalError, OSError):
            if self._has_room() or not os.path.exists(self.path):
                raise
            self._connection, self._index = self._open(alone=True)
            _log.error("%s: the disk is full: nothing can be written for now", self.path)

    def _open(self, alone: bool) -> tuple[sqlite3.Connection, WalIndex]:
        """A connection, and the log's index."""
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA locking_mode = {'EXCLUSIVE' if alone else 'NORMAL'}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("SELECT 1 FROM sqlite_schema").fetchone()  # the index is there now
            self._synchronous = "FULL"
            return connection, WalIndex(self.path, is_shared=not alone)
        except BaseException:  # closed for whatever reason; raised again
            connection.close()
            raise

    def _has_room(self) -> bool:
        return FreeSpace.at(os.path.dirname(self.path)).holds(ROOM, INODES)

    def _share(self) -> None:
        """With the lock: let others use the database as well, now that there is room. Raises
        Unwritable when that fails; the next transaction tries again."""
        if self._index.is_shared or not self._has_room():
            return
        self._connection.close()
        self._index.close()
        self._log.close()
        try:
            self._open_anyhow()
        except (sqlite3.OperationalError, OSError) as error:  # a quota, say
            raise Unwritable("the state cannot be written", str(error)) from error

    def _check(self) -> None:
        """Raise sqlite3.DatabaseError for a damaged file."""
        (result,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise sqlite3.DatabaseError(f"damaged: {' '.join(result.split())}")

    def _migrate(self) -> None:
        """Bring the schema up to date. Raises ConfigError for one from a later sandboxd."""
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise ConfigError(
                f"{self.path} has version {version}, and this sandboxd knows none above "
                f"{len(MIGRATIONS)}: a later one wrote it; start that one, or put back the copy "
                "that you made before"
            )
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            with self.transaction() as connection:
                for statement in script.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
        if 0 < version < len(MIGRATIONS):  # remains of rows from before secure_delete
            with contextlib.suppress(sqlite3.OperationalError):  # on a full disk they stay
                self._connection.execute("VACUUM")

    async def run(
        self, work: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The result of `work` on this database, done in the database's own thread: while a disk
        hangs, no other thread waits for it. Its changes are on the disk then."""
        return await self._thread.durable(functools.partial(work, self, *args, **kwargs))

    async def write(
        self, work: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """As `run`, but the change is on the disk a moment later. If the host loses its power
        before, the change is lost, together with all later ones."""
        return await self._thread.written(functools.partial(work, self, *args, **kwargs))

    def begin(
        self, work: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Commit[T]:
        """As `run`, for a caller that goes on as soon as no end of the process undoes the change,
        and waits for the disk later."""
        return self._thread.both(functools.partial(work, self, *args, **kwargs))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one writing transaction; rolled back when the block raises. Within
        `group` it is a part of the group's transaction."""
        with self._lock:
            begin, end, undo = _SAVEPOINT if self._is_group else _TRANSACTION
            if not self._is_group:
                self._share()
                self._set_synchronous("FULL")
            elif not self._connection.in_transaction:  # an error of the disk undoes all at once
                raise Unwritable("the state cannot be written")
            try:
                self._connection.execute(begin)
                yield self._connection
                self._connection.execute(end)
            except BaseException as error:  # an interrupt, too, rolls back; raised again
                if self._connection.in_transaction:
                    for statement in undo:
                        self._connection.execute(statement)
                _translate(error)
                raise

    @contextlib.contextmanager
    def group(self) -> Iterator[object]:
        """One transaction for all those of the block, each of which can be rolled back by itself.
        It is on the disk after `sync`. Raises Unwritable, and nothing of it has happened."""
        with self._lock:
            self._share()
            self._set_synchronous("NORMAL")
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                before, self._is_group = self._index.header(), True
                yield None
                self._connection.execute("COMMIT")
                self._is_dirty |= self._index.note_own(before)
            except BaseException as error:  # as above
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                _translate(error)
                raise
            finally:
                self._is_group = False

    def _set_synchronous(self, mode: Literal["FULL", "NORMAL"]) -> None:
        if mode != self._synchronous:
            self._connection.execute(f"PRAGMA synchronous = {mode}")
            self._synchronous = mode

    def sync(self) -> None:
        """Bring the log to the disk. Raises Unwritable."""
        with self._lock:
            if not self._is_dirty:
                return
            try:
                self._log.sync()
                self._is_dirty = False
            except OSError as error:
                raise Unwritable("the state cannot be written", str(error)) from error

    def alone(self) -> contextlib.AbstractContextManager[object]:
        """No other thread uses the database during the block."""
        return self._lock

    def truncate_log(self) -> bool:
        """Leave nothing in the log; False: another process or a full disk prevents that."""
        with self._lock:
            return wal.truncate(self._connection, self._index)

    def probe(self) -> None:
        """Write something that changes nothing. Raises Unwritable when that fails."""
        with self.transaction() as connection:
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def version(self) -> bytes:
        """A value that changes with every commit of another process. Does not block."""
        return self._index.version()

    def close(self) -> None:
        """Close the file; it must not be used any more."""
        self._thread.close()
        with self._lock:
            self._log.close()
            self._connection.close()
            self._index.close()


def _translate(error: BaseException) -> None:
    """Raise the error of a transaction as its callers know it, unless that is the same."""
    if isinstance(error, UnicodeEncodeError):  # SQLite's texts are UTF-8
        raise Invalid("a text with lone surrogates cannot be kept") from None
    if isinstance(error, sqlite3.OperationalError) and not isinstance(error, Unwritable):
        raise Unwritable("the state cannot be written", str(error)) from error


def _with_remedy(error: Exception) -> str:
    """The error and its remedy, so that nobody throws a file away that is not damaged."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or not code:
        return f"{error}; {REMEDY}"
    return f"{error}; it is not damaged: see to the disk, its free space and permissions"
