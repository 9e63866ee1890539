"""The authentication of requests over a network socket and over the Unix socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from sandboxd.store import keypairs
from sandboxd.store.database import Database
from sandboxd.store.keypairs import Keypair

from ..each_case import each_case
from ..http_clients import unix_client
from ..signing import VERSION, Signed, signature
from .bad_requests import assert_problem
from .conftest import Server

HOME = {"X-BackendAI-Version": VERSION}


@pytest.fixture(scope="module")
def keypair(server: Server) -> Keypair:
    return server.keypair()


@pytest.fixture
def signed(server: Server, keypair: Keypair) -> Iterator[httpx.Client]:
    with server.signed(keypair) as client:
        yield client


@pytest.fixture
def admin(server: Server) -> Iterator[httpx.Client]:
    with server.signed(server.keypair(admin=True)) as client:
        yield client


@pytest.fixture
def stranger(server: Server) -> Iterator[httpx.Client]:
    with server.signed(None) as client:
        yield client


@pytest.fixture
def theirs(signed: httpx.Client) -> Iterator[str]:
    """A session of `keypair`."""
    id = signed.post("/session", json={"image": "c"}).json()["sessionId"]
    yield id
    signed.delete(f"/session/{id}")


def change(server: Server, keypair: Keypair, what: str, *args: Any) -> None:
    database = Database(str(server.base / "sandboxd.sqlite"))
    getattr(keypairs, what)(database, keypair.access_key, *args)
    database.close()


def msg(answer: httpx.Response) -> str:
    return str(answer.json().get("msg"))


def test_a_signed_request_over_the_network_is_served(signed: httpx.Client) -> None:
    created = signed.post("/session", json={"image": "c"})
    assert created.status_code == 201
    id = created.json()["sessionId"]
    assert signed.get(f"/session/{id}").json()["userId"] == signed.auth.access_key  # type: ignore[union-attr]  # it is Signed
    files = {"src": ("a%20b", b"text")}
    assert signed.post(f"/session/{id}/upload", files=files).status_code == 204
    assert signed.get(f"/session/{id}/download_single?file=a%20b").content == b"text"
    assert signed.delete(f"/session/{id}").status_code == 200


def test_an_unsigned_request_gets_the_version_only(
    stranger: httpx.Client,
) -> None:
    assert stranger.get("/").status_code == 200
    answer = stranger.post("/session", json={"image": "c"})
    assert_problem(answer, 401, "/auth-failed")
    assert answer.headers["www-authenticate"] == "BackendAI"
    assert_problem(stranger.get("/no/such/path"), 404, "/url-not-found")
    assert_problem(stranger.put("/session"), 405, "/method-not-allowed")


def test_a_request_on_the_unix_socket_is_served_unsigned_and_refused_with_a_wrong_signature(
    server: Server, http: httpx.Client, keypair: Keypair
) -> None:
    assert http.get("/session/_/match?id=x").status_code == 200
    wrong = Signed(keypair.access_key, "wrong")
    assert_problem(http.get("/session/_/match?id=x", auth=wrong), 401, "/auth-failed")
    right = Signed(keypair.access_key, keypair.secret_key)
    with unix_client(server.path) as client:
        created = client.post("/session", json={"image": "c"}, auth=right).json()
        info = client.get(f"/session/{created['sessionId']}", auth=right).json()
        assert info["userId"] == keypair.access_key
        assert client.get(f"/session/{created['sessionId']}").status_code == 404


def test_a_network_client_that_imitates_the_unix_socket_is_refused(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", int((server.base / "port").read_text()))) as sock:
        sock.sendall(
            b"GET /session/_/match?id=x HTTP/1.0\r\nHost: unix\r\nX-Forwarded-For: 127.0.0.1\r\n"
            b"X-Forwarded-Host: /run/sandboxd/api.sock\r\nForwarded: for=unix\r\n\r\n"
        )
        assert sock.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_wrong_secret_and_unknown_key_have_own_messages(server: Server, keypair: Keypair) -> None:
    for wrong, said in (
        (replace(keypair, secret_key="x" * 40), "Signature mismatch"),
        (replace(keypair, access_key="AK" + "X" * 18), "Access key not found"),
    ):
        with server.signed(wrong) as client:
            answer = client.get("/session/x")
            assert_problem(answer, 401, "/auth-failed")
            assert msg(answer) == said


def test_a_new_keypair_is_accepted_at_once_and_a_disabled_one_refused_at_once(
    server: Server,
) -> None:
    keypair = server.keypair()
    with server.signed(keypair) as client:
        assert client.get("/session/x").status_code == 404
        change(server, keypair, "set_active", False)
        assert msg(client.get("/session/x")) == "Access key not found"
        change(server, keypair, "set_active", True)
        assert client.get("/session/x").status_code == 404
        change(server, keypair, "remove")
        assert msg(client.get("/session/x")) == "Access key not found"


def test_a_token_is_refused_once_its_owners_keypair_is_disabled(
    server: Server, stranger: httpx.Client
) -> None:
    keypair = server.keypair()
    with server.signed(keypair) as client:
        client.post("/folders", json={"name": "tokens"}).raise_for_status()
        upload, other = (
            client.post("/folders/tokens/request-upload", json={"path": path, "size": 2}).json()
            for path in ("a", "b")
        )

        def patch(what: dict[str, str], offset: int, data: bytes) -> httpx.Response:
            headers = {"Tus-Resumable": "1.0.0", "Upload-Offset": str(offset)}
            headers["Content-Type"] = "application/offset+octet-stream"
            params = {"token": what["token"]}
            return stranger.patch(what["url"], params=params, headers=headers, content=data)

        assert patch(upload, 0, b"xy").status_code == 204
        assert patch(other, 0, b"x").status_code == 204
        answer = client.post("/folders/tokens/request-download", json={"path": "a"}).json()
        download = {"url": answer["url"], "params": {"token": answer["token"]}}
        assert stranger.get(**download).content == b"xy"
        change(server, keypair, "set_active", False)
        assert_problem(stranger.get(**download), 401, "/auth-failed")
        assert_problem(patch(other, 1, b"y"), 401, "/auth-failed")
        head = stranger.head(other["url"], params={"token": other["token"]})
        assert head.status_code == 401
        change(server, keypair, "set_active", True)
        assert patch(other, 1, b"y").status_code == 204
        change(server, keypair, "remove", True)
        assert_problem(stranger.get(**download), 401, "/auth-failed")


def test_the_last_use_of_a_keypair_is_written_to_the_database(server: Server) -> None:
    keypair = server.keypair()
    with server.signed(keypair) as client:
        client.get("/session/x")
    database = Database(str(server.base / "sandboxd.sqlite"))
    row = {k.access_key: k for k in keypairs.all_keypairs(database)}[keypair.access_key]
    database.close()
    assert row.last_used is not None and abs(row.last_used - keypair.created_at) < 60


def test_a_request_with_a_wrong_date_is_refused_with_the_reason(
    server: Server, keypair: Keypair
) -> None:
    date = (datetime.now(UTC) - timedelta(minutes=16)).isoformat()
    with server.signed(None) as client:
        auth = Signed(keypair.access_key, keypair.secret_key, date)
        answer = client.get("/session/x", auth=auth)
        assert_problem(answer, 400, "/invalid-auth-params")
        assert msg(answer) == "Date/time sync error"


def test_a_replayed_write_is_refused_and_a_replayed_read_served(
    server: Server, keypair: Keypair, theirs: str
) -> None:
    auth = Signed(keypair.access_key, keypair.secret_key, datetime.now(UTC).isoformat())
    with server.signed(None) as client:
        body = {"image": "c", "name": "replayed-session"}
        assert client.post("/session", json=body, auth=auth).status_code == 201
        again = client.post("/session", json=body | {"name": "other-name"}, auth=auth)
        assert_problem(again, 401, "/auth-failed")
        assert "replay" in msg(again)
        assert client.get("/session/other-name", auth=auth).status_code == 404
        assert client.delete("/session/replayed-session", auth=auth).status_code == 200
        assert "replay" in msg(client.delete("/session/replayed-session", auth=auth))
        for _ in range(3):
            assert client.get(f"/session/{theirs}", auth=auth).status_code == 200


def test_one_of_many_concurrent_writes_with_one_signature_is_accepted(
    server: Server, keypair: Keypair, theirs: str
) -> None:
    auth = Signed(keypair.access_key, keypair.secret_key, datetime.now(UTC).isoformat())

    def interrupt(_: int) -> int:
        with server.signed(None) as client:
            return client.post(f"/session/{theirs}/interrupt", auth=auth).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(interrupt, range(16))) == [204] + [401] * 15


def test_requests_are_counted_for_each_keypair_and_the_headers_show_the_rest(
    server: Server, stranger: httpx.Client
) -> None:
    answer = stranger.get("/session/x")
    assert rate(answer) == ("1000", "1000", "900")
    with server.signed(server.keypair(rate_limit=3)) as client:
        wrong = Signed(client.auth.access_key, "wrong")  # type: ignore[union-attr]  # it is Signed
        for left in ("2", "1", "0"):
            assert client.get("/session/x", auth=wrong).status_code == 401
            assert rate(client.get("/session/x")) == ("3", left, "900")
        refused = client.get("/session/x")
        assert_problem(refused, 429, "/rate-limit-exceeded")
        assert rate(refused) == ("3", "0", "900")
        assert 890 <= int(refused.headers["retry-after"]) <= 900
    with server.signed(server.keypair()) as client:
        assert rate(client.get("/session/x")) == ("30000", "29999", "900")


def rate(answer: httpx.Response) -> tuple[str, ...]:
    names = ("limit", "remaining", "window")
    return tuple(answer.headers[f"x-ratelimit-{name}"] for name in names)


@each_case("version", ["v0.0", "v7", "v99.20300101", "", "\xff"])
def test_a_request_with_an_unknown_version_is_refused_on_every_path(
    http: httpx.Client, version: str
) -> None:
    for path in ("/", "/session/x", "/no/such/path"):
        for header in (b"X-BackendAI-Version", b"X-Sorna-Version"):
            answer = http.get(path, headers=[(header, version.encode("latin-1"))])
            assert_problem(answer, 400, "/generic-bad-request")
            assert msg(answer) == "Unsupported API version."


@each_case("version", ["v4.20181215", "v5.20191215", VERSION, "v9.20250722", None])
def test_requests_of_known_versions_or_none_are_served(
    http: httpx.Client, version: str | None
) -> None:
    headers = {"X-BackendAI-Version": version} if version else {}
    assert http.get("/", headers=headers).status_code == 200


def test_the_method_of_an_override_decides_about_the_route(
    http: httpx.Client, signed: httpx.Client, stranger: httpx.Client, theirs: str
) -> None:
    meant = {"X-Method-Override": "delete"}
    assert_problem(stranger.post(f"/session/{theirs}", headers=meant), 401)
    assert_problem(http.post("/session/x", headers={"X-Method-Override": "BREW"}), 405)
    assert http.post("/", headers={"X-Method-Override": "GET"}).json()["version"] == VERSION
    assert signed.post(f"/session/{theirs}", headers=meant).status_code == 200
    assert signed.get(f"/session/{theirs}").status_code == 404


def test_a_signed_get_cannot_be_turned_into_a_write_by_an_override(
    signed: httpx.Client, keypair: Keypair, theirs: str
) -> None:
    meant = {"X-Method-Override": "DELETE"}
    answer = signed.get(f"/session/{theirs}", headers=meant)
    assert_problem(answer, 401, "/auth-failed")
    assert signed.get(f"/session/{theirs}").status_code == 200


def test_the_overriding_method_may_be_signed(server: Server, keypair: Keypair, theirs: str) -> None:
    date = datetime.now(UTC).isoformat()
    with server.signed(None) as client:
        host, day = client.base_url.netloc.decode(), date[:10].replace("-", "")
        digest = signature(
            keypair.secret_key, "DELETE", f"/session/{theirs}", date, day, host, "text/plain"
        )
        credential = f"credential={keypair.access_key}:{digest}"
        headers = {
            "Date": date, "Content-Type": "text/plain", "X-Method-Override": "DELETE",
            "Authorization": f"BackendAI signMethod=HMAC-SHA256, {credential}",
        }  # fmt: skip
        answer = client.get(f"/session/{theirs}", headers=HOME | headers)
        assert answer.status_code == 200 and "stats" in answer.json()
        again = client.post(f"/session/{theirs}", headers=HOME | headers)
        assert "replay" in msg(again)


def test_only_an_admin_may_act_for_another_owner(
    server: Server, admin: httpx.Client, signed: httpx.Client, keypair: Keypair, theirs: str
) -> None:
    for_owner = {"owner_access_key": keypair.access_key}
    assert admin.get(f"/session/{theirs}").status_code == 404
    assert admin.get(f"/session/{theirs}", params=for_owner).json()["sessionId"] == theirs
    body = json.dumps(for_owner | {"path": "."}).encode()
    listed = admin.request("GET", f"/session/{theirs}/files", content=body)
    assert listed.status_code == 200
    assert signed.get(f"/session/{theirs}", params=for_owner).status_code == 200
    with server.signed(server.keypair()) as other:
        refused = other.get(f"/session/{theirs}", params=for_owner)
        assert_problem(refused, 403, "/insufficient-privilege")
        refused = other.request("GET", f"/session/{theirs}/files", content=body)
        assert_problem(refused, 403, "/insufficient-privilege")
        assert_problem(other.post("/session", json=for_owner | {"image": "c"}), 403)


def test_an_admin_creates_sessions_for_owners_with_an_active_keypair_only(
    admin: httpx.Client, signed: httpx.Client, keypair: Keypair
) -> None:
    body = {"image": "c", "name": "made-by-admin", "owner_access_key": keypair.access_key}
    assert admin.post("/session", json=body).status_code == 201
    assert signed.get("/session/made-by-admin").json()["userId"] == keypair.access_key
    assert signed.delete("/session/made-by-admin").status_code == 200
    unknown = admin.post("/session", json=body | {"owner_access_key": "AK" + "Z" * 18})
    assert_problem(unknown, 404, "/object-not-found")


def test_sessions_of_a_deleted_keypair_can_be_removed_by_admins(
    server: Server, admin: httpx.Client
) -> None:
    keypair = server.keypair()
    with server.signed(keypair) as client:
        id = client.post("/session", json={"image": "c"}).json()["sessionId"]
    change(server, keypair, "remove", True)
    for_owner = {"owner_access_key": keypair.access_key}
    assert admin.delete(f"/session/{id}", params=for_owner).status_code == 200


def test_two_owners_may_have_sessions_of_one_name(server: Server) -> None:
    same = []
    for _ in range(2):
        with server.signed(server.keypair()) as client:
            same.append(client.post("/session", json={"image": "c", "name": "same-name"}).json())
    assert same[0]["created"] and same[1]["created"]
    assert same[0]["sessionId"] != same[1]["sessionId"]
