"""Keys that this server does not serve: ignored where clients send them unasked, else refused.

recorded.json has the requests of the official clients whose user has asked for nothing more:
[method, path, query, body]. tests/e2e/client/record.py has recorded those of 23.9.10 and 26.9.6;
the others were taken from the sources of the clients.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import unix_connect

from sandboxd.api.access import unserved
from sandboxd.api.access.parameters import ParameterSet, typed
from sandboxd.api.http.route import WEBSOCKET, Access, Route
from sandboxd.api.routes.table import ROUTES
from sandboxd.errors import Invalid

from ..each_case import each_case
from .bad_requests import assert_problem
from .conftest import Server

RECORDED: dict[str, list[tuple[str, str, dict[str, str], Any]]] = json.loads(
    Path(__file__).with_name("recorded.json").read_text()
)
CHOSEN = {  # key -> a value that no client sends unless its user has asked for it
    "domain": "research", "domain_name": "research", "domainName": "research",
    "group": "research", "group_name": "research", "groupName": "research",
    "clusterMode": "multi-node", "cluster_mode": "multi-node", "clusterSize": 2,
    "cloneable": True, "all": True, "type": "volume",
}  # fmt: skip


def requests() -> Iterator[Any]:
    """All recorded requests that go to a route."""
    for each in RECORDED.values():
        yield from (request for request in each if not request[1].startswith("/stream"))


@each_case(("method", "path", "query", "body"), list(requests()))
def test_request_that_an_official_client_sends_unasked_is_not_refused_for_a_key(
    http: httpx.Client, method: str, path: str, query: dict[str, str], body: Any
) -> None:
    http.post("/folders", json={"name": "folder"})
    if path in ("/session", "/folders") and method == "POST":
        body = body | {"name": f"name-{secrets.token_hex(4)}", "clientSessionToken": None}
    answer = http.request(method, path, params=query, json=body)
    assert answer.status_code != 500 and "unknown here" not in answer.text, answer.text
    if method == "POST" and path in ("/session", "/folders"):
        assert answer.status_code == 201, answer.text


def test_every_value_of_the_list_is_in_a_recorded_request_or_an_alias_of_one() -> None:
    """The list has no value that no client sends."""
    sent: set[tuple[str, str]] = set()

    def note(value: Any) -> None:
        if isinstance(value, dict):
            sent.update((key, json.dumps(each)) for key, each in value.items())
            for each in value.values():
                note(each)

    for request in (each for some in RECORDED.values() for each in some):
        note(request[3])
    aliases = {"domainName": "domain", "domain_name": "domain", "groupName": "group",
               "group_name": "group", "cluster_mode": "clusterMode"}  # fmt: skip
    for kind, keys in unserved.UNASKED.items():
        for key, values in keys.items():
            for value in values:
                assert (aliases.get(key, key), json.dumps(value)) in sent, (kind, key)


@each_case(
    ("kind", "key"), [(kind, key) for kind, keys in unserved.UNASKED.items() for key in keys]
)
def test_other_value_of_a_key_that_clients_send_unasked_is_refused_by_name(
    kind: str, key: str
) -> None:
    unserved.check(dict.fromkeys((key,)), kind, ())
    for value in unserved.UNASKED[kind][key]:
        unserved.check({key: value}, kind, ())
    with pytest.raises(Invalid) as caught:
        unserved.check({key: CHOSEN[key]}, kind, ())
    assert caught.value.data == {key: "unknown here; nothing is known"}


def test_value_of_another_type_than_the_one_that_clients_send_is_refused() -> None:
    with pytest.raises(Invalid):
        unserved.check({"cloneable": 0}, "CreateFolder", ())
    with pytest.raises(Invalid):
        unserved.check({"clusterSize": True}, "SessionSettings", ())


CREATE = {"image": "c"}


@each_case(
    ("path", "body", "name"),
    [
        ("/session", CREATE | {"config": {"resource_opts": {"shmen": "64m"}}},
         "config.resource_opts.shmen"),
        ("/session", CREATE | {"config": {"resource_opts": {"allow_fractions": False}}},
         "config.resource_opts.allow_fractions"),
        ("/session", CREATE | {"config": {"scalingGroup": "gpu"}}, "config.scalingGroup"),
        ("/session", CREATE | {"config": {"scaling_group": "gpu"}}, "config.scaling_group"),
        ("/session", CREATE | {"config": {"enviro": {"A": "1"}}}, "config.enviro"),
        ("/session", CREATE | {"config": {"clusterSize": 2}}, "config.clusterSize"),
        ("/session", CREATE | {"domain": "research"}, "domain"),
        ("/session", CREATE | {"priority": 10}, "priority"),
        ("/session", CREATE | {"reuse": False}, "reuse"),
        ("/folders", {"name": "one", "cloneable": True}, "cloneable"),
        ("/folders", {"name": "one", "quotas": "1g"}, "quotas"),
        ("/admin/drain", {"drain": False}, "drain"),
        ("/admin/drain", {"drain": True}, "drain"),
        ("/admin/drain", {"undone": True}, "undone"),
        ("/admin/drain", {"dead\\udc80line": 3}, "dead\\\\udc80line"),
    ],
)  # fmt: skip
def test_key_that_is_not_served_is_refused_by_name_and_nothing_is_done(
    http: httpx.Client, path: str, body: dict[str, Any], name: str
) -> None:
    before = [http.get(url).json() for url in ("/folders", "/admin/drain", "/manager/status")]
    answer = http.post(path, content=json.dumps(body).encode().replace(b"\\\\", b"\\"))
    assert_problem(answer, 400, "/invalid-api-params")
    assert [key.replace("\\\\", "\\") for key in answer.json()["data"]] == [
        name.replace("\\\\", "\\")
    ]
    after = [http.get(url).json() for url in ("/folders", "/admin/drain", "/manager/status")]
    assert before == after


@pytest.mark.parametrize("body", [{"undo": True, "deadline": 3}, {"undo": "yes"}])
def test_drain_request_that_contradicts_itself_changes_nothing(
    http: httpx.Client, body: dict[str, Any]
) -> None:
    assert_problem(http.post("/admin/drain", json=body), 400, "/invalid-api-params")
    assert http.get("/admin/drain").json()["draining"] is False


def test_parameters_in_the_query_beside_a_body_are_refused(http: httpx.Client) -> None:
    answer = http.post("/admin/drain?undo=true", json={})
    assert_problem(answer, 400, "/invalid-api-params")
    assert list(answer.json()["data"]) == ["undo"]
    assert http.get("/admin/drain").json()["draining"] is False


def test_truth_values_and_numbers_in_a_query_are_those_of_a_body(http: httpx.Client) -> None:
    assert http.post("/admin/drain?undo=true").json()["draining"] is False
    assert_problem(http.post("/admin/drain?undo=perhaps"), 400, "/invalid-api-params")


def test_text_in_the_place_of_a_truth_value_of_a_body_is_refused() -> None:
    class Kind(ParameterSet):
        flag: bool = False

    assert typed({"flag": "true"}, Kind, strict=False).flag is True
    with pytest.raises(Invalid):
        typed({"flag": "true"}, Kind)


def ids_of(route: Route) -> str:
    """A name for a route."""
    return f"{route.methods} {route.path}"


SIGNED = [r for r in ROUTES if r.access is not Access.OPEN and r.methods != WEBSOCKET]


@each_case("route", SIGNED)
def test_each_route_refuses_an_unknown_parameter_by_name(
    http: httpx.Client, lasting_session: str, route: Route
) -> None:
    http.post("/folders", json={"name": "for-all-routes"})
    path = route.path.replace("{ref}", lasting_session).replace("{name}", "for-all-routes")
    for method in route.methods.split():
        answer = http.request(method, path, params={"colour": "red"})
        assert answer.status_code == 400, answer.text
        if method != "HEAD":  # its response has no body
            assert "colour" in answer.json()["data"], answer.text


@pytest.mark.parametrize("route", [r for r in ROUTES if r.methods == WEBSOCKET], ids=ids_of)
def test_each_websocket_refuses_an_unknown_parameter(
    server: Server, lasting_session: str, route: Route
) -> None:
    url = f"ws://sandboxd{route.path.replace('{ref}', lasting_session)}?colour=red"
    with pytest.raises(InvalidStatus) as caught:
        unix_connect(server.path, url)
    assert caught.value.response.status_code == 400
    assert b"colour" in (caught.value.response.body or b"")


def test_refusal_of_a_key_names_the_keys_of_the_documentation(http: httpx.Client) -> None:
    answer = http.post("/session", json={"image": "c", "timeout": 3})
    names = answer.json()["data"]["timeout"].partition("known are ")[2].split(", ")
    assert {"enqueueOnly", "idleSeconds", "maxWaitSeconds", "owner_access_key", "ttlSeconds"} <= {
        *names
    }
    assert not {"enqueue_only", "idle", "max_wait", "startup_command"} & {*names}
    wrong = http.post("/session", json={"image": "c", "maxWaitSeconds": "long"})
    assert wrong.json()["data"] == {"maxWaitSeconds": "a number is expected, not a text"}


def test_websocket_that_is_requested_without_one_is_named(http: httpx.Client) -> None:
    answer = http.get("/stream/session/x/pty")
    assert answer.status_code == 404
    assert answer.json()["msg"] == "/stream/session/x/pty needs a WebSocket connection."
