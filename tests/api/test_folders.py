"""Folders and their owners. A refused or interrupted request leaves nothing behind."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime

import httpx
import pytest

from ..each_case import each_case
from ..waiting import PATIENCE_S
from .bad_requests import assert_problem
from .conftest import Server

Start = Callable[[], Server]


@pytest.fixture
def owners(server: Server) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Two clients with keys of their own."""
    with server.signed(server.keypair()) as one, server.signed(server.keypair()) as two:
        yield one, two


def create(http: httpx.Client, name: str, **fields: object) -> str:
    answer = http.post("/folders", json={"name": name} | fields)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_two_owners_may_have_folders_of_one_name(owners: tuple[httpx.Client, httpx.Client]) -> None:
    ids = [create(http, "same") for http in owners]
    assert ids[0] != ids[1]
    for http, id in zip(owners, ids, strict=True):
        assert [one["id"] for one in http.get("/folders").json()] == [id]
        assert http.get("/folders/same").json()["id"] == id


def test_folder_of_another_owner_cannot_be_mounted(
    owners: tuple[httpx.Client, httpx.Client],
) -> None:
    one, two = owners
    id = create(one, "private")
    for ref in ("private", id, id.replace("-", ""), id.upper()):
        for config in ({"mounts": [ref]}, {"mount_ids": [ref]}):
            answer = two.post("/session", json={"image": "c", "config": config})
            assert_problem(answer, 404, "/object-not-found")
    answer = one.post("/session", json={"image": "c", "config": {"mounts": ["private"]}})
    assert answer.status_code == 201
    info = one.get(f"/session/{answer.json()['sessionId']}").json()
    assert info["sandbox"]["mounts"] == [{"folder": id, "name": "private", "read_only": False}]


def test_owner_has_a_bounded_number_of_folders(
    owners: tuple[httpx.Client, httpx.Client],
) -> None:
    for number in range(100):
        create(owners[0], f"f{number}")
    answer = owners[0].post("/folders", json={"name": "one-more"})
    assert_problem(answer, 412, "/quota-exceeded")
    create(owners[1], "of-somebody-else")


def test_folder_that_the_warden_cannot_make_leaves_nothing(own_server: Server) -> None:
    http = own_server.client
    own_server.refuse(folder_make={"kind": "stage", "stage": "folders", "errno": 5, "error": "no"})
    answer = http.post("/folders", json={"name": "data"})
    assert answer.status_code == 503
    assert answer.json()["data"] == {"stage": "folders", "errno": 5}
    own_server.refuse()
    assert http.get("/folders").json() == []
    create(http, "data")


def test_folder_whose_creation_a_dying_warden_broke_off_is_removed_at_the_next_start(
    start: Start,
) -> None:
    first = start()
    first.refuse(folder_make={"dies": True})
    assert first.client.post("/folders", json={"name": "data"}).status_code == 503
    first.process.wait(PATIENCE_S)
    first.refuse()
    with sqlite3.connect(first.base / "sandboxd.sqlite") as connection:
        rows = connection.execute("SELECT name, status FROM folders").fetchall()
    connection.close()
    assert rows == [("data", "MAKING")]  # without the row, nobody could remove its directory
    create(start().client, "data")


def test_folder_that_the_warden_fails_to_remove_is_still_listed(own_server: Server) -> None:
    http = own_server.client
    create(http, "data")
    own_server.refuse(folder_remove={"kind": "invalid", "error": "in use"})
    assert_problem(http.delete("/folders/data"), 400)
    own_server.refuse()
    assert http.get("/folders/data").status_code == 200
    assert http.delete("/folders/data").status_code == 204


def test_session_with_a_folder_on_a_kernel_without_idmaps_is_refused_with_the_stage(
    own_server: Server,
) -> None:
    http = own_server.client
    create(http, "data")
    own_server.refuse(lease={"kind": "stage", "stage": "folders", "errno": 22, "error": "no"})
    body = {"image": "c", "name": "with-data", "config": {"mounts": ["data"]}}
    answer = http.post("/session", json=body)
    assert answer.status_code == 503
    assert answer.json()["data"]["stage"] == "folders"
    assert http.get("/session/with-data").status_code == 404


