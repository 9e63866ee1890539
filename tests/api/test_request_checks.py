"""A WebSocket is refused with an HTTP answer before it opens, and let in with a signature."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.websockets import WebSocket

from sandboxd.api.access.authentication import Authenticator
from sandboxd.api.access.keys import Keys
from sandboxd.api.access.ownership import owner
from sandboxd.api.access.request_checks import RequestChecks
from sandboxd.api.app import starlette_route
from sandboxd.api.http import problems
from sandboxd.api.http.peer import Peer, offer_peer
from sandboxd.api.http.route import WEBSOCKET, Route
from sandboxd.config.settings import Config
from sandboxd.errors import SandboxdError
from sandboxd.store import keypairs
from sandboxd.store.database import Database
from sandboxd.store.keypairs import Keypair

from ..signing import VERSION, signature

PATH = "/stream/session/x/execute"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(str(tmp_path / "sandboxd.sqlite"))
    yield database
    database.close()


@pytest.fixture
def app(database: Database) -> Starlette:
    async def tell_owner(socket: WebSocket) -> None:
        who = owner(socket)
        await socket.accept()
        await socket.send_text(who)
        await socket.close()

    app = Starlette(
        routes=[starlette_route(Route(WEBSOCKET, "/stream/session/{ref}/execute", tell_owner))],
        middleware=[Middleware(RequestChecks)],
        exception_handlers={SandboxdError: problems.on_sandboxd_error},
    )
    let_in_by(app, Config(), database)
    return app


def let_in_by(app: Starlette, config: Config, database: Database) -> None:
    app.state.sandboxd = SimpleNamespace(
        config=config, authenticator=Authenticator(config, Keys(database))
    )


NETWORK, UNIX = ("127.0.0.1", 80), ("/run/sandboxd/api.sock", None)


def connect(
    app: Starlette,
    headers: dict[str, str],
    server: tuple[str, int | None] | None = NETWORK,
    peer: Peer | None = None,
) -> list[dict[str, Any]]:
    """All that the server sends for the handshake."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "websocket", "path": PATH, "raw_path": PATH.encode(), "query_string": b"",
        "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
        "server": server, "state": {}, "extensions": {"websocket.http.response": {}},
    }  # fmt: skip
    offer_peer(scope, peer)
    asyncio.run(app(scope, receive, send))
    return sent


def signed(keypair: Keypair, secret: str) -> dict[str, str]:
    date = datetime.now(UTC).isoformat()
    day = date[:10].replace("-", "")
    digest = signature(secret, "GET", PATH, date, day, "h:1", "application/octet-stream")
    credential = f"credential={keypair.access_key}:{digest}"
    return {
        "Host": "h:1", "Date": date, "X-BackendAI-Version": VERSION,
        "Authorization": f"BackendAI signMethod=HMAC-SHA256, {credential}",
    }  # fmt: skip


def test_an_unsigned_websocket_is_refused_with_a_problem_document(app: Starlette) -> None:
    start, body = connect(app, {"Host": "h:1"})[:2]
    assert start["type"] == "websocket.http.response.start" and start["status"] == 401
    assert (b"content-type", b"application/problem+json") in start["headers"]
    assert b"/auth-failed" in body["body"]


def test_a_websocket_with_a_wrong_version_is_refused_with_a_problem_document(
    app: Starlette,
) -> None:
    start = connect(app, {"Host": "h:1", "X-BackendAI-Version": "v0"})[0]
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 400)


def test_a_signed_websocket_opens_again_with_the_same_signature(
    app: Starlette, database: Database
) -> None:
    keypair = keypairs.generate(False, 0)
    keypairs.add(database, keypair)
    headers = signed(keypair, keypair.secret_key)
    for _ in range(2):
        sent = connect(app, headers)
        assert [message["type"] for message in sent[:2]] == ["websocket.accept", "websocket.send"]
        assert sent[1]["text"] == keypair.access_key
    assert connect(app, signed(keypair, "wrong"))[0]["status"] == 401


@pytest.mark.parametrize("server", [UNIX, NETWORK, None])
def test_an_unsigned_websocket_is_refused_where_the_kernel_names_no_user(
    app: Starlette, server: tuple[str, int | None] | None
) -> None:
    assert connect(app, {"Host": "h:1"}, server)[0]["status"] == 401


def test_an_unsigned_websocket_is_of_the_user_that_the_kernel_names(app: Starlette) -> None:
    sent = connect(app, {"Host": "h:1"}, UNIX, Peer(1234, frozenset({1234})))
    assert sent[1]["text"] == "uid:1234"


@pytest.mark.parametrize("auth", ["keypair", "none"])
def test_a_websocket_that_a_proxy_has_forwarded_to_a_plain_unix_socket_is_refused(
    app: Starlette, database: Database, auth: str
) -> None:
    let_in_by(app, Config(auth=auth), database)
    headers = {"Host": "h:1", "X-Forwarded-For": "192.0.2.1"}
    start, body = connect(app, headers, UNIX, Peer(0, frozenset()))[:2]
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 403)
    assert b"auth=keypair" in body["body"]


def test_auth_none_opens_no_unix_socket_with_keys(app: Starlette, database: Database) -> None:
    let_in_by(app, Config(auth="none"), database)
    assert connect(app, {"Host": "localhost"}, UNIX)[0]["status"] == 401
    assert connect(app, {"Host": "localhost"}, NETWORK)[0]["type"] == "websocket.accept"


def test_a_web_page_cannot_open_a_websocket_with_auth_none(
    app: Starlette, database: Database
) -> None:
    let_in_by(app, Config(auth="none"), database)
    own, foreign = {"Host": "localhost:80"}, {"Origin": "http://evil.example"}
    assert connect(app, own)[0]["type"] == "websocket.accept"
    for headers in (own | foreign, {"Host": "evil.example:80"}):
        start, body = connect(app, headers)[:2]
        assert (start["type"], start["status"]) == ("websocket.http.response.start", 403)
        assert b"/insufficient-privilege" in body["body"]
    user = Peer(1234, frozenset())  # no browser gets to a Unix socket
    accepted = connect(app, {"Host": "sandboxd"} | foreign, UNIX, user)
    assert accepted[0]["type"] == "websocket.accept"
