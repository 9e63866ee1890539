"""The network of runs: the hosts of a profile by name, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from .daemon import Daemon
from .network_world import PRIVATE, World, client, run, world

pytestmark = pytest.mark.needs("ip", "openssl", "nsenter", "curl")

CURL = "curl -sS --cacert ca.pem --max-time 20"


@pytest.fixture(scope="module")
def network() -> Iterator[World]:
    with world() as one:
        (one.www / "hello").write_text("hello\n")
        yield one


@pytest.fixture(scope="module")
def daemon(network: World) -> Iterator[Daemon]:
    with network.daemon() as one:
        yield one


@pytest.fixture
def http(daemon: Daemon) -> Iterator[httpx.Client]:
    with client(daemon) as one:
        yield one


@pytest.fixture
def files(network: World) -> list[dict[str, str]]:
    return [{"name": "ca.pem", "content": network.ca.read_text()}]


@pytest.mark.parametrize(
    "url",
    [
        "http://index.example/hello", "https://index.example/hello", "https://INDEX.example/hello",
        "https://a.files.example/hello", "http://index.example:80/hello",
        "https://index.example:444/hello",
    ],
)  # fmt: skip
def test_host_of_the_profile_is_reached(
    http: httpx.Client, files: list[dict[str, str]], url: str
) -> None:
    result = run(http, "packages", f"{CURL} {url}", files=files)
    assert (result.out, result.code, result.log) == ("hello\n", 0, [])
