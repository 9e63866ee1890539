"""The routes about the server itself."""

from __future__ import annotations

import httpx

from ..each_case import each_case
from .bad_requests import assert_problem
from .conftest import Server


def test_a_test_of_keys_returns_its_text(server: Server) -> None:
    with server.signed(server.keypair()) as client:
        for answer in (
            client.request("GET", "/auth", json={"echo": "한글 1"}),
            client.post("/auth", json={"echo": "한글 1"}),
        ):
            assert answer.json() == {"authorized": "yes", "echo": "한글 1"}


@each_case("body", [b"", b"<no json>", b"{}", b'{"echo": 7}', b'{"echo": null}'])
def test_a_test_of_keys_without_a_text_is_refused(http: httpx.Client, body: bytes) -> None:
    assert_problem(http.request("GET", "/auth", content=body), 400, "/invalid-api-params")


def test_status_counts_the_owners_sessions_and_all_for_admins(server: Server) -> None:
    one, other, admin = (server.signed(server.keypair(admin=a)) for a in (False, False, True))
    with one, other, admin:
        before = admin.get("/manager/status").json()["active_sessions"]
        one.post("/session", json={"image": "c"})
        counts = [each.get("/manager/status").json() for each in (one, other, admin)]
        assert {count["status"] for count in counts} == {"running"}
        assert [count["active_sessions"] for count in counts] == [1, 0, before + 1]
        named = {"owner_access_key": one.get("/session/_/match?id=s").json()["matches"][0]["id"]}
        assert_problem(other.get("/manager/status", params=named), 403)


def test_announcement_of_the_manager_is_disabled_and_empty(http: httpx.Client) -> None:
    assert http.get("/manager/announcement").json() == {"enabled": False, "message": ""}
