"""Texts that have no form in UTF-8 are 4xx wherever they are given, and never a 500.

JSON can carry lone surrogates ("\\ud800"), and a query bytes that are none ("%FF"). Where a text is
looked up or kept, the database cannot take them; where something else than a text is expected, its
conversion could not either."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from ..each_case import each_case
from .bad_requests import assert_problem

LONE = "\ud800"
BYTE = "\udcff"  # stands for the byte FF


@each_case("text", [LONE, BYTE])
@each_case(
    "field",
    [
        "image", "name", "config", "type", "cluster_size", "bootstrap_script", "tag", "max_wait",
        "reuseIfExists", "owner_access_key", "dependencies", "mounts", "environ", "resources",
    ],
)  # fmt: skip
def test_session_with_a_lone_surrogate_is_refused(
    http: httpx.Client, field: str, text: str
) -> None:
    body: dict[str, Any] = {"image": "c", "name": "with-surrogates"}
    inner = field in ("mounts", "environ", "resources")
    body |= {"config": {field: text}} if inner else {field: text}
    content = json.dumps(body).encode()
    answer = http.post("/session", content=content)
    if field != "owner_access_key":  # an admin may name an owner that has no keypair any more
        assert_problem(answer, 400)
    assert 400 <= answer.status_code < 500
    assert http.get("/session/with-surrogates").status_code == 404, "nothing is half done"


@each_case("text", [LONE, BYTE])
@each_case("field", ["runId", "live", "offset", "timeout", "limits"])
def test_run_with_a_lone_surrogate_is_refused(
    http: httpx.Client, lasting_session: str, field: str, text: str
) -> None:
    options = {"exec": "true"} | ({} if field == "runId" else {field: text})
    call = {"mode": "batch", "code": "", "options": options}
    call |= {"runId": text} if field == "runId" else {}
    assert_problem(http.post(f"/session/{lasting_session}", content=json.dumps(call).encode()), 400)


@pytest.mark.parametrize("text", [LONE, BYTE, f"x{LONE}y", "\x00"], ids=ascii)
@pytest.mark.parametrize("field", ["code", "stdin", "environ"])
def test_run_whose_text_has_no_form_in_utf8_is_no_internal_error(
    http: httpx.Client, session: str, field: str, text: str
) -> None:
    value = {"X": text} if field == "environ" else text
    options = {"exec": "out x"} | ({} if field == "code" else {field: value})
    call = {"mode": "batch", "code": text if field == "code" else "", "options": options}
    answer = http.post(f"/session/{session}", content=json.dumps(call).encode())
    assert answer.status_code < 500


@pytest.mark.parametrize("text", [LONE, BYTE, f"x{LONE}y", "\x00"], ids=ascii)
def test_input_that_has_no_form_in_utf8_is_no_internal_error(
    http: httpx.Client, session: str, text: str
) -> None:
    call = {"mode": "batch", "runId": "r", "options": {"exec": "ask"}}
    while http.post(f"/session/{session}", json=call).json()["result"]["status"] != "waiting-input":
        call = {"mode": "continue", "runId": "r"}
    call = {"mode": "input", "runId": "r", "code": text}
    answer = http.post(f"/session/{session}", content=json.dumps(call).encode())
    assert answer.status_code < 500


@each_case(
    "path",
    [
        "/session/_/logs?taskId=%FF", "/session/%FF/logs", "/session/%FF", "/folders/%FF",
        "/session/x?owner_access_key=%FF", "/events/session?sessionName=%FF",
        "/folders/_/id?name=%ED%A0%80",
    ],
)  # fmt: skip
def test_session_or_folder_with_a_lone_surrogate_in_its_name_is_not_found(
    http: httpx.Client, path: str
) -> None:
    assert 400 <= http.get(path).status_code < 500


@pytest.mark.parametrize("text", [LONE, BYTE], ids=ascii)
def test_query_for_an_owner_with_a_lone_surrogate_is_refused(http: httpx.Client, text: str) -> None:
    query = (
        "query($x: String) { compute_session_list(limit: 1, offset: 0, access_key: $x) "
        "{ items { id } } }"
    )
    content = json.dumps({"query": query, "variables": {"x": text}}).encode()
    assert_problem(http.post("/admin/gql", content=content), 400)
