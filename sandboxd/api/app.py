"""The whole application on one screen: routes, handlers for what is raised, life cycle."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Lifespan

from .. import __version__
from ..errors import SandboxdError
from . import execute, files, problems, sessions
from .answers import Answer
from .door import guarded
from .gate import Gate
from .state import State

API_VERSION = "v7.20230615"
"""The newest that all clients speak without a warning."""

_EITHER = ["GET", "POST"]


async def version(_: Request) -> Response:
    """GET /: what the clients negotiate with."""
    return Answer({"version": API_VERSION, "manager": f"sandboxd {__version__}"})


OPEN = ("/",)
"""Paths that need no signature."""


def routes() -> list[Route | WebSocketRoute]:
    """Every path and method, closed to strangers but for those in OPEN."""
    return guarded(
        [
            Route("/", version, methods=["GET"]),
            Route("/session", sessions.create, methods=["POST"]),
            Route("/session/_/create", sessions.create, methods=["POST"]),
            Route("/session/_/match", sessions.match, methods=["GET"]),
            Route("/session/{ref}", sessions.info, methods=["GET"]),
            Route("/session/{ref}", execute.execute, methods=["POST"]),
            Route("/session/{ref}", sessions.destroy, methods=["DELETE"]),
            Route("/session/{ref}/upload", files.upload, methods=["POST"]),
            Route("/session/{ref}/files", files.listing, methods=_EITHER),
            Route("/session/{ref}/download", files.download, methods=_EITHER),
            Route("/session/{ref}/download_single", files.download_single, methods=_EITHER),
            Route("/session/{ref}/interrupt", sessions.interrupt, methods=["POST"]),
            Route("/session/{ref}/complete", execute.complete, methods=["POST"]),
        ],
        OPEN,
    )


def make(state: State, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    """The application that works with `state`."""
    app = Starlette(
        routes=routes(),
        middleware=[Middleware(Gate)],
        exception_handlers={
            SandboxdError: problems.on_sandboxd_error,
            HTTPException: problems.on_http_exception,
            ClientDisconnect: problems.on_disconnect,
            Exception: problems.on_unexpected,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.sandboxd = state
    return app
