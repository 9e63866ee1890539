"""Requests beside a deletion: the session or folder is missing at once, whatever else fails."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from sandboxd.api.routes.table import ROUTES

from ..waiting import until
from .conftest import Server

pytestmark = pytest.mark.slow  # a server for each race

OF_ENDED = ("/session/{ref}/logs", "/session/{ref}/status-history")
"""They read the database, also of sessions that have ended."""

OF_SESSIONS = sorted(
    {(method, route.path) for route in ROUTES for method in route.methods.split()
     if route.path.startswith("/session/{ref}") and route.path not in OF_ENDED}
)  # fmt: skip
BODIES = {
    "/session/{ref}": {"mode": "batch", "options": {"exec": "out x"}},
    "/session/{ref}/rename": {"name": "another"},
    "/session/{ref}/download": {"files": ["a"]},
    "/session/{ref}/download_single": {"file": "a"},
    "/session/{ref}/complete": {"code": ""},
}
QUERIES = {
    "/session/{ref}/download": {"files": "a"},
    "/session/{ref}/download_single": {"file": "a"},
}
UPLOADED = {"src": ("a.txt", b"text")}
FAULT = {"kind": "stage", "stage": "fork", "error": "no"}


def new(http: httpx.Client, **fields: object) -> str:
    answer = http.post("/session", json={"image": "c", "name": "ending"} | fields)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["sessionId"])


@contextmanager
def deletion_at_the_database(server: Server, id: str) -> Iterator[Future[httpx.Response]]:
    """The deletion of a session, which waits for the lock of the database during the `with`."""
    other = sqlite3.connect(server.base / "sandboxd.sqlite", isolation_level=None)
    with ThreadPoolExecutor(1) as pool, server.new_client() as http:
        other.execute("BEGIN IMMEDIATE")
        try:
            deletion = pool.submit(http.delete, f"/session/{id}")
            until(lambda: server.client.get(f"/session/{id}").status_code == 404)
            yield deletion
        finally:
            other.execute("ROLLBACK")
            other.close()
        assert deletion.result().status_code == 200


def answer_to(http: httpx.Client, method: str, path: str, id: str) -> httpx.Response:
    """The answer to a valid request."""
    url = path.replace("{ref}", id)
    if path.endswith("/upload"):
        return http.request(method, url, files=UPLOADED)
    if method != "POST":
        return http.request(method, url, params=QUERIES.get(path, {}))
    return http.request(method, url, json=BODIES.get(path, {}))


def test_every_request_for_a_session_finds_none_as_soon_as_its_deletion_has_begun(
    own_server: Server,
) -> None:
    id = new(own_server.client)
    with deletion_at_the_database(own_server, id):
        for method, path in OF_SESSIONS:
            answer = answer_to(own_server.client, method, path, id)
            assert answer.status_code == 404, (method, path, answer.status_code, answer.text)


def test_creation_with_the_name_of_a_session_that_ends_is_a_new_session(
    own_server: Server,
) -> None:
    id = new(own_server.client)
    with ThreadPoolExecutor(1) as pool, own_server.new_client() as http:
        with deletion_at_the_database(own_server, id):
            creation = pool.submit(new, http)
        assert creation.result() != id


@pytest.mark.parametrize(
    ("op", "method", "path"),
    [
        ("files", "GET", "/session/{ref}/files"),
        ("files", "POST", "/session/{ref}/upload"),
        ("files", "GET", "/session/{ref}/download_single"),
    ],
)
def test_request_that_fails_because_its_session_ends_meanwhile_finds_none(
    own_server: Server, op: str, method: str, path: str
) -> None:
    server, id = own_server, new(own_server.client)
    server.refuse(**{op: FAULT | {"waits": True}})
    with ThreadPoolExecutor(1) as pool, server.new_client() as http:
        answer = pool.submit(answer_to, http, method, path, id)
        until((server.base / "waits").exists)
        with deletion_at_the_database(server, id):
            server.refuse(**{op: FAULT})
            assert answer.result().status_code == 404, answer.result().text
        server.refuse()


def test_failure_in_a_session_that_stays_is_no_missing_session(own_server: Server) -> None:
    id = new(own_server.client)
    own_server.refuse(files=FAULT)
    assert own_server.client.get(f"/session/{id}/files").status_code == 503


def folder(http: httpx.Client, name: str) -> str:
    answer = http.post("/folders", json={"name": name})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_creation_with_a_folder_that_is_deleted_meanwhile_is_404(own_server: Server) -> None:
    server = own_server
    folder(server.client, "data")
    gone = {"kind": "stage", "stage": "folders", "error": "the folder is not there"}
    server.refuse(lease=gone | {"waits": True})
    with ThreadPoolExecutor(2) as pool, server.new_client() as one, server.new_client() as two:
        body = {"image": "c", "config": {"mounts": ["data"]}}
        creation = pool.submit(one.post, "/session", json=body)
        until((server.base / "waits").exists)
        deletion = pool.submit(two.delete, "/folders/data")
        until(lambda: not server.client.get("/folders").json())
        server.refuse(lease=gone)
        answer = creation.result()
        assert answer.status_code == 404, answer.text
        assert "virtual folder" in answer.json()["title"]
        assert deletion.result().status_code == 204
    server.refuse()


def test_creation_that_fails_while_its_folder_stays_is_no_missing_folder(
    own_server: Server,
) -> None:
    folder(own_server.client, "data")
    own_server.refuse(lease=FAULT)
    body = {"image": "c", "config": {"mounts": ["data"]}}
    assert own_server.client.post("/session", json=body).status_code == 503


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/folders/data", None),
        ("GET", "/folders/data/files", None),
        ("POST", "/folders/data/mkdir", {"path": "a"}),
        ("POST", "/folders/data/move-file", {"src": "a", "dst": "b"}),
        ("POST", "/folders/data/rename-file", {"target_path": "a", "new_name": "b"}),
        ("DELETE", "/folders/data/delete-files", {"files": ["a"]}),
        ("POST", "/folders/data/request-upload", {"path": "a", "size": 1}),
        ("POST", "/folders/data/request-download", {"path": "a"}),
    ],
)
def test_request_that_fails_because_its_folder_is_deleted_meanwhile_finds_none(
    own_server: Server, method: str, path: str, body: dict[str, object] | None
) -> None:
    server = own_server
    folder(server.client, "data")
    server.refuse(folder_files=FAULT | {"waits": True})
    with ThreadPoolExecutor(2) as pool, server.new_client() as one, server.new_client() as two:
        content = None if body is None else json.dumps(body)
        headers = {"content-type": "application/json"} if content else {}
        request = pool.submit(one.request, method, path, content=content, headers=headers)
        until((server.base / "waits").exists)
        deletion = pool.submit(two.delete, "/folders/data")
        until(lambda: not server.client.get("/folders").json())
        for answer in (
            server.client.post("/folders/data/rename", json={"new_name": "other"}),
            server.client.post("/folders/data/update-options", json={"permission": "ro"}),
            server.client.delete("/folders/data"),
        ):
            assert answer.status_code == 404
        server.refuse(folder_files=FAULT)
        assert request.result().status_code == 404, request.result().text
        assert deletion.result().status_code == 204
    server.refuse()
