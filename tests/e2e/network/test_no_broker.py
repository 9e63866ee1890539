"""Runs with a network where the broker cannot be started: they know at once, and why."""

from __future__ import annotations

import pytest

from sandboxd.shim.broker_socket import NO_BROKER

from ...waiting import until
from .world import World, client, run

pytestmark = pytest.mark.needs("ip", "openssl", "nsenter", "curl")

SECRET = """
[network.profiles.packages]
hosts = ["index.example:80", "index.example:443"]
[network.profiles.packages.secrets.token]
host = "index.example:443"
path = "/"
header = "Authorization"
file = "{}"
"""
TWICE = "for n in 1 2; do curl -sS -w '%{http_code}\n' http://index.example/hello; done; false"


def test_connections_without_a_broker_are_refused_at_once_and_the_log_says_so_once(
    network: World,
) -> None:
    token = network.folder / "absent"
    with network.daemon(SECRET.format(token)) as daemon, client(daemon) as http:
        result = run(http, "packages", TWICE)
        text = f"the network refused a connection: {NO_BROKER}"
        assert result.log == [text]
        assert result.out == f"sandboxd: {NO_BROKER}\n503\n" * 2
        assert result.advice == text
        token.write_text("Bearer of-the-operator\n")
        token.chmod(0o600)
        until(lambda: run(http, "packages", TWICE).out == "hello\n200\n" * 2)
