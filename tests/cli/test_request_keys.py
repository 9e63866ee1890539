"""The keypair of a command: from the environment or a closed file, and the signature with it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import httpx
import pytest

from sandboxd.cli.connection.request_keys import KEY_FILE, RequestKeys, SignedRequests, find_keys
from sandboxd.errors import ConfigError

from ..signing import signature

URL = "https://sandbox.example"
KEYS = RequestKeys("AKIA", "secret")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.touch(0o600)
    path.write_text(json.dumps({"access_key": "AKIA", "secret_key": "secret", "is_admin": False}))
    return path


@pytest.mark.parametrize("media", ["", "application/json; charset=utf-8"])
def test_request_has_the_signature_of_the_protocol(media: str) -> None:
    headers = {"content-type": media} if media else {}
    request = httpx.Request("PUT", f"{URL}/session/x?path=a%20b&c=%2F", headers=headers)
    (signed,) = SignedRequests(KEYS).auth_flow(request)
    date = signed.headers["date"]
    expected = signature(
        "secret", "PUT", "/session/x?path=a%20b&c=%2F", date, date[:10].replace("-", ""),
        "sandbox.example", media.partition(";")[0] or "application/octet-stream",
    )  # fmt: skip
    assert signed.headers["authorization"] == (
        f"BackendAI signMethod=HMAC-SHA256, credential=AKIA:{expected}"
    )


def test_two_requests_have_two_signatures() -> None:
    first, second = (KEYS.headers("POST", "/session", "h")["Authorization"] for _ in range(2))
    assert first != second, "the daemon refuses the same one again"


def test_secret_is_in_no_text_of_the_keys() -> None:
    assert "secret" not in repr(RequestKeys("AKIA", "secret-of-mine"))


@pytest.mark.parametrize("prefix", ["SANDBOXD", "BACKEND"])
def test_keys_are_those_of_the_environment(prefix: str) -> None:
    environ = {f"{prefix}_ACCESS_KEY": "AKIA", f"{prefix}_SECRET_KEY": "secret"}
    assert find_keys(URL, environ) == KEYS
    assert find_keys(URL, environ | {KEY_FILE: "/nonexistent"}) == KEYS
    for missing in environ:
        with pytest.raises(ConfigError, match="set both"):
            find_keys(URL, {name: value for name, value in environ.items() if name != missing})


def test_keys_are_those_of_a_closed_file(file: Path) -> None:
    assert find_keys(URL, {KEY_FILE: str(file)}) == KEYS


@pytest.mark.parametrize("others", [0o040, 0o004, 0o020, 0o002, 0o044, 0o001])
def test_file_that_others_can_use_is_refused_with_the_remedy(file: Path, others: int) -> None:
    file.chmod(0o600 | others)
    with pytest.raises(ConfigError, match=f"other users can use.*chmod 600 {file}"):
        find_keys(URL, {KEY_FILE: str(file)})


@pytest.mark.root
def test_file_of_another_user_is_refused(file: Path) -> None:
    os.chown(file, 4_200_001, 4_200_001)
    with pytest.raises(ConfigError, match="belongs to another user"):
        find_keys(URL, {KEY_FILE: str(file)})


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"access_key": "A"}', "\0"])
def test_file_without_a_keypair_is_refused_with_the_remedy(file: Path, content: str) -> None:
    file.write_text(content)
    with pytest.raises(ConfigError, match="keypair create --json"):
        find_keys(URL, {KEY_FILE: str(file)})


def test_file_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="/nonexistent: No such file"):
        find_keys(URL, {KEY_FILE: "/nonexistent"})


def test_no_keys_at_all_are_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="SANDBOXD_ACCESS_KEY"):
        find_keys(URL, {})
