"""A full disk: new things are refused, ends are ends, and a failed act frees its name.
The limit on the size of the server's files makes every write of the server fail."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from ..waiting import until
from .bad_requests import assert_problem
from .conftest import Server

pytestmark = pytest.mark.slow  # a server for each disk

FULL = "/insufficient-storage"


@contextmanager
def full(server: Server) -> Iterator[None]:
    """No file of the server's can be written to (EFBIG)."""
    pid = server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # the test has killed it
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def test_full_disk_hinders_no_session_from_ending(start: Callable[[], Server]) -> None:
    first = start()
    id = first.client.post("/session", json={"image": "c", "name": "data"}).json()["sessionId"]
    with full(first):
        assert_problem(first.client.post("/session", json={"image": "c"}), 507, FULL)
        assert first.client.delete("/session/data").status_code == 200
        assert first.client.get("/session/data").status_code == 404
    again = first.client.post("/session", json={"image": "c", "name": "data"})
    assert again.status_code == 201, again.text
    assert first.stop() == 0
    second = start()
    session = second.client.get("/session/data").json()
    assert session["sessionId"] == again.json()["sessionId"] != id


def test_session_destroyed_on_a_full_disk_is_over_for_the_next_daemon(
    start: Callable[[], Server],
) -> None:
    first = start()
    first.client.post("/session", json={"image": "c", "name": "data"}).raise_for_status()
    with full(first):
        assert first.client.delete("/session/data").status_code == 200
        first.process.kill()
        first.process.wait()
    second = start()
    assert second.client.get("/session/data").status_code == 404
    assert second.client.post("/session", json={"image": "c", "name": "data"}).status_code == 201


def test_creation_that_fails_half_way_on_a_full_disk_frees_the_name(
    own_server: Server,
) -> None:
    body = {"image": "c", "name": "data"}
    own_server.refuse(lease={"waits": True})
    with ThreadPoolExecutor() as pool:
        creation = pool.submit(own_server.client.post, "/session", json=body)
        until((own_server.base / "waits").exists)
        with full(own_server):
            own_server.refuse()
            assert_problem(creation.result(), 507, FULL)
    assert own_server.client.post("/session", json=body).status_code == 201


def test_folder_that_cannot_be_removed_from_a_full_disk_is_still_there(own_server: Server) -> None:
    http = own_server.client
    http.post("/folders", json={"name": "data"}).raise_for_status()
    with full(own_server):
        assert_problem(http.delete("/folders/data"), 507, FULL)
        assert [one["name"] for one in http.get("/folders").json()] == ["data"]
    assert http.delete("/folders/data").status_code == 204
    assert http.post("/folders", json={"name": "data"}).status_code == 201


def test_session_that_cannot_be_renamed_on_a_full_disk_keeps_its_name(own_server: Server) -> None:
    http = own_server.client
    http.post("/session", json={"image": "c", "name": "data"}).raise_for_status()
    with full(own_server):
        assert_problem(http.post("/session/data/rename?name=other"), 507, FULL)
        assert http.get("/session/other").status_code == 404
    assert http.get("/session/data").json()["sessionId"]
    assert http.delete("/session/data").status_code == 200


@pytest.mark.parametrize("floor, status, kind", [(1 << 53, 507, FULL), (0, 412, "/quota-exceeded")])
def test_reservation_refused_for_want_of_disk_is_507_when_the_host_has_none(
    start: Callable[..., Server], floor: int, status: int, kind: str
) -> None:
    admission = {"disk": 1e-9, "owner": {"disk": 1e-9}}
    server = start({"admission": admission, "disk_floor": floor})
    # a session that needs more than the total is admitted alone
    assert server.client.post("/session", json={"image": "c"}).status_code == 201
    assert_problem(server.client.post("/session", json={"image": "c"}), status, kind)
    assert_problem(server.client.post("/folders", json={"name": "data"}), status, kind)
