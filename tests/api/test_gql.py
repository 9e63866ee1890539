"""GraphQL: what the clients ask, in the order they ask it, and what nobody may."""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Iterator
from typing import Any
from unittest import mock

import httpx
import hypothesis
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from sandboxd.api.routes.gql_queries import TOKENS_MAX, Root
from sandboxd.api.routes.gql_queries import answer as execute
from sandboxd.config.settings import Config
from sandboxd.store.sessions import SessionRow

from ..each_case import each_case
from ..effort import examples
from ..http_clients import unix_client
from ..signing import Signed
from .bad_requests import MALFORMED, assert_problem
from .conftest import USER, Server

LIST = """query($limit: Int!, $offset: Int!, $status: String, $access_key: String, $filter: String,
                $order: String) {
  compute_session_list(limit: $limit, offset: $offset, status: $status, access_key: $access_key,
                       filter: $filter, order: $order) { items { %s } total_count } }"""


def ask(http: httpx.Client, query: str, **variables: Any) -> httpx.Response:
    return http.post("/admin/gql", content=json.dumps({"query": query, "variables": variables}))


def data(http: httpx.Client, query: str, **variables: Any) -> Any:
    answer = ask(http, query, **variables)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def listed(http: httpx.Client, fields: str = "name", **variables: Any) -> Any:
    values = {"limit": 100, "offset": 0, "status": None, "filter": None, "order": None} | variables
    return data(http, LIST % fields, **values)["compute_session_list"]


def create(http: httpx.Client, name: str = "", **more: Any) -> str:
    name = name or f"test-{secrets.token_hex(5)}"
    body = {"image": "c", "name": name} | more
    return str(http.post("/session", json=body).json()["sessionId"])


@pytest.fixture
def user(server: Server) -> Iterator[httpx.Client]:
    """A client with a keypair of its own, which owns nothing yet."""
    keypair = server.keypair()
    auth = Signed(keypair.access_key, keypair.secret_key)
    with unix_client(server.path, auth=auth) as client:
        yield client


def test_fields_of_a_query_come_in_its_order(user: httpx.Client) -> None:
    id = create(user, tag="x")
    (item,) = listed(user, "status id tag name result main_kernel_id", status="RUNNING")["items"]
    assert list(item) == ["status", "id", "tag", "name", "result", "main_kernel_id"]
    assert (item["status"], item["id"], item["tag"]) == ("RUNNING", id, "x")


def test_a_query_for_the_keypair_shows_the_callers_own_without_its_secret(
    user: httpx.Client,
) -> None:
    fields = "user_id access_key secret_key is_active is_admin rate_limit concurrency_used"
    result = data(user, f"query {{ keypair {{ {fields} }} }}")["keypair"]
    assert result["access_key"].startswith("AK") and result["secret_key"] is None
    assert (result["is_active"], result["is_admin"], result["concurrency_used"]) == (True, False, 0)


def test_a_query_on_the_unix_socket_is_that_of_an_admin(http: httpx.Client) -> None:
    assert data(http, "{ keypair { access_key is_admin } }")["keypair"] == {
        "access_key": USER, "is_admin": True,
    }  # fmt: skip


def test_a_query_of_a_user_lists_own_sessions_and_that_of_an_admin_all(
    http: httpx.Client, user: httpx.Client
) -> None:
    mine, other = create(user), create(http)
    ids = [item["id"] for item in listed(user, "id")["items"]]
    assert ids == [mine]
    ids = [item["id"] for item in listed(http, "id")["items"]]
    assert {mine, other} <= set(ids)
    key = data(user, "{ keypair { access_key } }")["keypair"]["access_key"]
    assert [item["id"] for item in listed(http, "id", access_key=key)["items"]] == [mine]
    answer = ask(user, LIST % "id", limit=1, offset=0, access_key=USER)
    assert_problem(answer, 400, "/graphql-error")
    one = "query($id: UUID!) { compute_session(id: $id) { name } }"
    assert data(user, one, id=other) == {"compute_session": None}
    assert data(http, one, id=mine)["compute_session"]["name"]


def test_query_of_an_admin_for_an_owner_lists_what_that_owner_sees(
    http: httpx.Client, user: httpx.Client
) -> None:
    mine, _ = create(user), create(http)
    key = data(user, "{ keypair { access_key } }")["keypair"]["access_key"]
    body = {"query": LIST % "id", "variables": {"limit": 9, "offset": 0}}
    answer = http.post("/admin/gql", params={"owner_access_key": key}, json=body)
    assert answer.json()["data"]["compute_session_list"]["items"] == [{"id": mine}]


