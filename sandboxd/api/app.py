"""The application on one screen: routes, middleware, handlers of exceptions."""

from __future__ import annotations

import functools

from starlette import routing
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.types import Lifespan, Receive, Scope, Send

from ..errors import SandboxdError
from .access.authentication import Guard
from .access.request_checks import RequestChecks
from .http import problems
from .http.responses import to_json
from .http.route import WEBSOCKET, Route
from .openapi.document import document
from .routes.table import ROUTES
from .state import AppState
from .telemetry.audit_log import AuditLogMiddleware, RouteAnnotation


def starlette_route(route: Route) -> routing.Route | routing.WebSocketRoute:
    """The route of Starlette for a record, closed to callers whom the record does not admit."""
    endpoint: routing.Route | routing.WebSocketRoute
    if route.methods == WEBSOCKET:
        endpoint = routing.WebSocketRoute(route.path, route.handler)
    else:
        endpoint = routing.Route(route.path, route.handler, methods=route.methods.split())
    # A guard in front of each route, not in front of the application: a path that does not exist
    # is answered with 404 to strangers as well.
    if route.access.is_signed:
        endpoint.app = Guard(endpoint.app, route.access)
    endpoint.app = RouteAnnotation(endpoint.app, route)
    return endpoint


def _is_rare(route: Route) -> bool:
    """Routes are tried one after the other, so those of runs come first. No other path fits."""
    return route.path != "/session/{ref}"


async def _not_found(_: Scope, __: Receive, ___: Send) -> None:
    """The response where no path fits; to a WebSocket Starlette itself would answer 403."""
    raise HTTPException(404)


@functools.cache
def _openapi() -> bytes:
    """The OpenAPI document; made when a client asks for it first, since that takes a moment."""
    return to_json(document(ROUTES))


def make(state: AppState, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    """The application that works with `state`."""
    app = Starlette(
        routes=[starlette_route(route) for route in sorted(ROUTES, key=_is_rare)],
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
    app.router.default = _not_found
    app.state.sandboxd = state
    app.state.openapi = _openapi
    return app
