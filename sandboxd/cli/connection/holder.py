"""The connection by which a command holds its session.

The session ends a few seconds after this connection, also when the command is killed. A thread
keeps the connection open, and opens it again while the daemon restarts.
"""

from __future__ import annotations

import threading
import time

from ...errors import NotFound, SandboxdError
from .client import Client
from .patience import RETRY_S, Absence
from .references import session_facts

SILENCE_S = 60.0
"""Seconds without a line after which the connection counts as broken: the daemon sends one every
15 s."""


def hold(client: Client, session: str) -> None:
    """Hold the session for as long as this process lives. Raises NotFound when the session has
    ended before, and any other refusal of the daemon."""
    holder = _Holder(client, session)
    holder.start()
    holder.first.wait()
    if holder.error:
        raise holder.error


def hold_named(client: Client, ref: str) -> str:
    """Hold the session of this name or UUID; its UUID. Raises as `hold`, with the remedy."""
    session = str(session_facts(client, ref)["sessionId"])
    hold(client, session)
    return session


class _Holder(threading.Thread):
    """The thread. `first` is set when the session is held, or when it cannot be: `error`."""

    def __init__(self, client: Client, session: str) -> None:
        super().__init__(name="holder", daemon=True)
        self._client = client.another(SILENCE_S)
        self._path = f"/session/{session}/hold"
        self.first = threading.Event()
        self.error: SandboxdError | None = None

    def run(self) -> None:
        """Hold the session until it has ended, or the daemon stays away."""
        absence = Absence(self._client)
        while True:
            try:
                with self._client.lines(self._path) as lines:
                    next(lines)
                    self.first.set()
                    absence.end()
                    for _ in lines:
                        pass
            except NotFound as error:
                self._end(error)
                return
            except SandboxdError as error:
                if not absence.wait():
                    self._end(error)
                    return
            else:
                time.sleep(RETRY_S)

    def _end(self, error: SandboxdError) -> None:
        if not self.first.is_set():
            self.error = error
            self.first.set()
