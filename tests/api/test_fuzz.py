"""Requests at random to every route: whatever comes, it is answered, and by no 500.

They are built from what the routes understand, so that they get beyond the first check, and from
what nobody should send: wrong types, deep and doubled JSON, broken encodings, huge numbers, odd
queries and headers, bodies in chunks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from sandboxd.api.http.route import WEBSOCKET
from sandboxd.api.routes.table import ROUTES as TABLE

from ..effort import examples
from .conftest import Server

pytestmark = pytest.mark.slow  # a server of its own, and random requests

NAME = "fuzzed"
APART = ("/events/session", "/session/{ref}/hold", "/admin/drain")
"""Routes whose answer has no end of its own, or after which no other gets a good answer."""

ROUTES = sorted(
    (method, route.path)
    for route in TABLE
    if route.methods != WEBSOCKET and route.path not in APART
    for method in (*route.methods.split(), *(["HEAD"] if "GET" in route.methods else []))
)
KEYS = (
    "mode", "code", "runId", "options", "clean", "build", "exec", "stdin", "timeout", "limits",
    "environ", "image", "lang", "name", "session_name", "clientSessionToken", "config", "mounts",
    "mount_map", "mount_options", "mount_ids", "resources", "resource_opts", "mem", "cpu", "shmem",
    "type", "startupCommand", "bootstrap_script", "tag", "clusterSize", "maxWaitSeconds",
    "reuseIfExists", "owner_access_key", "path", "files", "file", "id", "size", "quota", "query",
    "variables", "operationName", "permission", "new_name", "target_path", "src", "dst", "token",
    "dst_dir", "recursive", "parents", "exist_ok", "taskId", "echo", "scope", "eof", "live",
)  # fmt: skip
WORDS = (
    "", "*", "batch", "continue", "input", "complete", "query", NAME, "c", "local", ".", "..",
    "/home/work", "a/../../b", "x\0y", "\ud800", "\udcff", "한글", "512m", "-1", "1e999", "9" * 40,
    "{ keypair { access_key } }", "query($id: UUID!) { compute_session(id: $id) { id } }",
    "{" * 40,
    "00000000-0000-0000-0000-000000000000", "n" * 300,
)  # fmt: skip

texts = st.sampled_from(WORDS) | st.text(st.characters(codec=None), max_size=8)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | texts
    | st.sampled_from([2**63, -(2**63), 10**400, 0, -1, 1e308, 5])
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | texts, inner, max_size=4)
    ),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from(KEYS), values, max_size=6)


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="src"; filename="%s"\r\n\r\nx\r\n--b--\r\n'
)
bodies = st.one_of(
    st.just(b""),
    objects.map(encoded),
    objects.map(lambda body: json.dumps(body).encode("utf-16")),
    objects.map(lambda body: b"{" + b'"mode":1,' * 2 + encoded(body)[1:]),
    values.map(encoded),
    st.binary(max_size=64),
    st.integers(1, 60_000).map(lambda deep: b'{"a":' * deep + b"[" * deep),
    texts.map(lambda name: MULTIPART % name.encode("utf-8", "surrogatepass")),
)
headers = st.dictionaries(
    st.sampled_from((
        "content-type", "content-encoding", "range", "if-range", "upload-offset", "upload-length",
        "tus-resumable", "x-method-override", "x-backendai-version", "x-sandboxd-mode", "accept",
        "host", "date", "authorization", "expect", "cookie",
    )),
    st.sampled_from((
        b"", b"application/json", b"text/plain; charset=utf-16", b"multipart/form-data",
        b"multipart/form-data; boundary=b", b"multipart/form-data; boundary=" + b"b" * 300,
        b"gzip", b"bytes=0-", b"bytes=9-1,2-", b"-1", b"9" * 30, b"0", b"1.0.0", b"DELETE",
        b"v7.20230615", b"v99.1", b"\xff\xfe", b"BackendAI signMethod=HMAC-SHA256, credential=a:b",
        b"application/offset+octet-stream", b"a b:c/d", b"G\xe9T",
    )),
    max_size=4,
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """One request, as httpx takes it."""
    method, path = draw(st.sampled_from(ROUTES))
    if draw(st.integers(0, 9)) == 0:
        method = draw(st.sampled_from(("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW")))
    ref = draw(st.sampled_from((NAME, NAME, NAME, "_", "%00", "%ff", "a%2Fb", "..%2f", "x" * 300)))
    path = path.replace("{ref}", ref).replace("{name}", ref)
    pairs = draw(st.lists(st.tuples(st.sampled_from(KEYS), texts), max_size=3))
    query = "&".join(
        f"{key}={httpx.QueryParams({'v': value.encode('utf-8', 'replace').decode()})}"[:2000]
        for key, value in pairs
    )
    query += draw(st.sampled_from(("", "", "%", "&&=&", "a=%ff%fe", "=" * 50, "&files=x" * 120)))
    body = draw(bodies)
    chunked = draw(st.booleans())
    return {
        "method": method,
        "url": f"{path}?{query}" if query else path,
        "headers": draw(headers),
        "content": iter([body[:7], body[7:]]) if chunked and body else body,
    }


@pytest.fixture(scope="module")
def client(start_fuzzed: Server) -> httpx.Client:
    return start_fuzzed.client


@pytest.fixture(scope="module")
def start_fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that others do not use: sessions and folders come and go here."""
    server = Server(tmp_path_factory.mktemp("fuzz"))
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.log() and "level=error" not in server.log()


@settings(
    max_examples=examples(400),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
@hypothesis.given(request=requests())
def test_no_request_is_answered_500(client: httpx.Client, request: dict[str, Any]) -> None:
    client.post("/session", json={"image": "c", "name": NAME})
    client.post("/folders", json={"name": NAME})
    answer = client.request(**request)
    assert answer.status_code < 500 or answer.status_code == 501, (request, answer.text)
    if answer.status_code >= 400 and request["method"] != "HEAD" and answer.content:
        assert answer.headers["content-type"] == "application/problem+json", request
        assert answer.json()["title"]
