"""Requests beside a deletion in a real daemon: done before it, or the session is missing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

from .daemon import Daemon

ROUNDS = 4


def _requests(http: httpx.Client, id: str) -> list[Callable[[], httpx.Response]]:
    batch = {"mode": "batch", "options": {"exec": "sleep 1"}}
    return [
        lambda: http.delete(f"/session/{id}"),
        lambda: http.patch(f"/session/{id}"),
        lambda: http.post(f"/session/{id}/interrupt"),
        lambda: http.get(f"/session/{id}/files"),
        lambda: http.post(f"/session/{id}/upload", files={"src": ("a.txt", b"text" * 1000)}),
        lambda: http.get(f"/session/{id}/archive"),
        lambda: http.post(f"/session/{id}", json=batch),
        lambda: http.post(f"/session/{id}/rename", json={"name": f"renamed-{id[:8]}"}),
    ]


def test_no_request_beside_a_deletion_fails_or_waits_for_a_run_that_never_ends(
    daemon: Daemon,
) -> None:
    with daemon.client() as http, ThreadPoolExecutor(8) as pool:
        for _ in range(ROUNDS):
            id = http.post("/session", json={"image": "c"}).json()["sessionId"]
            deaf = {"exec": "trap '' INT TERM; sleep 60"}
            http.post(f"/session/{id}", json={"mode": "batch", "options": deaf})
            answers = [one.result() for one in [pool.submit(r) for r in _requests(http, id)]]
            assert answers[0].status_code == 200, answers[0].text
            for answer in answers:
                assert answer.status_code in (200, 204, 404), (answer.request.url, answer.text)
            assert http.patch(f"/session/{id}").status_code == 404


def test_folder_that_is_deleted_beside_the_creation_that_mounts_it_stays_or_is_missing(
    daemon: Daemon,
) -> None:
    with daemon.client() as http, ThreadPoolExecutor(2) as pool:
        for number in range(ROUNDS):
            name = f"data{number}"
            assert http.post("/folders", json={"name": name, "quota": "16m"}).status_code == 201
            body = {"image": "c", "config": {"mounts": [name]}}
            creation = pool.submit(http.post, "/session", json=body)
            deletion = pool.submit(http.delete, f"/folders/{name}")
            created, deleted = creation.result(), deletion.result()
            assert (created.status_code, deleted.status_code) in ((201, 400), (404, 204))
            if created.status_code == 201:
                id = created.json()["sessionId"]
                assert http.delete(f"/session/{id}").status_code == 200
                assert http.delete(f"/folders/{name}").status_code == 204
