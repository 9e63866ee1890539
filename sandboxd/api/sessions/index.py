"""The index of the sessions in memory: by UUID, and by owner and name. No I/O."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterator

from ...errors import NotFound, Unavailable
from ...store.sessions import SessionRow
from .session import Session


class SessionIndex:
    """All sessions that live, and those that are being destroyed."""

    def __init__(self) -> None:
        self._by_id: dict[str, Session] = {}
        self._by_name: dict[tuple[str, str], Session] = {}
        self._ending: dict[str, Session] = {}
        self._unadopted: dict[str, tuple[SessionRow, str]] = {}
        self._locks: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )

    def __iter__(self) -> Iterator[Session]:
        """The sessions that live."""
        return iter(list(self._by_id.values()))

    @property
    def ending(self) -> list[Session]:
        """The sessions that are being destroyed: nobody finds them any more."""
        return list(self._ending.values())

    def name_lock(self, owner: str, name: str) -> asyncio.Lock:
        """The lock of a name: held while a session of that name is created or destroyed."""
        return self._locks.setdefault((owner, name), asyncio.Lock())

    def add(self, session: Session) -> None:
        """Let a session be found."""
        self._by_id[session.row.id] = session
        self._by_name[session.row.owner, session.row.name] = session

    def find(self, owner: str, ref: str) -> Session:
        """The owner's session of this UUID, else of this name. Raises NotFound, also for a session
        that is being destroyed: nothing more can be done in it. Raises Unavailable for a session
        that could not be restored at this start."""
        session = self._by_id.get(ref.lower())
        if session is None or session.row.owner != owner:
            session = self.named(owner, ref)
        if session is None:
            self._refuse_unadopted(owner, ref)
        if session is None or session.closed:
            raise NotFound("session", f"Session (id={ref}) does not exist.")
        return session

    def add_unadopted(self, row: SessionRow, reason: str) -> None:
        """Remember a session that cannot be restored before the next start."""
        self._unadopted[row.id] = row, reason

    def _refuse_unadopted(self, owner: str, ref: str) -> None:
        """Raise Unavailable if `ref` is a session that waits for the next start."""
        for row, reason in self._unadopted.values():
            if row.owner == owner and ref in (row.name, row.id):
                raise Unavailable(
                    f"Session (id={ref}) and its files wait for a restart of the server: {reason}."
                )

    def named(self, owner: str, name: str) -> Session | None:
        """The owner's session of this name."""
        return self._by_name.get((owner, name))

    def has(self, ref: str) -> bool:
        """There is a session of this UUID or name, of any owner."""
        return ref.lower() in self._by_id or any(ref == name for _, name in self._by_name)

    def rename(self, session: Session, old: str) -> None:
        """Let a session that had the name `old` be found by the name in its row."""
        del self._by_name[session.row.owner, old]
        self._by_name[session.row.owner, session.row.name] = session

    def begin_end(self, session: Session) -> None:
        """Let a session, which is being destroyed, be found no more."""
        del self._by_id[session.row.id], self._by_name[session.row.owner, session.row.name]
        self._ending[session.row.id] = session

    def end(self, session: Session) -> None:
        """Forget a session that has been destroyed."""
        del self._ending[session.row.id]
