"""What the routes work with, made once at start."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from ..config import Config
from ..model import Guarantee
from ..runtimes import Runtimes
from .access.auth import owner
from .access.bodies import Bodies
from .access.door import Door
from .folders.shelf import Folders
from .folders.tokens import Tokens
from .routes.drain import Drain
from .routes.health import Health
from .routes.leaks import Leaks
from .sessions.registry import Sessions
from .sessions.session import Session
from .watch.metrics import Metrics
from .watch.record import note


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
