"""Every route of the application, one by one: strangers, wrong keys and other owners get nothing.

The table names for each route what another owner with a good key gets; a route that is not in
it fails the test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.routing import Route, WebSocketRoute

from sandboxd.api import app

from ..signing import Signed
from .bad_requests import assert_problem
from .conftest import Server

NAME = "of-the-owner"


@dataclass(frozen=True)
class Row:
    """How to ask for something of the owner's, and what somebody else gets for it.

    other  the status; 404 unless the route makes or lists what belongs to who asks
    """

    other: int = 404
    json: Any = None
    query: str = ""


OPEN = Row(200)
UPGRADE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip

TABLE: dict[tuple[str, str], Row] = {
    ("GET", "/"): OPEN,
    ("POST", "/session"): Row(201, {"image": "c"}),
    ("POST", "/session/_/create"): Row(201, {"image": "c"}),
    ("GET", "/session/_/match"): Row(200, query="id=of-the"),
    ("GET", "/session/{ref}"): Row(),
    ("POST", "/session/{ref}"): Row(json={"mode": "batch", "options": {}}),
    ("DELETE", "/session/{ref}"): Row(),
    ("POST", "/session/{ref}/upload"): Row(),
    ("GET", "/session/{ref}/files"): Row(),
    ("POST", "/session/{ref}/files"): Row(),
    ("GET", "/session/{ref}/download"): Row(query="files=x"),
    ("POST", "/session/{ref}/download"): Row(json={"files": ["x"]}),
    ("GET", "/session/{ref}/download_single"): Row(query="file=x"),
    ("POST", "/session/{ref}/download_single"): Row(json={"file": "x"}),
    ("POST", "/session/{ref}/interrupt"): Row(),
    ("POST", "/session/{ref}/complete"): Row(),
}


def asked() -> list[tuple[str, str]]:
    """Method and path of every route; a WebSocket's method is that of its handshake."""
    found = []
    for route in app.routes():
        methods = route.methods or set() if isinstance(route, Route) else {"WEBSOCKET"}
        found += [(method, route.path) for method in sorted(methods - {"HEAD"})]
    return found


def test_the_table_has_every_route_and_no_other() -> None:
    assert sorted(TABLE) == sorted(asked())
    assert all(isinstance(route, Route | WebSocketRoute) for route in app.routes())


@pytest.fixture(scope="module")
def owned(server: Server) -> Iterator[dict[str, str]]:
    """What the owner has: the values of the paths' parameters, by UUID and by name."""
    with server.signed(server.keypair()) as owner:
        made = owner.post("/session", json={"image": "c", "name": NAME}).json()
        yield {"ref": made["sessionId"]}
        assert owner.get(f"/session/{NAME}").status_code == 200, "it is still there"


def ask(
    client: httpx.Client, method: str, path: str, row: Row, auth: Signed | None = None
) -> httpx.Response:
    headers = UPGRADE if method == "WEBSOCKET" else {}
    method = "GET" if method == "WEBSOCKET" else method
    url = f"{path}?{row.query}" if row.query else path
    return client.request(method, url, json=row.json, headers=headers, auth=auth or client.auth)


def rows(open: bool) -> list[Any]:
    return [pytest.param(*key, row, id=" ".join(key)) for key, row in TABLE.items()
            if (row is OPEN) == open]  # fmt: skip


@pytest.mark.parametrize("by", ["UUID", "name"])
@pytest.mark.parametrize(("method", "path", "row"), rows(open=False))
def test_route_is_closed_to_all_but_the_owner(
    server: Server, owned: dict[str, str], method: str, path: str, row: Row, by: str
) -> None:
    path = path.format(**(owned if by == "UUID" else dict.fromkeys(owned, NAME)))
    keypair = server.keypair()
    with server.signed(None) as stranger:
        assert_problem(ask(stranger, method, path, row), 401, "/auth-failed")
        forged = Signed(keypair.access_key, keypair.secret_key[::-1])
        assert_problem(ask(stranger, method, path, row, forged), 401, "/auth-failed")
    with server.signed(keypair) as other:
        answer = ask(other, method, path, row)
        assert answer.status_code == row.other, answer.text
        if row.other == 404:
            assert_problem(answer, 404, "/object-not-found")
        else:
            assert NAME not in answer.text and owned["ref"] not in answer.text


@pytest.mark.parametrize(("method", "path", "row"), rows(open=True))
def test_open_route_is_open(server: Server, method: str, path: str, row: Row) -> None:
    with server.signed(None) as stranger:
        assert ask(stranger, method, path, row).status_code == row.other
