"""What the routes work with, made once at start."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from ..config import Config
from ..model import Guarantee
from ..runtimes import Runtimes
from .auth import owner
from .bodies import Bodies
from .door import Door
from .drain import Drain
from .health import Health
from .leaks import Leaks
from .metrics import Metrics
from .record import note
from .registry import Sessions
from .session import Session
from .shelf import Folders
from .tokens import Tokens


@dataclass(slots=True)
class State:
    """The daemon as its routes see it."""

    config: Config
    runtimes: Runtimes
    sessions: Sessions
    folders: Folders
    tokens: Tokens
    door: Door
    metrics: Metrics
    health: Health
    leaks: Leaks
    bodies: Bodies
    drain: Drain
    guarantees: tuple[Guarantee, ...] = ()

    def is_anybodys(self, ref: str) -> bool:
        """There is a session or folder, whosever it is, that goes by `ref`."""
        return self.sessions.has(ref) or self.folders.has(ref)


def state(request: HTTPConnection) -> State:
    """The State that this app was made with."""
    found = request.app.state.sandboxd
    assert isinstance(found, State)
    return found


def session(request: HTTPConnection) -> Session:
    """The session that the path names, among those of who asks. Raises NotFound."""
    found = state(request).sessions.find(owner(request), request.path_params["ref"])
    note(request, session=found.row.id)
    return found
