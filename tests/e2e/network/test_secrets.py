"""Secrets of a profile: headers that the broker adds, and that the run never sees."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import httpx
import pytest

from ..daemon import Daemon
from .programs import broker_of, python
from .world import World, run

pytestmark = pytest.mark.needs("ip", "openssl", "nsenter", "curl")

TOKEN = "Bearer of-the-operator"


def profiles(network: World) -> str:
    token = network.folder / "token"
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    return f"""
[network.profiles.packages]
hosts = ["index.example:443", "index.example:80", "other.example:443"]
[network.profiles.packages.secrets.token]
host = "index.example:443"
path = "/-/headers/"
header = "Authorization"
file = "{token}"
[network.profiles.packages.secrets.downloads]
host = "index.example:443"
path = "/-/chunks/"
header = "Authorization"
file = "{token}"
[network.profiles.plain]
hosts = ["index.example:443", "index.example:80"]
"""


def test_header_is_added_for_its_host_and_path_over_tls(http: httpx.Client) -> None:
    url = "http://index.example:443/-/headers/x?y=/../"
    result = run(http, "packages", f"curl -sS -H 'Authorization: own' '{url}'")
    headers = json.loads(result.out)
    assert headers["authorization"] == TOKEN
    assert headers["host"] == "index.example"


def test_download_in_chunks_over_tls_arrives_whole(http: httpx.Client) -> None:
    content = hashlib.sha256(b"".join(bytes([number]) * 70_000 for number in range(100)))
    url = "http://index.example:443/-/chunks/?70000,100"
    result = run(http, "packages", f"curl -sS '{url}' | sha256sum")
    assert result.out.split()[0] == content.hexdigest()


@pytest.mark.parametrize(
    "request_line",
    [
        "POST http://index.example:443/-/headers/x", "PUT http://index.example:443/-/headers/x",
        "GET http://index.example:443/-/headers", "GET http://index.example:443/hello",
        "GET http://index.example:443/-/headers/../../hello",
        "GET http://index.example:443/-/headers/%2e%2e/hello",
        "GET http://index.example:443/-/headers/%2E./hello",
        "GET http://index.example:443/-/headers/a%2fb", "GET http://index.example:443/-/headers//x",
        "GET http://index.example:443/-/headers/a\\\\b",
        "DELETE http://index.example:443/-/headers/x",
    ],
)  # fmt: skip
def test_request_outside_of_the_paths_of_a_secret_gets_no_header_and_no_answer(
    http: httpx.Client, request_line: str
) -> None:
    head = f"{request_line} HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\n\\r\\n"
    result = python(http, f'ask(b"{head}")')
    assert "HTTP/1.1 403 " in result.out or "HTTP/1.1 400 " in result.out, result.out
    assert "of-the-operator" not in result.out
    assert "is for GET and HEAD below /-/chunks/, /-/headers/" in result.out + " ".join(result.log)


def test_header_goes_to_no_other_host_port_or_profile(http: httpx.Client) -> None:
    for profile, url in (
        ("packages", "http://index.example:80/-/headers/x"),
        ("plain", "http://index.example:80/-/headers/x"),
    ):
        result = run(http, profile, f"curl -sS {url}")
        assert json.loads(result.out)["host"] == "index.example"
        assert "authorization" not in json.loads(result.out)
    result = run(http, "plain", "curl -sS http://index.example:443/-/headers/x")
    assert "of-the-operator" not in result.out


def test_redirect_is_passed_on_and_followed_without_the_header(http: httpx.Client) -> None:
    program = """
ask(b"GET http://index.example:443/-/headers/x HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
"""
    assert "of-the-operator" in python(http, program).out  # a host that echoes gives it away
    url = "http://index.example/-/redirect?http://index.example/-/headers/x"
    result = run(http, "packages", f"curl -sSL '{url}'")
    assert "authorization" not in json.loads(result.out)


def test_tls_of_the_run_itself_is_unchanged(http: httpx.Client, network: World) -> None:
    files = [{"name": "ca.pem", "content": network.ca.read_text()}]
    command = "curl -sS --cacert ca.pem https://index.example/-/headers/x"
    result = run(http, "packages", command, files=files)
    assert "authorization" not in json.loads(result.out)


def test_secret_is_in_no_file_variable_or_argument_that_a_run_or_the_api_has(
    daemon: Daemon,
) -> None:
    for pid in (daemon.api, broker_of(daemon)):
        for name in ("environ", "cmdline"):
            assert TOKEN.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
    assert _memory_has(broker_of(daemon), TOKEN.encode())


def _memory_has(pid: int, text: bytes) -> bool:
    """The memory of a process has the text."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, rights = line.split()[:2]
            if not rights.startswith("rw"):
                continue
            begin, end = (int(part, 16) for part in place.split("-"))
            try:
                if text in os.pread(memory.fileno(), end - begin, begin):
                    return True
            except OSError:
                continue
    return False
