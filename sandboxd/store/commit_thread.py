"""The thread of the database in the api: group commit.

The event loop gives the thread works, each a function on the database. The thread takes all works
that wait, carries them out in one transaction, and syncs the log once for all of them. So the disk
is waited for once, however many runs begin at the same moment, and while it hangs no other thread
of the api waits for it.

A work has two moments. It is **written** when its transaction is committed: then it survives the
end of the process. It is **durable** when the log is synced: then it survives a loss of power. The
log is synced at once for a work that must be durable, else within SYNC_S.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")

TOGETHER_MAX = 64
"""Works of one transaction."""

SYNC_S = 1.0
"""Seconds after which the log is synced for works that need not be durable at once."""


class Grouping(Protocol):
    """The interface of the database that the thread works for."""

    def group(self) -> contextlib.AbstractContextManager[object]:
        """A transaction for all works of a group; each work is a savepoint in it."""

    def sync(self) -> None:
        """Bring the log to the disk, unless it is there. Raises Unwritable."""


@dataclass(frozen=True, slots=True)
class Commit(Generic[T]):
    """A work that was given to the thread. Both futures get its result, or its exception."""

    written: asyncio.Future[T]
    durable: asyncio.Future[T]


@dataclass(slots=True, eq=False)
class _Work:
    """One work. Its futures are for those moments that somebody waits for."""

    act: Callable[[], Any]
    context: Context
    loop: asyncio.AbstractEventLoop
    written: asyncio.Future[Any] | None
    durable: asyncio.Future[Any] | None
    result: Any = None
    error: BaseException | None = None

    def carry_out(self) -> None:
        """Call the function, and keep what comes of it."""
        self.error = None
        try:
            self.result = self.context.run(self.act)
        except Exception as error:  # it is that of the caller, who waits
            self.error = error

    def settle(self, future: asyncio.Future[Any] | None, error: BaseException | None) -> None:
        """In the loop: give `future` the outcome."""
        if future is None or future.done():
            return
        if error := self.error or error:
            future.set_exception(error)
            future.exception()  # a caller that was cancelled does not look at it
        else:
            future.set_result(self.result)


class CommitThread:
    """The thread, which starts with the first work and ends with `close`."""

    def __init__(self, database: Grouping) -> None:
        self._database = database
        self._works: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_synced = True

    def written(self, act: Callable[[], T]) -> asyncio.Future[T]:
        """Have the thread call `act`; the result comes when it is written."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._submit(act, future, None)
        return future

    def durable(self, act: Callable[[], T]) -> asyncio.Future[T]:
        """Have the thread call `act`; the result comes when it is durable."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._submit(act, None, future)
        return future

    def both(self, act: Callable[[], T]) -> Commit[T]:
        """Have the thread call `act`; the result comes at both moments."""
        loop = asyncio.get_running_loop()
        commit: Commit[T] = Commit(loop.create_future(), loop.create_future())
        self._submit(act, commit.written, commit.durable)
        return commit

    def _submit(
        self,
        act: Callable[[], Any],
        written: asyncio.Future[Any] | None,
        durable: asyncio.Future[Any] | None,
    ) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="database", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        self._works.put(_Work(act, copy_context(), loop, written, durable))

    def close(self) -> None:
        """End the thread, after all works."""
        if self._thread:
            self._works.put(None)
            self._thread.join()
            self._thread = None

    def _serve(self) -> None:
        is_ending = False
        while not is_ending:
            waiting = self._take()
            is_ending = None in waiting
            if works := [work for work in waiting if work is not None]:
                self._commit(works)
            else:
                self._sync()
        self._sync()

    def _take(self) -> list[_Work | None]:
        """The works that wait, None among them at the end; nothing: the log is to be synced."""
        waiting: list[_Work | None] = []
        with contextlib.suppress(queue.Empty):
            waiting.append(self._works.get(timeout=None if self._is_synced else SYNC_S))
        while waiting and len(waiting) < TOGETHER_MAX and not self._works.empty():
            waiting.append(self._works.get())  # nobody else takes one
        return waiting

    def _commit(self, works: list[_Work]) -> None:
        if (error := self._together(works)) and len(works) > 1:
            # On a full disk those that only read can be done, and each write has its own error.
            for work in works:
                work.error = self._together([work]) or work.error
            error = None
        self._is_synced = False
        if any(work.written for work in works):
            _settle([(work, work.written) for work in works], error)
        if any(work.durable for work in works):
            error = error or self._sync()
            _settle([(work, work.durable) for work in works], error)

    def _together(self, works: Iterable[_Work]) -> BaseException | None:
        """Carry out the works in one transaction; the error that undoes all of them."""
        try:
            with self._database.group():
                for work in works:
                    work.carry_out()
        except Exception as error:  # it is that of all callers, who wait
            return error
        return None

    def _sync(self) -> BaseException | None:
        if self._is_synced:
            return None
        try:
            self._database.sync()
        except Exception as error:  # as above
            return error
        self._is_synced = True
        return None


def _settle(
    waiting: list[tuple[_Work, asyncio.Future[Any] | None]], error: BaseException | None
) -> None:
    """Have the loop give each future the outcome of its work, or the `error` of all."""

    def settle() -> None:
        for work, future in waiting:
            work.settle(future, error)

    with contextlib.suppress(RuntimeError):  # the loop has ended
        waiting[0][0].loop.call_soon_threadsafe(settle)
