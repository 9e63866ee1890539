"""The users of the host at the Unix socket: owners, admins by a group, rates, proxies."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from ..each_case import each_case
from ..http_clients import unix_client
from ..signing import Signed
from ..users import ALICE, BOB, client_of
from ..waiting import until
from .bad_requests import assert_problem
from .conftest import USER, Server

ADMINS = 4_200_003
"""The gid of the group in admin_groups."""

FORWARDED = [
    ("Forwarded", "for=192.0.2.1"), ("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Host", "h"),
    ("X-Forwarded-Proto", "https"), ("Via", "1.1 proxy"), ("X-Real-IP", "192.0.2.1"),
]  # fmt: skip


@pytest.fixture
def own_server(start: Callable[..., Server]) -> Server:
    server = start({"admin_groups": [str(ADMINS)], "rate_limit": 3})
    server.base.chmod(0o711)
    return server


@pytest.fixture
def alice(server: Server) -> Iterator[httpx.Client]:
    server.base.chmod(0o711)
    with client_of(server.path, ALICE) as one:
        yield one


def test_the_user_who_connects_owns_the_session(http: httpx.Client) -> None:
    created = http.post("/session", json={"image": "c"}).json()["sessionId"]
    query = {"query": "{ compute_session_list(limit: 9, offset: 0) { items { id access_key } } }"}
    items = http.post("/admin/gql", json=query).json()["data"]["compute_session_list"]["items"]
    assert {"id": created, "access_key": USER} in items
    http.delete(f"/session/{created}")


def _sessions(http: httpx.Client) -> int:
    return int(http.get("/manager/status").json()["active_sessions"])


@pytest.mark.root
def test_two_users_have_sessions_and_folders_of_one_name_each(
    server: Server, alice: httpx.Client
) -> None:
    with client_of(server.path, BOB) as bob:
        before = [_sessions(each) for each in (alice, bob)]  # of the tests before
        ids = [
            each.post("/session", json={"image": "c", "name": "nightly"}).json()["sessionId"]
            for each in (alice, bob)
        ]
        assert ids[0] != ids[1]
        for each in (alice, bob):
            assert each.post("/folders", json={"name": "cache", "quota": "16m"}).status_code == 201
        assert [_sessions(each) - 1 for each in (alice, bob)] == before
        assert bob.delete("/session/nightly").status_code == 200
        assert bob.get("/session/nightly").status_code == 404
        assert alice.get("/session/nightly").status_code == 200
        for each in (alice, bob):
            assert each.delete("/folders/cache").status_code == 204
        alice.delete("/session/nightly")


@pytest.mark.root
def test_user_is_no_admin_and_user_in_the_group_of_admins_is_one(own_server: Server) -> None:
    with client_of(own_server.path, BOB, (ALICE,)) as bob:
        refused = bob.get("/admin/drain")
        assert_problem(refused, 403, "/insufficient-privilege")
        assert "admin_groups" in refused.json()["msg"]
    with client_of(own_server.path, BOB, (ALICE, ADMINS)) as admin:
        assert admin.get("/admin/drain").status_code == 200
        assert admin.get("/session?owner_access_key=x").status_code != 403
    with client_of(own_server.path, ADMINS) as primary:
        assert primary.get("/admin/guarantees").status_code == 200


@pytest.mark.root
def test_root_acts_for_a_user_and_creates_for_one(server: Server, alice: httpx.Client) -> None:
    owner = f"uid:{ALICE}"
    with unix_client(server.path) as root:
        body = {"image": "c", "name": "of-alice", "owner_access_key": owner}
        assert root.post("/session", json=body).status_code == 201
        assert alice.get("/session/of-alice").status_code == 200
        assert root.get("/session/of-alice").status_code == 404
        assert root.delete(f"/session/of-alice?owner_access_key={owner}").status_code == 200
        for unknown in ("local", "uid:", "uid:01", "uid:x", f"uid:{ALICE} "):
            answer = root.post("/session", json=body | {"owner_access_key": unknown})
            assert_problem(answer, 404, "/object-not-found")


@pytest.mark.root
def test_requests_of_a_user_are_counted_and_those_of_root_are_not(own_server: Server) -> None:
    with client_of(own_server.path, ALICE) as alice, client_of(own_server.path, BOB) as bob:
        left = [alice.get("/manager/status").headers["x-ratelimit-remaining"] for _ in range(3)]
        assert left == ["2", "1", "0"]
        assert_problem(alice.get("/manager/status"), 429, "/rate-limit-exceeded")
        assert bob.get("/manager/status").headers["x-ratelimit-remaining"] == "2"
    with unix_client(own_server.path) as root:
        assert {root.get("/manager/status").status_code for _ in range(5)} == {200}


def acts(server: Server) -> dict[str, dict[str, Any]]:
    """The lines of the audit log by their acts."""
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return {line["act"]: line for line in lines if line.get("event") == "audit"}


@pytest.mark.root
def test_audit_log_names_the_user(own_server: Server) -> None:
    with client_of(own_server.path, ALICE) as alice:
        id = alice.post("/session", json={"image": "c"}).json()["sessionId"]
    with client_of(own_server.path, BOB) as bob:
        bob.delete(f"/session/{id}")
    until(lambda: {"session.create", "session.delete"} <= set(acts(own_server)))
    created, denied = acts(own_server)["session.create"], acts(own_server)["session.delete"]
    assert (created["caller"], created["owner"]) == (f"uid:{ALICE}", f"uid:{ALICE}")
    assert (denied["caller"], denied["outcome"]) == (f"uid:{BOB}", "denied")


@pytest.mark.root
def test_user_who_signs_acts_for_the_keypair(server: Server, alice: httpx.Client) -> None:
    keypair = server.keypair()
    auth = Signed(keypair.access_key, keypair.secret_key)
    id = alice.post("/session", json={"image": "c"}, auth=auth).json()["sessionId"]
    assert alice.get(f"/session/{id}").status_code == 404
    assert alice.delete(f"/session/{id}", auth=auth).status_code == 200


@each_case(("name", "value"), FORWARDED)
@each_case("is_signed", [False, True])
def test_forwarded_request_is_refused_on_the_plain_socket_and_served_on_that_for_proxies(
    server: Server, name: str, value: str, is_signed: bool
) -> None:
    keypair = server.keypair()
    auth = Signed(keypair.access_key, keypair.secret_key) if is_signed else None
    with unix_client(server.path) as plain, unix_client(server.keyed) as keyed:
        answer = plain.get("/manager/status", headers={name: value}, auth=auth)
        assert_problem(answer, 403, "/insufficient-privilege")
        assert all(word in answer.json()["msg"] for word in (name.lower(), "auth=keypair"))
        served = keyed.get("/manager/status", headers={name: value}, auth=auth)
        assert served.status_code == (200 if is_signed else 401)


def test_forwarded_request_over_tcp_is_served(server: Server) -> None:
    with server.signed(server.keypair()) as signed:
        answer = signed.get("/manager/status", headers=dict(FORWARDED))
        assert answer.status_code == 200


@pytest.mark.root
def test_a_group_that_python_cannot_read_in_one_piece_makes_no_admin(own_server: Server) -> None:
    many = tuple(range(ADMINS - 300, ADMINS + 1))
    assert len(many) <= os.sysconf("SC_NGROUPS_MAX")
    with client_of(own_server.path, ALICE, many) as alice:
        assert_problem(alice.get("/admin/drain"), 403, "/insufficient-privilege")
