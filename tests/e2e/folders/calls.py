"""The calls of the tests of virtual folders: uploads, downloads, listings, programs."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx

from ..daemon import run

UPLOAD = {"tus-resumable": "1.0.0", "content-type": "application/offset+octet-stream"}
Make = Callable[..., str]
Session = Callable[..., str]


def put(http: httpx.Client, folder: str, path: str, data: bytes, step: int = 1 << 20) -> str:
    """Upload as the clients do; the token."""
    answer = http.post(f"/folders/{folder}/request-upload", json={"path": path, "size": len(data)})
    assert answer.status_code == 200, answer.text
    url, token = answer.json()["url"], answer.json()["token"]
    offset = 0
    while offset < len(data):
        headers = UPLOAD | {"upload-offset": str(offset)}
        piece = data[offset : offset + step]
        answer = http.patch(url, params={"token": token}, headers=headers, content=piece)
        assert answer.status_code == 204, answer.text
        offset = int(answer.headers["upload-offset"])
    return str(token)


def get(http: httpx.Client, folder: str, path: str, **headers: str) -> httpx.Response:
    answer = http.post(f"/folders/{folder}/request-download", json={"path": path})
    assert answer.status_code == 200, answer.text
    params = {"token": answer.json()["token"]}
    return http.get(answer.json()["url"], params=params, headers=headers)


def names(http: httpx.Client, folder: str, path: str = ".") -> set[str]:
    answer = http.request("GET", f"/folders/{folder}/files", json={"path": path})
    assert answer.status_code == 200, answer.text
    assert answer.json()["errors"] == ""
    return {entry["filename"] for entry in json.loads(answer.json()["files"])}


def outputs(http: httpx.Client, session: str, command: str) -> str:
    outcome = run(http, session, {"exec": command})
    return outcome.text("stdout") + outcome.text("stderr")
