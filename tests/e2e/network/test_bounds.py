"""The bounds of the network of runs: connections, bytes, silence; and the bounds of the broker."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from sandboxd.host import procfs

from ...processes import children
from ...waiting import until
from ..daemon import Daemon
from .programs import broker_of, python
from .world import run

pytestmark = pytest.mark.needs("ip", "openssl", "nsenter", "curl")


def test_bytes_of_a_day_end(http: httpx.Client) -> None:
    command = "curl -sS http://index.example/-/endless | wc -c; curl -sS http://index.example/hello"
    result = run(http, "small", command)
    assert "transfer closed" in result.out or "Recv failure" in result.out
    assert "the bytes of this day are used up" in result.out
    assert "used up" in result.log[0]


def test_upload_without_an_end_is_ended(http: httpx.Client) -> None:
    for form in ("-T -", "-H Transfer-Encoding: -H 'Content-Length: 99999999999' -T -"):
        command = f"curl -sS {form} http://index.example/up </dev/zero; echo over"
        result = run(http, "small", command)
        assert result.out.endswith("over\n")
        assert "the bytes of this day are used up" in result.log[0]


def test_silent_connection_is_closed(http: httpx.Client) -> None:
    head = b"POST http://index.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    result = python(http, f"ask({head!r})", "small")
    assert "HTTP/1.1 504 " in result.out


def test_connections_beyond_the_bound_are_refused_and_reported_once_and_others_go_on(
    http: httpx.Client,
) -> None:
    program = """
import select
held = [socket.create_connection(("127.0.0.1", PORT), 60) for _ in range(300)]
for sock in held:
    sock.sendall(b"GET ")
refused = 0
while refused < 296:
    for sock in select.select(held, [], [])[0]:
        answer = sock.recv(65536)
        refused += answer.startswith(b"HTTP/1.1 503 ")
        held.remove(sock)
print(refused)
"""
    others = []
    with ThreadPoolExecutor(1) as executor:
        flood = executor.submit(python, http, program, "small")
        while not flood.done():
            others.append(run(http, "packages", "curl -sS http://index.example/hello").out)
    result = flood.result()
    assert result.out == "296\n"
    assert result.log == [
        "the network refused a connection: the session has 4 connections open, the bound of "
        "profile small"
    ]
    assert set(others) == {"hello\n"}


def test_broker_has_no_rights_and_sees_no_state(daemon: Daemon) -> None:
    broker = until(lambda: broker_of(daemon))
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{broker}/status").read_text().splitlines()
        if ":\t" in line
    )  # fmt: skip
    assert len(set(status["Uid"].split())) == 1 and status["Uid"].split()[0] != "0"
    sets = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {int(status[one], 16) for one in sets} == {0}
    assert status["NoNewPrivs"].strip() == "1"
    assert set(os.listdir(f"/proc/{broker}/root{daemon.state}")) <= {"view"}
    mounts = Path(f"/proc/{broker}/mounts").read_text()
    assert f"{daemon.state}/slots" not in mounts
    groups = Path(f"/proc/{broker}/cgroup").read_text()
    assert "/broker\n" in groups


def test_api_and_broker_have_filters(daemon: Daemon) -> None:
    assert daemon.process
    until(lambda: broker_of(daemon))
    halves = children(daemon.process.pid)
    modes = {title: procfs.status(pid, "Seccomp") for pid, title in halves.items()}
    assert modes["sandboxd: api"] == modes["sandboxd: broker"] == ["2"]


def test_broker_has_no_descriptor_of_a_run_that_is_over(http: httpx.Client, daemon: Daemon) -> None:
    broker = until(lambda: broker_of(daemon))
    before = len(os.listdir(f"/proc/{broker}/fd"))
    result = run(http, "packages", "curl -sS http://index.example/hello")
    assert result.out == "hello\n"
    until(lambda: len(os.listdir(f"/proc/{broker}/fd")) <= before)