def test_lists_are_paged_and_ordered(user: httpx.Client) -> None:
    for name in ("bbbb", "aaaa", "cccc"):
        create(user, name)
    assert [i["name"] for i in listed(user)["items"]] == ["cccc", "aaaa", "bbbb"]
    result = listed(user, order="-name", limit=2, offset=1)
    assert [i["name"] for i in result["items"]] == ["bbbb", "aaaa"] and result["total_count"] == 3
    assert listed(user, order="status,+name")["items"][0] == {"name": "aaaa"}


def test_terminated_sessions_are_listed_if_the_status_is_in_the_query(user: httpx.Client) -> None:
    id = create(user)
    user.delete(f"/session/{id}")
    assert listed(user, status="RUNNING, PENDING")["items"] == []
    fields = "id status terminated_at occupying_slots"
    (item,) = listed(user, fields, status="CANCELLED,TERMINATED")["items"]
    assert item["id"] == id and item["terminated_at"] and item["occupying_slots"] == "{}"


def test_a_query_shows_container_and_folders(user: httpx.Client) -> None:
    id = create(user)
    query = "query($id: UUID!) { compute_container(id: $id) { session_id cluster_role } }"
    assert data(user, query, id=id)["compute_container"] == {
        "session_id": id, "cluster_role": "main",
    }  # fmt: skip
    assert user.post("/folders", json={"name": "data"}).status_code == 201
    for field in ("vfolder_list", "vfolder_own_list"):
        result = data(user, f"{{ {field}(limit: 9, offset: 0) {{ items {{ name host }} }} }}")
        assert [item["name"] for item in result[field]["items"]] == ["data"]
    result = data(user, "{ vfolder_invited_list(limit: 9, offset: 0) { total_count } }")
    assert result["vfolder_invited_list"] == {"total_count": 0}


def test_folders_of_others_are_listed_for_admins_only(server: Server, user: httpx.Client) -> None:
    user.post("/folders", json={"name": "theirs"}).raise_for_status()
    key = data(user, "{ keypair { access_key } }")["keypair"]["access_key"]
    page = '(limit: 9, offset: 0, order: "-created_at") { items { name creator } }'
    admin, other = server.keypair(admin=True), server.keypair()
    with server.signed(admin) as admins, server.signed(other) as others:
        result = data(admins, f"{{ vfolder_list{page} vfolder_own_list{page} }}")
        assert {"name": "theirs", "creator": key} in result["vfolder_list"]["items"]
        assert result["vfolder_own_list"]["items"] == []
        result = data(others, f"{{ vfolder_list{page} vfolder_own_list{page} }}")
        assert result == {name: {"items": []} for name in ("vfolder_list", "vfolder_own_list")}
        named = page.replace("(", f'(access_key: "{key}", ')
        assert data(admins, f"{{ vfolder_own_list{named} }}")["vfolder_own_list"]["items"]
        for field in ("vfolder_list", "vfolder_own_list"):
            refused = others.post("/admin/gql", json={"query": f"{{ {field}{named} }}"})
            assert refused.status_code == 400 and "only admins" in refused.text


def test_the_legacy_route_answers_with_the_bare_data(http: httpx.Client) -> None:
    answer = http.post("/admin/graphql", json={"query": "{ keypair { is_admin } }"})
    assert answer.json() == {"keypair": {"is_admin": True}}


