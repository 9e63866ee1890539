"""Every route of the application, one by one: strangers, wrong keys and other owners get nothing.

The table names for each route what another owner with a good key gets; a route that is not in
it fails the test.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from sandboxd.api.http.route import Access, Route
from sandboxd.api.routes.table import ROUTES

from ..each_case import each_case
from ..http_clients import unix_client
from ..signing import Signed
from ..users import ALICE, BOB, client_of
from .bad_requests import assert_problem
from .conftest import Server

NAME = "of-the-owner"

Clients = dict[str, httpx.Client]

STRANGERS = itertools.count(BOB)
"""Users of the host who own nothing yet."""


@dataclass(frozen=True)
class Row:
    """How to ask for something of the owner's, and what somebody else gets for it.

    other  the status; 404 unless the route creates or lists what the caller owns
    json   the body; REF in it stands for the session's UUID
    """

    other: int = 404
    json: Any = None
    query: str = ""


UPGRADE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip
MINE = Row(200)  # the response is about the caller, or about no owner
GRAPHQL = """
query($id: UUID!) {
    compute_session(id: $id) { id name }
    compute_session_list(limit: 9, offset: 0, status: "RUNNING") { items { id name } total_count }
}
"""

TABLE: dict[tuple[str, str], Row] = {
    ("GET", "/"): MINE,
    ("GET", "/openapi.json"): MINE,
    ("GET", "/healthz"): MINE,
    ("GET", "/readyz"): MINE,
    ("GET", "/auth"): Row(200, query="echo=x"),
    ("POST", "/auth"): Row(200, {"echo": "x"}),
    ("GET", "/manager/status"): MINE,
    ("GET", "/manager/announcement"): MINE,
    ("GET", "/admin/drain"): Row(403),
    ("POST", "/admin/drain"): Row(403, {"undo": True}),
    ("GET", "/admin/leaks"): Row(403),
    ("POST", "/admin/gql"): Row(200, {"query": GRAPHQL, "variables": {"id": "REF"}}),
    ("POST", "/admin/graphql"): Row(200, {"query": GRAPHQL, "variables": {"id": "REF"}}),
    ("GET", "/admin/guarantees"): Row(403),
    ("POST", "/run"): Row(200, {"image": "c"}),
    ("POST", "/session"): Row(201, {"image": "c"}),
    ("POST", "/session/_/create"): Row(201, {"image": "c"}),
    ("GET", "/session/_/match"): Row(200, query=f"id={NAME[:4]}"),
    ("GET", "/session/_/logs"): Row(query=f"taskId={NAME}"),
    ("GET", "/session/{ref}"): Row(),
    ("POST", "/session/{ref}"): Row(json={"mode": "batch", "options": {}}),
    ("PUT", "/session/{ref}/stdin"): Row(query="runId=x"),
    ("PATCH", "/session/{ref}"): Row(),
    ("DELETE", "/session/{ref}"): Row(),
    ("POST", "/session/{ref}/upload"): Row(),
    ("PUT", "/session/{ref}/archive"): Row(),
    ("GET", "/session/{ref}/archive"): Row(),
    ("GET", "/session/{ref}/files"): Row(),
    ("POST", "/session/{ref}/files"): Row(),
    ("GET", "/session/{ref}/download"): Row(query="files=x"),
    ("POST", "/session/{ref}/download"): Row(json={"files": ["x"]}),
    ("GET", "/session/{ref}/download_single"): Row(query="file=x"),
    ("POST", "/session/{ref}/download_single"): Row(json={"file": "x"}),
    ("POST", "/session/{ref}/interrupt"): Row(),
    ("POST", "/session/{ref}/complete"): Row(),
    ("POST", "/session/{ref}/rename"): Row(query="name=taken"),
    ("GET", "/session/{ref}/logs"): Row(),
    ("GET", "/session/{ref}/hold"): Row(),
    ("POST", "/session/{ref}/renew"): Row(),
    ("GET", "/session/{ref}/status-history"): Row(),
    ("POST", "/session/{ref}/commit"): Row(),
    ("GET", "/events/session"): Row(query=f"sessionName={NAME}"),
    ("WEBSOCKET", "/stream/session/{ref}/execute"): Row(),
    ("WEBSOCKET", "/stream/session/{ref}/pty"): Row(),
    ("WEBSOCKET", "/stream/session/{ref}/tcpproxy"): Row(),
    ("WEBSOCKET", "/stream/session/{ref}/httpproxy"): Row(),
    ("GET", "/stream/session/{ref}/apps"): Row(),
    ("POST", "/session/{ref}/start-service"): Row(json={"app": "sshd"}),
    ("POST", "/folders"): Row(201, {"name": "another", "quota": "16m"}),
    ("GET", "/folders"): MINE,
    ("DELETE", "/folders"): Row(json={"id": NAME}),
    ("GET", "/folders/_/id"): Row(query=f"name={NAME}"),
    ("GET", "/folders/_/hosts"): MINE,
    ("GET", "/folders/_/all_hosts"): MINE,
    ("GET", "/folders/_/allowed_types"): MINE,
    ("PATCH", "/folders/_/tus/upload"): Row(query="token=guessed"),
    ("HEAD", "/folders/_/tus/upload"): Row(query="token=guessed"),
    ("OPTIONS", "/folders/_/tus/upload"): Row(204),
    ("GET", "/folders/_/download"): Row(query="token=guessed"),
    ("GET", "/folders/{name}"): Row(),
    ("DELETE", "/folders/{name}"): Row(),
    ("POST", "/folders/{name}/rename"): Row(json={"new_name": "taken"}),
    ("POST", "/folders/{name}/update-options"): Row(json={"permission": "ro"}),
    ("GET", "/folders/{name}/files"): Row(),
    ("POST", "/folders/{name}/files"): Row(),
    ("POST", "/folders/{name}/mkdir"): Row(json={"path": "x"}),
    ("POST", "/folders/{name}/rename-file"): Row(json={"target_path": "x", "new_name": "y"}),
    ("POST", "/folders/{name}/rename_file"): Row(json={"target_path": "x", "new_name": "y"}),
    ("POST", "/folders/{name}/move-file"): Row(json={"src": "x", "dst": "y"}),
    ("DELETE", "/folders/{name}/delete-files"): Row(json={"files": ["x"]}),
    ("POST", "/folders/{name}/delete-files"): Row(json={"files": ["x"]}),
    ("DELETE", "/folders/{name}/delete_files"): Row(json={"files": ["x"]}),
    ("POST", "/folders/{name}/delete_files"): Row(json={"files": ["x"]}),
    ("POST", "/folders/{name}/request-upload"): Row(json={"path": "x", "size": 1}),
    ("POST", "/folders/{name}/request-download"): Row(json={"path": "x"}),
}


RECORDS: dict[tuple[str, str], Route] = {
    (method, route.path): route for route in ROUTES for method in route.methods.split()
}


def test_this_table_has_every_route_of_the_application_and_no_other() -> None:
    assert set(TABLE) == set(RECORDS)


def test_no_method_of_a_path_has_two_routes() -> None:
    assert len(RECORDS) == sum(len(route.methods.split()) for route in ROUTES)


def test_what_other_owners_get_is_403_on_the_routes_of_admins_and_nowhere_else() -> None:
    assert {key for key, row in TABLE.items() if row.other == 403} == {
        key for key, route in RECORDS.items() if route.access is Access.ADMIN
    }


@pytest.fixture(scope="module")
def owned(server: Server) -> Iterator[dict[str, str]]:
    """A session and a folder of the owner, by the names of the parameters in paths."""
    keypair = server.keypair()
    with server.signed(keypair) as owner:
        session = owner.post("/session", json={"image": "c", "name": NAME}).json()
        folder = owner.post("/folders", json={"name": NAME, "quota": "16m"}).json()
        yield {"ref": session["sessionId"], "name": folder["id"], "owner": keypair.access_key}
        assert owner.get(f"/session/{NAME}").status_code == 200, "it is still there"
        assert [each["name"] for each in owner.get("/folders").json()] == [NAME]
        assert owner.get("/folders").json()[0]["permission"] == "rw"


def ask(
    client: httpx.Client, method: str, path: str, row: Row, auth: Signed | None = None
) -> httpx.Response:
    headers = UPGRADE if method == "WEBSOCKET" else {}
    method = "GET" if method == "WEBSOCKET" else method
    url = f"{path}?{row.query}" if row.query else path
    return client.request(method, url, json=row.json, headers=headers, auth=auth or client.auth)


def rows(*access: Access) -> list[tuple[str, str, Row]]:
    return [(*key, row) for key, row in TABLE.items() if RECORDS[key].access in access]


SIGNED = [access for access in Access if access.is_signed]


def references() -> list[tuple[str, str, Row, str]]:
    """The routes that take a signature; those that name a session or a folder in both ways."""
    return [
        (*each, by)
        for each in rows(*SIGNED)
        for by in (("UUID", "name") if "{" in each[1] else ("UUID",))
    ]


@pytest.fixture(scope="module")
def clients(server: Server) -> Clients:
    """A client without a key, and one each with that of another owner, an owner, an admin."""
    keys = {name: server.keypair(admin=name == "admin") for name in ("other", "owner", "admin")}
    return {name: server.signed(keys.get(name)) for name in ("stranger", *keys)}


@each_case(("method", "path", "row", "by"), references())
def test_route_refuses_strangers_and_other_owners(
    clients: Clients, owned: dict[str, str], method: str, path: str, row: Row, by: str
) -> None:
    stranger, other = clients["stranger"], clients["other"]
    path = path.format(**(owned if by == "UUID" else dict.fromkeys(owned, NAME)))
    row = replace(row, json=json.loads(json.dumps(row.json).replace("REF", owned["ref"])))
    assert_problem(ask(stranger, method, path, row), 401, "/auth-failed")
    assert isinstance(other.auth, Signed)
    forged = Signed(other.auth.access_key, other.auth.secret_key[::-1])
    assert_problem(ask(stranger, method, path, row, forged), 401, "/auth-failed")
    answer = ask(other, method, path, row)
    assert answer.status_code == row.other, answer.text
    if row.other == 404:
        assert_problem(answer, 404, "/object-not-found")
    else:
        assert not any(mine in answer.text for mine in (NAME, *owned.values()))


@each_case(("method", "path", "row"), rows(Access.OPEN, Access.TOKEN))
def test_open_route_serves_strangers(clients: Clients, method: str, path: str, row: Row) -> None:
    assert ask(clients["stranger"], method, path, row).status_code == row.other


def named(row: Row, owner: str) -> Row:
    return replace(row, query=f"{row.query}&owner_access_key={owner}".lstrip("&"))


@each_case(("method", "path", "row"), rows(Access.OWNER))
def test_caller_without_admin_rights_cannot_act_for_another_owner(
    clients: Clients, owned: dict[str, str], method: str, path: str, row: Row
) -> None:
    row = replace(row, json=json.loads(json.dumps(row.json).replace("REF", owned["ref"])))
    answer = ask(clients["other"], method, path.format(**owned), named(row, owned["owner"]))
    assert_problem(answer, 403, "/insufficient-privilege")


@each_case(("method", "path", "row"), rows(Access.OWNER))
def test_admin_who_acts_for_an_owner_gets_the_owners_response(
    clients: Clients, method: str, path: str, row: Row
) -> None:
    owner = clients["owner"]
    assert isinstance(owner.auth, Signed)
    answers = []
    for client in (owner, clients["admin"]):
        with subject(owner, path) as names:
            body = json.loads(json.dumps(row.json).replace("REF", names.get("ref", "")))
            wanted = named(replace(row, json=body), owner.auth.access_key)
            answers.append(status(client, method, path.format(**names), wanted))
    assert answers[0] == answers[1]
    assert answers[0] not in (401, 403)


@contextlib.contextmanager
def subject(owner: httpx.Client, path: str) -> Iterator[dict[str, str]]:
    """A session of the owner, or a folder if the route is about folders, by the name of the
    parameter in paths."""
    if path.startswith("/folders"):
        folder = owner.post("/folders", json={"name": NAME, "quota": "16m"}).json()
        yield {"name": folder["id"]}
        for each in owner.get("/folders").json():
            assert owner.delete(f"/folders/{each['id']}").status_code == 204
    else:
        session = owner.post("/session", json={"image": "c", "name": NAME}).json()
        yield {"ref": session["sessionId"]}
        owner.delete(f"/session/{session['sessionId']}")


def status(client: httpx.Client, method: str, path: str, row: Row) -> int:
    """The status of the answer, also of one without an end."""
    headers = UPGRADE if method == "WEBSOCKET" else {}
    method = "GET" if method == "WEBSOCKET" else method
    with client.stream(method, f"{path}?{row.query}", json=row.json, headers=headers) as answer:
        return answer.status_code


@pytest.fixture(scope="module")
def owned_by_alice(server: Server) -> Iterator[dict[str, str]]:
    """The same of a user of the host, who signs nothing."""
    server.base.chmod(0o711)
    with client_of(server.path, ALICE) as alice:
        session = alice.post("/session", json={"image": "c", "name": NAME}).json()["sessionId"]
        folder = alice.post("/folders", json={"name": NAME, "quota": "16m"}).json()
        yield {"ref": session, "name": folder["id"], "owner": f"uid:{ALICE}"}
        assert alice.get(f"/session/{NAME}").status_code == 200, "it is still there"
        assert [each["name"] for each in alice.get("/folders").json()] == [NAME]
        assert alice.get("/folders").json()[0]["permission"] == "rw"


@pytest.mark.root
@each_case(("method", "path", "row", "by"), references())
def test_route_shows_a_user_of_the_host_nothing_of_another_user(
    server: Server, owned_by_alice: dict[str, str], method: str, path: str, row: Row, by: str
) -> None:
    names = owned_by_alice if by == "UUID" else dict.fromkeys(owned_by_alice, NAME)
    row = replace(row, json=json.loads(json.dumps(row.json).replace("REF", owned_by_alice["ref"])))
    with client_of(server.path, next(STRANGERS)) as other:
        answer = ask(other, method, path.format(**names), row)
        assert answer.status_code == row.other, answer.text
        if row.other != 404:  # a 404 repeats the name of the request
            assert not any(mine in answer.text for mine in (NAME, *owned_by_alice.values()))


@pytest.mark.root
@each_case(("method", "path", "row"), rows(Access.OWNER))
def test_user_of_the_host_cannot_act_for_another_user(
    server: Server, owned_by_alice: dict[str, str], method: str, path: str, row: Row
) -> None:
    row = replace(row, json=json.loads(json.dumps(row.json).replace("REF", owned_by_alice["ref"])))
    with client_of(server.path, BOB) as bob:
        for owner in (owned_by_alice["owner"], "uid:0"):
            answer = ask(bob, method, path.format(**owned_by_alice), named(row, owner))
            assert_problem(answer, 403, "/insufficient-privilege")


@pytest.mark.root
@each_case(("method", "path", "row"), rows(*SIGNED))
def test_route_refuses_unsigned_requests_of_root_on_a_unix_socket_for_proxies(
    server: Server, method: str, path: str, row: Row
) -> None:
    with unix_client(server.keyed) as root:
        assert_problem(ask(root, method, path, row), 401, "/auth-failed")


@each_case(("method", "path", "row"), rows(*Access))
def test_route_refuses_forwarded_requests_on_a_plain_unix_socket(
    server: Server, method: str, path: str, row: Row
) -> None:
    with unix_client(server.path) as proxy:
        proxy.headers["X-Forwarded-For"] = "192.0.2.1"
        answer = ask(proxy, method, path, row)
        assert answer.status_code == 403
        assert method == "HEAD" or "auth=keypair" in answer.json()["msg"]
