"""What the routes work with, made once at start."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from ..config import Config
from ..model import Guarantee
from ..runtimes import Runtimes
from .access.authentication import Authenticator
from .access.ownership import owner
from .access.parameters import BodyBudget
from .folders.registry import FolderRegistry
from .folders.tokens import Tokens
from .routes.drain import Drain
from .routes.health import Health
from .routes.leaks import Leaks
from .sessions.registry import SessionRegistry
from .sessions.session import Session
from .telemetry.audit_log import annotate
from .telemetry.metrics import Metrics


@dataclass(slots=True)
class AppState:
    """The daemon as its routes see it."""

    config: Config
    runtimes: Runtimes
    sessions: SessionRegistry
    folders: FolderRegistry
    tokens: Tokens
    door: Authenticator
    metrics: Metrics
    health: Health
    leaks: Leaks
    bodies: BodyBudget
    drain: Drain
    guarantees: tuple[Guarantee, ...] = ()

    def is_anybodys(self, ref: str) -> bool:
        """There is a session or folder, whosever it is, that goes by `ref`."""
        return self.sessions.has(ref) or self.folders.has(ref)


def state(request: HTTPConnection) -> AppState:
    """The State that this app was made with."""
    found = request.app.state.sandboxd
    assert isinstance(found, AppState)
    return found


def session(request: HTTPConnection) -> Session:
    """The session that the path names, among those of who asks. Raises NotFound."""
    found = state(request).sessions.find(owner(request), request.path_params["ref"])
    annotate(request, session=found.row.id)
    return found