@pytest.mark.parametrize("status", ["MAKING", "DELETING"])
def test_interrupted_removal_of_a_folder_is_completed_at_the_next_start(
    start: Start, status: str
) -> None:
    first = start()
    whole, half = create(first.client, "kept"), create(first.client, "half")
    assert first.stop() == 0
    with sqlite3.connect(first.base / "sandboxd.sqlite") as connection:
        connection.execute("UPDATE folders SET status = ? WHERE id = ?", (status, half))
    connection.close()
    second = start()
    assert [one["id"] for one in second.client.get("/folders").json()] == [whole]
    assert not (second.base / half).exists() and (second.base / whole).exists()


def test_address_of_an_upload_has_the_host_of_the_request(
    owners: tuple[httpx.Client, httpx.Client],
) -> None:
    http, _ = owners
    create(http, "data")
    answer = http.post("/folders/data/request-upload", json={"path": "f", "size": 0}).json()
    assert answer["url"] == f"{http.base_url}/folders/_/tus/upload"


@each_case("host", ["", "a b", "[", "x:y:z", "\u00e4", "h/../x?y#z", "h" * 9000])
def test_address_is_made_for_any_host(server: Server, host: str) -> None:
    create(server.client, f"host-{abs(hash(host))}")
    answer = server.client.post(
        f"/folders/host-{abs(hash(host))}/request-upload",
        json={"path": "f", "size": 0},
        headers={b"host": host.encode("latin-1")},
    )
    assert answer.status_code in (200, 400), answer.text


@each_case(
    "body",
    [
        {},
        {"path": "f"},
        {"size": 1},
        {"path": "f", "size": -1},
        {"path": "f", "size": 1.5},
        {"path": "f", "size": "1"},
        {"path": "f", "size": None},
        {"path": None, "size": 1},
        {"path": ["f"], "size": 1},
        {"path": "", "size": 1},
        {"path": "/", "size": 1},
        {"path": "..", "size": 1},
        {"path": "a/../../b", "size": 1},
        {"path": "a\0b", "size": 1},
        {"path": "d/", "size": 1},
        {"path": "n" * 256, "size": 1},
        {"path": "n/" * 3000, "size": 1},
    ],
)
def test_request_of_an_impossible_upload_is_400(own: httpx.Client, body: dict[str, object]) -> None:
    assert_problem(own.post("/folders/data/request-upload", json=body), 400)


def test_folder_is_found_by_its_name(own: httpx.Client) -> None:
    id = own.get("/folders/data").json()["id"]
    assert own.request("GET", "/folders/_/id", json={"name": "data"}).json() == {"id": id}
    assert_problem(own.get("/folders/_/id?name=nobody"), 404, "/object-not-found")
    assert_problem(own.get("/folders/_/id"), 400)


def test_directories_of_a_folder_are_listed_in_both_forms(own: httpx.Client) -> None:
    answer = own.post("/folders/data/mkdir", json={"path": ["d", "e/f"], "parents": True})
    assert answer.status_code == 201
    assert answer.json()["results"] == {
        "success": [{"item": "d", "msg": None}, {"item": "e/f", "msg": None}], "failed": [],
    }  # fmt: skip
    answer = own.get("/folders/data/files").json()
    entries = {entry["filename"]: entry for entry in json.loads(answer["files"])}
    items = {item["name"]: item for item in answer["items"]}
    assert set(items) == set(entries) == {"d", "e"} and answer["folder_path"] == "/"
    for name, item in items.items():
        assert (item["type"], item["mode"]) == ("DIRECTORY", entries[name]["mode"])
        at = datetime.fromisoformat(item["modified"]).timestamp()
        assert abs(at - entries[name]["mtime"]) < 0.001
    empty = own.get("/folders/data/files?path=d").json()
    assert (empty["items"], empty["files"]) == ([], "[]")
    assert_problem(own.get("/folders/data/files?path=nowhere"), 404)


@pytest.fixture(scope="module")
def own(server: Server) -> Iterator[httpx.Client]:
    """A client whose owner has the folder data."""
    with server.signed(server.keypair()) as http:
        create(http, "data")
        yield http


@each_case("what", ["mkdir", "rename-file", "move-file", "delete-files", "rename"])
@each_case("body", [b"", b"{", b"[]", b"null", b"7", b"{}", b'{"path": 7}'])
def test_malformed_bodies_are_400(own: httpx.Client, what: str, body: bytes) -> None:
    method = "DELETE" if what == "delete-files" else "POST"
    headers = {"content-type": "application/json"}
    answer = own.request(method, f"/folders/data/{what}", content=body, headers=headers)
    assert_problem(answer, 400)
