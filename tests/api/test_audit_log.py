"""The audit log: who did what to which session, run and folder, and who was turned away."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from sandboxd.api.http.route import Access, Route
from sandboxd.api.routes.table import ROUTES
from sandboxd.store import keypairs
from sandboxd.store.database import Database

from ..each_case import each_case
from ..waiting import until
from .conftest import USER, Server

LOOKS = {
    ("POST", "/auth"), ("POST", "/admin/gql"), ("POST", "/admin/graphql"),
    ("POST", "/session/{ref}/files"), ("POST", "/session/{ref}/complete"),
    ("POST", "/folders/{name}/files"), ("POST", "/session/{ref}/start-service"),
    ("WEBSOCKET", "/stream/session/{ref}/tcpproxy"),
    ("WEBSOCKET", "/stream/session/{ref}/httpproxy"),
}  # fmt: skip
"""Routes that change and give away nothing, though their method might."""

Line = dict[str, Any]


def lines(server: Server, **wanted: Any) -> list[Line]:
    """The lines of the log that have these fields."""
    records = [json.loads(line) for line in server.log().splitlines()]
    return [one for one in records if wanted.items() <= one.items()]


def the_line(server: Server, request: str, **wanted: Any) -> Line:
    """The one audit line of a request, which is written when its answer has been sent."""
    records = until(
        lambda: lines(server, request=request, event="audit", **wanted),
        why=lambda: [one for one in lines(server) if request in str(one)],
    )
    assert len(records) == 1, records
    return records[0]


@pytest.fixture
def logged(server: Server) -> Callable[..., tuple[httpx.Response, Line]]:
    """Sends a request; its answer and its audit line."""

    def logged(
        method: str, path: str, client: httpx.Client | None = None, **kwargs: Any
    ) -> tuple[httpx.Response, Line]:
        id = uuid.uuid4().hex
        answer = (client or server.client).request(
            method, path, headers={"X-Request-Id": id}, **kwargs
        )
        assert answer.headers["x-request-id"] == id
        return answer, the_line(server, id)

    return logged


Logged = Callable[..., tuple[httpx.Response, Line]]


def test_every_route_that_changes_or_gives_away_something_is_audited() -> None:
    for route in ROUTES:
        for method in set(route.methods.split()) - {"GET", "HEAD", "OPTIONS"}:
            assert bool(route.act) != ((method, route.path) in LOOKS), (method, route.path)


def test_acts_that_have_nothing_to_do_with_each_other_do_not_share_a_name() -> None:
    handlers: dict[str, set[tuple[str, str]]] = {}
    for route in ROUTES:
        if route.act:
            handler = route.handler
            handlers.setdefault(route.act, set()).add((handler.__module__, handler.__qualname__))
    shared = {act for act, names in handlers.items() if len(names) > 1}
    assert shared == {
        "session.upload",
        "session.download",
        "run.execute",
        "folder.delete",
        "folder.move-file",
    }


def test_a_poll_and_a_head_request_are_no_acts() -> None:
    execute = Route("POST", "/x", print, "run.execute", polls=True)
    assert execute.act_of("POST", {}) == "" and execute.act_of("POST", {"run": 1}) == "run.execute"
    download = Route("GET", "/x", print, "session.download", Access.OWNER)
    assert download.act_of("GET", {}) == "session.download" and download.act_of("HEAD", {}) == ""


def test_acts_on_a_session_are_logged_with_their_caller(logged: Logged) -> None:
    answer, line = logged("POST", "/session", json={"image": "c", "name": "audited"})
    id = answer.json()["sessionId"]
    who = {"caller": USER, "owner": USER, "peer": "unix", "level": "info", "outcome": "ok"}
    about = who | {"session": id}
    assert line.items() >= (about | {"act": "session.create", "status": 201}).items()
    assert (line["name"], line["runtime"], line["created"]) == ("audited", "c", True)

    files = {"src": ("a.txt", b"12345"), "too": ("b.txt", b"678")}
    _, line = logged("POST", f"/session/{id}/upload", files=files)
    assert line.items() >= (about | {"act": "session.upload", "files": 2, "bytes": 8}).items()
    assert line["received"] > 8

    answer, line = logged("GET", f"/session/{id}/download", params={"files": "a.txt"})
    assert line.items() >= (about | {"act": "session.download", "files": 1}).items()
    assert line["sent"] == len(answer.content)

    _, line = logged("POST", f"/session/{id}/rename", json={"name": "audited-anew"})
    assert line.items() >= (about | {"act": "session.rename", "name": "audited-anew"}).items()
    for method, path, act in (
        ("POST", f"/session/{id}/interrupt", "session.interrupt"),
        ("PATCH", f"/session/{id}", "session.restart"),
        ("DELETE", f"/session/{id}", "session.delete"),
    ):
        _, line = logged(method, path)
        assert line.items() >= (about | {"act": act}).items()


def test_the_request_and_the_end_of_a_run_are_logged_without_its_commands(
    server: Server, session: str, logged: Logged
) -> None:
    options = {"exec": "out the-secret-command", "environ": {"TOKEN": "the-secret-value"}}
    body = {"mode": "batch", "runId": "audited-run", "options": options}
    answer, line = logged("POST", f"/session/{session}", json=body)
    assert (line["act"], line["run"], line["session"]) == ("run.execute", "audited-run", session)
    while answer.json()["result"]["status"] != "finished":
        body = {"mode": "continue", "runId": "audited-run"}
        answer = server.client.post(
            f"/session/{session}", json=body, headers={"X-Request-Id": "poll"}
        )
    (start,) = lines(server, event="run.start", run="audited-run", session=session)
    (over,) = lines(server, event="run.over", run="audited-run", session=session)
    assert start["owner"] == USER and "request" not in start
    assert (over["exit"], over["step"]) == (0, "exec")
    assert not lines(server, request="poll")  # polling is no act
    assert "the-secret" not in server.log()


@pytest.mark.parametrize(
    "name", ['x\nevent=audit act=session.delete caller="root"', "\x1b[2Jx", 'x" outcome="ok']
)
def test_a_name_with_a_line_break_forges_no_line_of_the_log(
    server: Server, logged: Logged, name: str
) -> None:
    answer, line = logged("DELETE", f"/folders/{quote(name, safe='')}")
    assert answer.status_code == 404
    assert (line["ref"], line["outcome"]) == (name, "refused")
    assert not lines(server, caller="root")  # each line parses, and none is the client's


def test_a_request_without_a_right_signature_is_logged_as_denied_with_its_access_key(
    server: Server, session: str, logged: Logged
) -> None:
    ours = server.keypair()
    with server.signed(None) as nobody:
        answer, line = logged("DELETE", f"/session/{session}", nobody)
    assert answer.status_code == 401 and line["outcome"] == "denied"
    assert (line["act"], line["ref"]) == ("session.delete", session)
    assert line["level"] == "warning" and line["peer"] == "127.0.0.1" and "caller" not in line
    wrong = server.signed(type(ours)(**{**_fields(ours), "secret_key": "x" * 40}))
    with wrong:
        answer, line = logged("GET", f"/session/{session}", wrong)
    assert answer.status_code == 401 and line["outcome"] == "denied"
    assert (line["act"], line["caller"]) == ("GET /session/{ref}", ours.access_key)
    assert line["error"] == "Signature mismatch" and ours.secret_key not in server.log()


def _fields(keypair: Any) -> dict[str, Any]:
    return {name: getattr(keypair, name) for name in type(keypair).__dataclass_fields__}


def test_a_request_for_another_owners_session_is_logged_as_denied_and_for_none_as_refused(
    server: Server, session: str, logged: Logged
) -> None:
    server.client.post("/folders", json={"name": "private-folder"})
    with server.signed(server.keypair()) as other:
        for path in (f"/session/{session}", "/folders/private-folder"):
            answer, line = logged("DELETE", path, other)
            assert (answer.status_code, line["outcome"]) == (404, "denied")
        answer, line = logged("DELETE", "/session/there-is-none", other)
        assert (answer.status_code, line["outcome"]) == (404, "refused")
        answer, line = logged("GET", f"/session/{session}?owner_access_key=local", other)
        assert (answer.status_code, line["outcome"]) == (403, "denied")


def test_acts_on_folders_and_transfers_by_token_are_logged(server: Server, logged: Logged) -> None:
    answer, line = logged("POST", "/folders", json={"name": "audited-folder"})
    id = answer.json()["id"]
    assert line.items() >= {"act": "folder.create", "folder": id, "name": "audited-folder"}.items()
    body = {"path": "f", "size": 3}
    answer, line = logged("POST", "/folders/audited-folder/request-upload", json=body)
    token = answer.json()["token"]
    assert line["act"] == "folder.request-upload" and token not in server.log()
    upload = f"/folders/_/tus/upload?token={token}"
    headers = {
        "Tus-Resumable": "1.0.0", "Upload-Offset": "0", "X-Request-Id": "by-token",
        "Content-Type": "application/offset+octet-stream",
    }  # fmt: skip
    with server.signed(None) as nobody:
        assert nobody.patch(upload, content=b"abc", headers=headers).status_code == 204
    line = the_line(server, "by-token")
    assert (line["act"], line["folder"], line["owner"]) == ("folder.upload", id, USER)
    assert line["received"] == 3 and token not in server.log()
    _, line = logged("POST", "/folders/audited-folder/rename", json={"new_name": "renamed-folder"})
    assert (line["name"], line["to"]) == ("audited-folder", "renamed-folder")
    _, line = logged("DELETE", "/folders", json={"id": id})
    assert line.items() >= {"act": "folder.delete", "folder": id, "outcome": "ok"}.items()


def test_changes_of_keypairs_by_the_command_line_are_logged(server: Server) -> None:
    keypair = server.keypair()
    database = Database(str(server.base / "sandboxd.sqlite"))
    keypairs.set_active(database, keypair.access_key, True)

    def logged(act: str) -> Line:
        return until(lambda: lines(server, act=act, access_key=keypair.access_key))[0]

    assert logged("keypair.create").items() >= {"event": "audit", "outcome": "ok"}.items()
    keypairs.set_active(database, keypair.access_key, False)
    logged("keypair.disable")
    keypairs.set_active(database, keypair.access_key, True)
    logged("keypair.enable")
    keypairs.remove(database, keypair.access_key, False)
    assert logged("keypair.delete")["caller"] == "command line"
    database.close()
    assert keypair.secret_key not in server.log()


@each_case("sent", ["", "x" * 129, "a b", "é", 'a"b', "a\tb"])
def test_a_request_id_that_is_not_harmless_is_replaced(http: httpx.Client, sent: str) -> None:
    answer = http.get("/", headers={b"X-Request-Id": sent.encode()})
    assert uuid.UUID(answer.headers["x-request-id"]) and answer.headers["x-request-id"] != sent


def test_every_answer_has_a_request_id(http: httpx.Client) -> None:
    for path in ("/", "/nowhere", "/session/none", "/healthz"):
        assert (
            http.get(path, headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"
        )
    odd = http.get("/", headers={"X-BackendAI-Version": "v0", "X-Request-Id": "mine-2"})
    assert odd.status_code == 400 and odd.headers["x-request-id"] == "mine-2"


def test_a_download_that_breaks_off_is_one_line_of_the_log(own_server: Server) -> None:
    server = own_server
    id = server.client.post("/session", json={"image": "c"}).json()["sessionId"]
    for number in range(20):
        files = {"src": (f"big/{number}", b"x" * (1 << 20))}
        assert server.client.post(f"/session/{id}/upload", files=files).status_code == 204
    (server.base / "cut").touch()  # the helper ends behind its first packets
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(server.path)
        raw.sendall(
            f"GET /session/{id}/download?files=big HTTP/1.1\r\nHost: x\r\n"
            "X-Request-Id: cut-off\r\n\r\n".encode()
        )
        got = b""
        while piece := raw.recv(1 << 16):
            got += piece
    assert got.startswith(b"HTTP/1.1 200") and not got.endswith(b"0\r\n\r\n")
    line = the_line(server, "cut-off")
    assert (line["outcome"], line["level"]) == ("failed", "warning")
    assert line["error"] == "the session's file helper is gone" and line["sent"] > 0
    assert [one for one in lines(server) if one["level"] in ("warning", "error")][1:] == [line]
    assert "Traceback" not in server.log()


def test_a_request_whose_client_leaves_before_the_response_is_logged_as_gone(
    own_server: Server,
) -> None:
    server = own_server
    id = server.client.post("/session", json={"image": "c"}).json()["sessionId"]
    # Half a megabyte, so that the socket never has room for all of it.
    call = {"mode": "batch", "code": "", "options": {"exec": "flood 2000000\nexit 0", "wait": 60}}
    body = json.dumps(call).encode()
    for number in range(3):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(server.path)
            raw.sendall(
                f"POST /session/{id} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nX-Request-Id: left-{number}\r\n\r\n".encode()
            )
            raw.sendall(body)
            if number:  # the head of the answer, and then no more
                raw.recv(64)
        line = the_line(server, f"left-{number}")
        assert line["outcome"] == "gone"
        assert line.get("error") is None
    assert "Traceback" not in server.log()
