"""The event bus: the events of sessions go to all listeners. No HTTP.

An event of a session goes to its listeners at the moment when it happens and is not stored: a
later listener has missed it. A session has one kernel here, so most of its events are published a
second time as that kernel's. Publishing never waits. A listener reads its events from a queue of
its own; a listener with LATE_MAX unread events is dropped and sees the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from ...errors import QuotaExceeded
from ...store.sessions import SessionRow

EventKind = Literal[
    "enqueued", "scheduled", "preparing", "started", "success", "failure", "terminating",
    "terminated", "cancelled",
]  # fmt: skip

_KERNEL: dict[EventKind, tuple[str, ...]] = {
    "preparing": ("kernel_preparing", "kernel_creating"),
    "started": ("kernel_started",),
    "terminating": ("kernel_terminating",),
    "terminated": ("kernel_terminated",),
    "cancelled": ("kernel_cancelled",),
}
"""The events of the kernel, which come before the event of the session."""

LAST: tuple[EventKind, ...] = ("terminated", "cancelled")
"""The last events of a session: no other follows them."""

LATE_MAX = 1000
LISTENERS_MAX = 50
"""Listeners of one owner."""


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """One event, as clients know it; `last` of the session."""

    name: str
    session: str
    data: dict[str, Any]
    last: bool = False


def events_of(
    kind: EventKind, row: SessionRow, reason: str = "", exit_code: int | None = None
) -> list[SessionEvent]:
    """The events that are published for an event of this `kind` of the session of `row`."""
    data: dict[str, Any] = {
        "reason": reason,
        "sessionName": row.name,
        "ownerAccessKey": row.owner,
        "sessionId": row.id,
        "exitCode": exit_code,
    }
    kernel = data | {"kernelId": row.id, "clusterRole": "main", "clusterIdx": 0}
    events = [SessionEvent(name, row.id, kernel) for name in _KERNEL.get(kind, ())]
    return [*events, SessionEvent(f"session_{kind}", row.id, data, kind in LAST)]


class EventListener:
    """A listener: to one session, or with None to all of an owner; or to the next session of the
    owner that has the name, or the UUID, `awaited`."""

    def __init__(self, owner: str, session: str | None, awaited: str | None = None) -> None:
        self.owner = owner
        self.session = session
        self.awaited = awaited
        self._queue: asyncio.Queue[SessionEvent | None] = asyncio.Queue()
        self._over = False

    def deliver(self, event: SessionEvent) -> None:
        """Put an event into the queue, if it is for this listener."""
        if self._over or event.data["ownerAccessKey"] != self.owner:
            return
        if self.awaited in (event.session, event.data["sessionName"]):
            self.session, self.awaited = event.session, None
        if self.awaited or self.session not in (None, event.session):
            return
        if self._queue.qsize() >= LATE_MAX:
            self.end()
            return
        self._queue.put_nowait(event)
        if self.session and event.last:
            self.end()

    def end(self) -> None:
        """No more events."""
        if not self._over:
            self._over = True
            self._queue.put_nowait(None)

    async def next(self) -> SessionEvent | None:
        """The next event; None at the end."""
        return await self._queue.get()


class EventBus:
    """The events of all sessions of this daemon."""

    def __init__(self) -> None:
        self._listeners: set[EventListener] = set()
        self._closed = False

    def publish(
        self, kind: EventKind, row: SessionRow, reason: str = "", exit_code: int | None = None
    ) -> None:
        """Tell all listeners that an event of this `kind` has happened to the session of `row`."""
        for event in events_of(kind, row, reason, exit_code):
            for listener in self._listeners:
                listener.deliver(event)

    @contextmanager
    def listening(
        self, owner: str, session: str | None, awaited: str | None = None
    ) -> Iterator[EventListener]:
        """Listen for the time of a `with`. Raises QuotaExceeded when too many do."""
        if sum(one.owner == owner for one in self._listeners) >= LISTENERS_MAX:
            raise QuotaExceeded(f"at most {LISTENERS_MAX} event streams may be open")
        listener = EventListener(owner, session, awaited)
        if self._closed:
            listener.end()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def close(self) -> None:
        """The daemon ends: all listeners come to their end."""
        self._closed = True
        for listener in self._listeners:
            listener.end()