WRONG = {
    "field": "{ keypair { shoe_size } }",
    "root": "{ shoes { size } }",
    "mutation": "mutation { delete_keypair(access_key: \"x\") { ok } }",
    "subscription": "subscription { keypair { is_admin } }",
    "syntax": "{ keypair { ",
    "empty": "",
    "no selection": "{ keypair }",
    "introspection": "{ __schema { types { name } } }",
    "introspection of a type": "{ __type(name: \"Query\") { name } }",
    "missing variable": "query($id: UUID!) { compute_session(id: $id) { id } }",
    "no UUID": "{ compute_session(id: 3) { id } }",
    "no UUID either": "{ compute_session(id: \"x\") { id } }",
    "limit": "{ compute_session_list(limit: 101, offset: 0) { total_count } }",
    "huge limit": "{ compute_session_list(limit: 99999999999, offset: 0) { total_count } }",
    "offset": "{ compute_session_list(limit: 1, offset: -1) { total_count } }",
    "filter": "{ compute_session_list(limit: 1, offset: 0, filter: \"x\") { total_count } }",
    "order": "{ compute_session_list(limit: 1, offset: 0, order: \"containers\") { total_count } }",
    "long order": "{ vfolder_own_list(limit: 1, offset: 0, order: \"%s\") { total_count } }"
    % ("x" * 9999),
    "tokens": "{ " + "keypair { is_admin } " * (TOKENS_MAX // 4 + 1) + "}",
    "depth": "{ a " * 5000,
    "fragments of themselves": "{ ...a } fragment a on Query { ...a }",
    "operations": "query a { keypair { is_admin } } query b { keypair { is_admin } }",
    "surrogate": "{ \udcff }",
    "NUL": "{ keypair \0 }",
}  # fmt: skip


@each_case("kind", WRONG)
def test_wrong_queries_are_refused_with_their_errors(http: httpx.Client, kind: str) -> None:
    create(http)
    answer = ask(http, WRONG[kind])
    assert_problem(answer, 400, "/graphql-error")
    assert answer.json()["errors"][0]["message"]


WORDS = {"order": ",".join(["id"] * 600_000), "status": "," * 1_000_000}


@each_case("argument", WORDS)
def test_query_with_a_list_of_very_many_words_is_refused_by_its_name(
    user: httpx.Client, argument: str
) -> None:
    create(user)
    each = f"compute_session_list(limit: 0, offset: 0, {argument}: $text) {{ total_count }}"
    fields = " ".join(f"a{number}: {each}" for number in range(50))
    answer = ask(user, f"query($text: String) {{ {fields} }}", text=WORDS[argument])
    assert_problem(answer, 400, "/graphql-error")
    messages = {error["message"] for error in answer.json()["errors"]}
    assert len(messages) == 1 and f"{argument} must have" in messages.pop()


def test_order_with_keys_that_are_repeated_goes_by_the_first_of_each(user: httpx.Client) -> None:
    for name in ("bbbb", "aaaa"):
        create(user, name)
    items = listed(user, order="status,-name,name,+status")["items"]
    assert [item["name"] for item in items] == ["bbbb", "aaaa"]


def test_query_that_names_every_status_of_the_official_clients_is_answered(
    user: httpx.Client,
) -> None:
    create(user)
    names = (
        "PENDING,SCHEDULED,PULLING,PREPARING,PREPARED,CREATING,RUNNING,RESTARTING,BUILDING,"
        "RUNNING_DEGRADED,TERMINATING,TERMINATED,ERROR,CANCELLED,RESIZING,SUSPENDED,DEPRIORITIZING"
    )
    assert listed(user, status=names)["total_count"] == 1


class EndedSessions:
    """The sessions of a fake daemon: those that are over, and how often they were read."""

    def __init__(self, rows: list[SessionRow]) -> None:
        self._rows = rows
        self.reads = 0

    def ended_rows(self, _: str | None) -> list[SessionRow]:
        self.reads += 1
        return self._rows


def test_query_that_repeats_a_field_reads_the_ended_sessions_once() -> None:
    """Each read takes as long as the owner has ended sessions, and holds the database."""
    row = SessionRow(str(uuid.uuid4()), "ended", "owner", "c", "c", 1.0, status="TERMINATED")
    sessions = EndedSessions([row])
    app: Any = mock.Mock(config=Config(), sessions=sessions)
    root = Root(app, "owner", False, "owner", {}, [], [])
    one = f'compute_session(id: "{row.id}") {{ name }}'
    page = "compute_session_list(limit: 9, offset: 0) { items { name } }"
    fields = " ".join(f"a{n}: {one} b{n}: {page}" for n in range(20))
    result = execute(f"{{ {fields} }}", {}, None, root)
    assert not result.errors and result.data
    assert result.data["a7"] == {"name": "ended"}
    assert result.data["b7"] == {"items": [{"name": "ended"}]}
    assert sessions.reads == 1


@each_case("kind", MALFORMED)
def test_malformed_bodies_are_problems(http: httpx.Client, kind: str) -> None:
    assert_problem(http.post("/admin/gql", content=MALFORMED[kind]), 400)


@pytest.mark.parametrize("variables", [[], "x", {"limit": "x", "offset": 0}, {"limit": 1.5}])
def test_wrong_variables_are_problems(http: httpx.Client, variables: Any) -> None:
    body = {"query": LIST % "id", "variables": variables}
    assert_problem(http.post("/admin/gql", json=body), 400)


@settings(max_examples=examples(60))
@hypothesis.given(st.text("{}()[]:!$=|@,\"'.#& \n_aAqQ019keypair", max_size=60))
def test_no_text_as_a_query_leads_to_500(server: Server, text: str) -> None:
    assert ask(server.client, text).status_code in (200, 400)
