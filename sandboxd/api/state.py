"""The state of the application: the parts that the routes work with, built once at start."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from ..config.settings import Config
from ..model import Guarantee
from ..runtimes import Runtimes
from .access.authentication import Authenticator
from .access.ownership import owner
from .folders.registry import FolderRegistry
from .folders.tokens import Tokens
from .http.body_budget import BodyBudget
from .operation.drain import Drain
from .operation.health import Health
from .operation.leaks import Leaks
from .sessions.registry import SessionRegistry
from .sessions.session import Session
from .telemetry.audit_log import annotate
from .telemetry.metrics import Metrics


@dataclass(slots=True)
class AppState:
    """The parts of one daemon. reload.py gives them a new configuration."""

    config: Config
    runtimes: Runtimes
    sessions: SessionRegistry
    folders: FolderRegistry
    tokens: Tokens
    authenticator: Authenticator
    metrics: Metrics
    health: Health
    leaks: Leaks
    bodies: BodyBudget
    drain: Drain
    guarantees: tuple[Guarantee, ...] = ()

    def is_anybodys(self, ref: str) -> bool:
        """Some owner has a session or a folder with the name or UUID `ref`."""
        return self.sessions.has(ref) or self.folders.has(ref)


def state(request: HTTPConnection) -> AppState:
    """The state of the application that serves the request."""
    state = request.app.state.sandboxd
    assert isinstance(state, AppState)
    return state


def session(request: HTTPConnection) -> Session:
    """The session that the path names, of the owner whom the request acts for. Raises NotFound."""
    session = state(request).sessions.find(owner(request), request.path_params["ref"])
    annotate(request, session=session.row.id)
    request.scope["state"]["target"] = session
    return session
