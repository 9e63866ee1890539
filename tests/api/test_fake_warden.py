"""The fake warden: it refuses the requests that the real warden refuses."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from sandboxd.wire import messages

from .fake_warden import FakeWarden

SESSION = "00000000-0000-4000-8000-000000000001"
LEASE = {
    "op": "lease",
    "session": SESSION,
    "size": 64 << 20,
    "inodes": 4096,
    "attachments": [],
    "network": None,
    "owner": "somebody",
    "workspace": None,
}
ADOPT = {
    "op": "adopt",
    "slot": 0,
    "session": SESSION,
    "attachments": [],
    "network": None,
    "owner": "somebody",
    "workspace": None,
    "runs": [],
}


def ask(api: socket.socket, message: dict[str, Any], *fds: int) -> dict[str, Any]:
    """The reply to a request."""
    messages.send(api, {"id": 1} | message, list(fds))
    reply, descriptors = messages.receive(api)
    messages.close_all(descriptors)
    assert reply is not None
    return reply


@pytest.mark.parametrize(
    "message",
    [
        {"op": "exec"},
        {"op": "lease"},
        LEASE | {"size": 1},
        LEASE | {"path": "/"},
        {"op": "files", "slot": 0, "session": SESSION},
    ],
)
def test_request_that_the_real_warden_refuses_is_refused(
    tmp_path: Path, message: dict[str, Any]
) -> None:
    assert ask(FakeWarden(tmp_path).api, message)["kind"] == "invalid"


def test_descriptor_too_many_is_refused(tmp_path: Path) -> None:
    fd = os.memfd_create("x")
    assert ask(FakeWarden(tmp_path).api, LEASE, fd)["kind"] == "invalid"
    os.close(fd)


def test_request_out_of_order_is_refused(tmp_path: Path) -> None:
    api = FakeWarden(tmp_path).api
    assert ask(api, LEASE) == {"id": 1, "ok": True, "slot": 0}
    assert ask(api, ADOPT)["ok"] is True
    assert ask(api, {"op": "ready"})["ok"] is True
    assert ask(api, {"op": "ready"})["kind"] == "invalid"
    assert ask(api, ADOPT)["kind"] == "invalid"
