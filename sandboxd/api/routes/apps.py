"""The routes of apps, servers in a session that a client reaches through the API: not offered.

A session has no network, so it has no sshd either. `backend.ai ssh` and `scp` first download a key
from the session, named KEY_FILE, and then ask for the app sshd. Both requests are refused in words
that name what this server has instead.
"""

from __future__ import annotations

from typing import Any, NoReturn

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.websockets import WebSocket

from ..access.parameters import NoParameters, ParameterSet, parameters, query_parameters
from ..state import session

KEY_FILE = "id_container"
"""The file that clients download before they use ssh."""

NO_SSH = (
    "This server offers no ssh and no scp: a session has no network. Run commands with "
    "'backend.ai run', and copy files with 'backend.ai session upload' and 'session download'; on "
    "the host of the server, 'sandboxd shell' opens a terminal in the session."
)


class StartService(ParameterSet):
    """The body of a request to start an app."""

    app: str = ""
    port: Any = None
    envs: Any = None
    arguments: Any = None
    login_session_token: Any = None


class ConnectApp(ParameterSet):
    """The query of a connection to an app; the last two are JSON texts."""

    app: str = ""
    arguments: str = ""
    envs: str = ""


async def listing(request: Request) -> NoReturn:
    """GET /stream/session/{ref}/apps: refused; clients ask before they connect to an app."""
    await parameters(request, NoParameters)
    session(request)
    raise HTTPException(501, NO_SSH)


async def start(request: Request) -> NoReturn:
    """POST /session/{ref}/start-service: refused, since sessions have no network."""
    await parameters(request, StartService)
    session(request)
    raise HTTPException(501, NO_SSH)


async def connect(websocket: WebSocket) -> NoReturn:
    """WebSocket /stream/session/{ref}/tcpproxy and httpproxy: refused before they are opened."""
    query_parameters(websocket, ConnectApp)
    session(websocket)
    raise HTTPException(501, NO_SSH)
