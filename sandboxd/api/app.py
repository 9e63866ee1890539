"""The whole application on one screen: routes, handlers for what is raised, life cycle."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Lifespan, Receive, Scope, Send

from .. import __version__
from ..errors import SandboxdError
from .access.authentication import guarded
from .access.request_checks import RequestChecks
from .http import problems
from .http.responses import JsonResponse
from .routes import (
    drain,
    events,
    execute,
    files,
    folder_files,
    folders,
    gql,
    guarantees,
    health,
    leaks,
    pty,
    server_info,
    session_admin,
    sessions,
    stream,
    transfers,
)
from .state import AppState
from .telemetry.audit_log import AuditLogMiddleware, named

API_VERSION = "v7.20230615"
"""The newest that all clients speak without a warning."""

_EITHER = ["GET", "POST"]
_REMOVE = ["DELETE", "POST"]


async def version(_: Request) -> Response:
    """GET /: what the clients negotiate with."""
    return JsonResponse({"version": API_VERSION, "manager": f"sandboxd {__version__}"})


OPEN = ("/", "/healthz", "/readyz", transfers.UPLOAD, transfers.DOWNLOAD)
"""Paths that need no signature: the version, and those that take a token instead."""


def routes() -> list[Route | WebSocketRoute]:
    """Every path and method, closed to strangers but for those in OPEN."""
    return guarded(
        [
            Route("/", version, methods=["GET"]),
            Route("/healthz", health.healthz, methods=["GET"]),
            Route("/readyz", health.readyz, methods=["GET"]),
            Route("/admin/drain", drain.show, methods=["GET"]),
            Route("/admin/drain", drain.change, methods=["POST"]),
            Route("/admin/leaks", leaks.leaks, methods=["GET"]),
            Route("/admin/gql", gql.gql, methods=["POST"]),
            Route("/admin/graphql", gql.legacy, methods=["POST"]),
            Route("/admin/guarantees", guarantees.guarantees, methods=["GET"]),
            Route("/auth", server_info.authorized, methods=_EITHER),
            Route("/manager/status", server_info.status, methods=["GET"]),
            Route("/manager/announcement", server_info.announcement, methods=["GET"]),
            Route("/session", sessions.create, methods=["POST"]),
            Route("/session/_/create", sessions.create, methods=["POST"]),
            Route("/session/_/match", sessions.match, methods=["GET"]),
            Route("/session/{ref}", sessions.info, methods=["GET"]),
            Route("/session/{ref}", execute.execute, methods=["POST"]),
            Route("/session/{ref}", sessions.destroy, methods=["DELETE"]),
            Route("/session/{ref}", session_admin.restart, methods=["PATCH"]),
            Route("/session/{ref}/rename", session_admin.rename, methods=["POST"]),
            Route("/session/_/logs", session_admin.task_logs, methods=["GET"]),
            Route("/session/{ref}/logs", session_admin.logs, methods=["GET"]),
            Route("/session/{ref}/status-history", session_admin.status_history, methods=["GET"]),
            Route("/session/{ref}/commit", session_admin.commit, methods=["POST"]),
            Route("/session/{ref}/upload", files.upload, methods=["POST"]),
            Route("/session/{ref}/files", files.listing, methods=_EITHER),
            Route("/session/{ref}/download", files.download, methods=_EITHER),
            Route("/session/{ref}/download_single", files.download_single, methods=_EITHER),
            Route("/session/{ref}/interrupt", sessions.interrupt, methods=["POST"]),
            Route("/session/{ref}/complete", execute.complete, methods=["POST"]),
            WebSocketRoute("/stream/session/{ref}/execute", stream.execute),
            WebSocketRoute("/stream/session/{ref}/pty", pty.pty),
            Route("/events/session", events.session_events, methods=["GET"]),
            Route("/folders", folders.create, methods=["POST"]),
            Route("/folders", folders.listing, methods=["GET"]),
            Route("/folders", folders.remove_by_id, methods=["DELETE"]),
            Route("/folders/_/id", folders.id_of, methods=["GET"]),
            Route("/folders/_/hosts", folders.hosts, methods=["GET"]),
            Route("/folders/_/all_hosts", folders.hosts, methods=["GET"]),
            Route("/folders/_/allowed_types", folders.allowed_types, methods=["GET"]),
            Route(transfers.UPLOAD, transfers.patch, methods=["PATCH"]),
            Route(transfers.UPLOAD, transfers.offset, methods=["HEAD"]),
            Route(transfers.UPLOAD, transfers.capabilities, methods=["OPTIONS"]),
            Route(transfers.DOWNLOAD, transfers.download, methods=["GET"]),
            Route("/folders/{name}", folders.info, methods=["GET"]),
            Route("/folders/{name}", folders.remove, methods=["DELETE"]),
            Route("/folders/{name}/rename", folders.rename, methods=["POST"]),
            Route("/folders/{name}/update-options", folders.update_options, methods=["POST"]),
            Route("/folders/{name}/files", folder_files.listing, methods=_EITHER),
            Route("/folders/{name}/mkdir", folder_files.mkdir, methods=["POST"]),
            Route("/folders/{name}/rename-file", folder_files.rename_file, methods=["POST"]),
            Route("/folders/{name}/rename_file", folder_files.rename_file, methods=["POST"]),
            Route("/folders/{name}/move-file", folder_files.move_file, methods=["POST"]),
            Route("/folders/{name}/delete-files", folder_files.delete_files, methods=_REMOVE),
            Route("/folders/{name}/delete_files", folder_files.delete_files, methods=_REMOVE),
            Route("/folders/{name}/request-upload", transfers.request_upload, methods=["POST"]),
            Route("/folders/{name}/request-download", transfers.request_download, methods=["POST"]),
        ],
        OPEN,
    )


async def _nowhere(_: Scope, __: Receive, ___: Send) -> None:
    """What no route is for; Starlette's own answer to a WebSocket would be 403."""
    raise HTTPException(404)


def make(state: AppState, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    """The application that works with `state`."""
    app = Starlette(
        routes=named(routes()),
        middleware=[Middleware(AuditLogMiddleware), Middleware(RequestChecks)],
        exception_handlers={
            SandboxdError: problems.on_sandboxd_error,
            OSError: problems.on_os_error,
            HTTPException: problems.on_http_exception,
            ClientDisconnect: problems.on_disconnect,
            Exception: problems.on_unexpected,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.router.default = _nowhere
    app.state.sandboxd = state
    return app
