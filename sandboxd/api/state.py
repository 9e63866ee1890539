"""What the routes work with, made once at start."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from ..config import Config
from ..runtimes import Runtimes
from .auth import owner
from .door import Door
from .registry import Sessions
from .session import Session
from .shelf import Folders
from .tokens import Tokens


@dataclass(frozen=True, slots=True)
class State:
    """The daemon as its routes see it."""

    config: Config
    runtimes: Runtimes
    sessions: Sessions
    folders: Folders
    tokens: Tokens
    door: Door


def state(request: HTTPConnection) -> State:
    """The State that this app was made with."""
    found = request.app.state.sandboxd
    assert isinstance(found, State)
    return found


def session(request: HTTPConnection) -> Session:
    """The session that the path names, among those of who asks. Raises NotFound."""
    return state(request).sessions.find(owner(request), request.path_params["ref"])
