"""Small requests that would be much work: deep JSON, many keys, long lists, bytes in a path."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx
import pytest
from websockets.sync.client import unix_connect

from sandboxd.api.access import unserved
from sandboxd.api.access.parameters import LEVELS_MAX, VALUES_MAX, count_values
from sandboxd.api.options.cases import CASES_MAX
from sandboxd.api.routes.run_request import INLINE_FILES_MAX
from sandboxd.errors import Invalid

from ..each_case import each_case
from ..waiting import PATIENCE_S
from .bad_requests import assert_problem
from .conftest import Server

DEPTHS = [LEVELS_MAX - 10, *range(LEVELS_MAX - 6, LEVELS_MAX + 2), *range(940, 1001)]
"""Around our own bound, and around the limits of the parser and of ascii()."""


def call(depth: int) -> str:
    """A call with a limit that is many lists within each other, which a refusal shows."""
    body = {"mode": "batch", "code": "", "options": {"exec": "x", "limits": {"exec": {"mem": "?"}}}}
    return json.dumps(body).replace('"?"', "[" * depth + "]" * depth)


def test_json_of_any_depth_is_refused_and_is_no_internal_error(
    server: Server, lasting_session: str
) -> None:
    for depth in DEPTHS:
        assert_problem(server.client.post(f"/session/{lasting_session}", content=call(depth)), 400)
        run = f'{{"image":"c","cases":[{{"limits":{{"mem":{"[" * depth}{"]" * depth}}}}}]}}'
        assert_problem(server.client.post("/run", content=run), 400)


def test_deep_json_on_a_websocket_is_refused_in_words(server: Server, lasting_session: str) -> None:
    url = f"ws://sandboxd/stream/session/{lasting_session}/execute"
    for depth in DEPTHS:
        with unix_connect(server.path, url) as websocket:
            websocket.send(call(depth))
            frame = json.loads(websocket.recv(PATIENCE_S))
            assert frame["status"] == "error" and frame["msg"]


def nested(levels: int) -> Any:
    value: Any = 1
    for number in range(levels - 1):
        value = [value] if number % 2 else {"a": value}
    return value


def test_values_are_counted_up_to_the_bounds_of_number_and_depth() -> None:
    assert count_values(nested(LEVELS_MAX)) == LEVELS_MAX
    with pytest.raises(Invalid):
        count_values(nested(LEVELS_MAX + 1))
    assert count_values([[1] * (VALUES_MAX - 2)]) == VALUES_MAX
    with pytest.raises(Invalid):
        count_values([[1] * (VALUES_MAX - 1)])


def test_refusal_of_a_hundred_thousand_unknown_keys_is_small(http: httpx.Client) -> None:
    keys = {f"k{number}": 1 for number in range(VALUES_MAX - 10)}
    answer = http.post("/session", json=keys | {"image": "c"})
    assert_problem(answer, 400, "/invalid-api-params")
    data = answer.json()["data"]
    assert len(data) == unserved.NAMED_MAX + 1 and len(answer.content) < 64 * 1024
    assert data["more"] == f"{len(keys) - unserved.NAMED_MAX} further unknown names"


@each_case(
    ("field", "most", "item"),
    [("cases", CASES_MAX, {"colour": 1}), ("files", INLINE_FILES_MAX, {"name": 7})],
)
def test_too_long_list_is_refused_before_its_items_are_looked_at(
    http: httpx.Client, field: str, most: int, item: dict[str, Any]
) -> None:
    body = {"image": "c", "options": {"exec": "x"}}
    many = http.post("/run", json=body | {field: [item] * (most + 1)})
    assert_problem(many, 400, "/invalid-api-params")
    assert list(many.json()["data"]) == [field]
    few = http.post("/run", json=body | {field: [item] * most})
    assert [key.split(".")[:2] for key in few.json()["data"]] == [[field, "0"]]


@each_case("target", [b"/nope?\xff", b"/nope\xff", b"/session/\x80", b"/session/x/files?path=\xff"])
def test_raw_byte_beyond_ascii_in_a_path_or_query_is_400(server: Server, target: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(server.path)
        sock.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 400 ")
