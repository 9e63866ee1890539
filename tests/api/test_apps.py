"""ssh and scp are refused in words, in each request with which a client begins them."""

from __future__ import annotations

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import unix_connect

from .bad_requests import assert_problem
from .conftest import Server

WORDS = "offers no ssh and no scp"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_download_of_the_key_for_ssh_says_what_to_use_instead(
    http: httpx.Client, session: str, method: str
) -> None:
    answer = http.request(method, f"/session/{session}/download", params={"files": "id_container"})
    assert_problem(answer, 404, "/object-not-found")
    assert WORDS in answer.json()["msg"] and "backend.ai session upload" in answer.json()["msg"]


def test_file_with_the_name_of_the_key_is_downloaded_as_any_other(
    http: httpx.Client, session: str
) -> None:
    http.post(f"/session/{session}/upload", files={"src": ("id_container", b"mine")})
    answer = http.post(f"/session/{session}/download", json={"files": ["id_container"]})
    assert answer.status_code == 200 and b"mine" in answer.content
    missing = http.post(f"/session/{session}/download", json={"files": ["id_container2"]})
    assert WORDS not in missing.text


def test_request_for_an_app_says_what_to_use_instead(http: httpx.Client, session: str) -> None:
    for answer in (
        http.get(f"/stream/session/{session}/apps"),
        http.post(f"/session/{session}/start-service", json={"app": "sshd"}),
    ):
        assert_problem(answer, 501, "/not-implemented")
        assert WORDS in answer.json()["msg"]
    assert_problem(http.get("/stream/session/nobody/apps"), 404)


@pytest.mark.parametrize("kind", ["tcpproxy", "httpproxy"])
def test_connection_to_an_app_is_refused_before_it_is_opened(
    server: Server, session: str, kind: str
) -> None:
    with pytest.raises(InvalidStatus) as caught:
        unix_connect(server.path, f"ws://sandboxd/stream/session/{session}/{kind}?app=sshd")
    assert caught.value.response.status_code == 501
    assert WORDS.encode() in (caught.value.response.body or b"")
