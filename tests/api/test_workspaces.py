"""Requests for workspaces: who may make them, and how their values are read."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from sandboxd.api.access.unix_caller import unix_connection
from sandboxd.api.http.peer import Peer, offer_peer
from sandboxd.api.sessions import workspace_facts
from sandboxd.errors import Forbidden, Invalid
from sandboxd.model import Attachment, Workspace

from ..each_case import each_case


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        yield one


def scope(sock: socket.socket | None, *headers: tuple[bytes, bytes], tcp: bool = False) -> Any:
    server = ("127.0.0.1", 8080) if tcp else ("/run/sandboxd/api.sock", None)
    extensions = {} if sock is None else {"sandboxd.socket": sock}
    request = {"server": server, "headers": list(headers), "extensions": extensions}
    offer_peer(request, None if tcp else Peer(1000, frozenset({1000})))
    return request


def test_plain_unix_socket_gives_its_connection(connection: socket.socket) -> None:
    plain = scope(connection, (b"host", b"sandboxd"))
    assert unix_connection(plain, "it") == connection.fileno()


def test_request_with_keys_is_refused(connection: socket.socket) -> None:
    with pytest.raises(Forbidden, match="keypairs"):
        unix_connection(scope(connection, (b"authorization", b"x")), "it")


def test_request_over_tcp_or_without_a_connection_is_refused(connection: socket.socket) -> None:
    for one in (scope(connection, tcp=True), scope(None)):
        with pytest.raises(Forbidden, match="not TCP"):
            unix_connection(one, "it")


@each_case(
    "text",
    [
        "",
        "/",
        "x",
        "../x",
        "/a/../b",
        "/a/./b",
        "//a",
        "/a//b",
        "/a\0",
        "/a\ud800",
        "/a\udcff",
        "/" + "a/" * 2048,
    ],
)
def test_path_that_is_not_plain_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        workspace_facts.host_path(text)


def test_slash_at_the_end_of_a_path_does_not_count() -> None:
    assert workspace_facts.host_path("/srv/builds/x/") == "/srv/builds/x"


def test_place_of_a_folder_is_not_that_of_a_workspace() -> None:
    mount = Attachment("id", "data")
    workspace_facts.check_place("src", [mount])
    workspace_facts.check_place("", [mount])
    with pytest.raises(Invalid):
        workspace_facts.check_place("data", [mount])


class _Session:
    def __init__(self, id: str, path: str | None) -> None:
        workspace = Workspace(path, "", 1, 1, "") if path else None
        self.row = type("Row", (), {"id": id, "workspace": workspace})


def test_sessions_share_a_workspace_when_one_directory_holds_the_other() -> None:
    paths = ("/w/a", "/w/a/b", "/w", "/w/ab", "/x", None)
    sessions: Any = [_Session(str(number), path) for number, path in enumerate(paths)]
    assert workspace_facts.sharing(Workspace("/w/a", "", 1, 1, ""), sessions, "0") == 2
    assert workspace_facts.sharing(Workspace("/w/ab", "", 1, 1, ""), sessions, "3") == 1
