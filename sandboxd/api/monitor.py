"""The application of the second listener, for Prometheus and health checks.

On the loopback it serves programs of this host, and no web pages that a browser here shows.
"""

from __future__ import annotations

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import Forbidden
from .access.csrf import is_loopback, refuse_pages
from .operation.health import Health
from .routes.server_info import health_response
from .telemetry.metrics import Metrics


class _PageGuard:
    """ASGI middleware that refuses requests of web pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["type"] == "http":
                refuse_pages(scope["headers"])
        except Forbidden as error:
            await PlainTextResponse(f"{error}\n", 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def make(health: Health, metrics: Metrics) -> Starlette:
    """The application: GET /metrics, /healthz and /readyz."""

    async def text(_: Request) -> Response:
        await health.ready()
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def alive(_: Request) -> Response:
        return health_response(await health.alive(), detail=True)

    async def ready(_: Request) -> Response:
        return health_response(await health.ready(), detail=True)

    is_local = is_loopback(health.config.metrics)
    return Starlette(
        routes=[Route("/metrics", text), Route("/healthz", alive), Route("/readyz", ready)],
        middleware=[Middleware(_PageGuard)] if is_local else [],
    )
