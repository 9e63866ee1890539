"""Requests that the OpenAPI document allows, and requests that break it a little, at every route.

schemathesis makes them from the document. Whatever comes, the response has a status, a media type,
headers and a JSON that the document has for its operation, and no status is 500. A session and a
folder are there before each request, and most requests are aimed at them. schemathesis is imported
where it is used: that takes as long as the import of all other tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from sandboxd.api.access.ownership import OWNER

from ..effort import examples
from ..http_clients import unix_client
from .conformity import the_document
from .conftest import Server

if TYPE_CHECKING:
    from schemathesis import Case

pytestmark = pytest.mark.slow

NAME = "by-the-document"
AIM: dict[str, Any] = {
    "image": "c", "lang": "c", "mode": "batch", "path": ".", "files": ["a"], "file": "a",
    "runId": "run", "name": NAME, "id": NAME, "options": {"exec": "out x"}, "config": {},
}  # fmt: skip
"""Values with which a request gets beyond its first checks."""

ENDLESS = ("/events/session", "/session/{ref}/hold", "/admin/drain")
"""Paths of a response without an end, and of one after which no session begins."""

METHODS = ("get", "put", "post", "delete", "patch", "head", "options")
OPERATIONS = [
    f"{method.upper()} {path}"
    for path, item in the_document()["paths"].items()
    for method in item
    if method in METHODS and not path.startswith(ENDLESS)
]


@pytest.fixture(scope="module")
def operations() -> dict[str, Any]:
    """The operations of the document; one that schemathesis cannot read fails all tests."""
    import schemathesis
    from schemathesis.core.result import Ok

    schemathesis.openapi.media_type("application/offset+octet-stream", st.binary(max_size=64))
    results = list(schemathesis.openapi.from_dict(the_document()).get_all_operations())
    assert all(isinstance(result, Ok) for result in results), results
    return {result.ok().label: result.ok() for result in results if isinstance(result, Ok)}


@pytest.fixture(scope="module")
def server_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server that other tests do not use. schemathesis checks the responses here."""
    server = Server(tmp_path_factory.mktemp("document"))
    with unix_client(server.path) as http:
        yield http
    assert server.stop() == 0
    assert "Traceback" not in server.log() and "level=error" not in server.log()


def aim(case: Case[Any], aims: int) -> None:
    """Point a case at the session and the folder; each bit of `aims` is for one kind of value."""
    if aims & 1:
        case.path_parameters.update(dict.fromkeys(case.path_parameters, NAME))
    if aims & 2:
        for values in (case.query, case.body):
            if isinstance(values, dict):
                values.pop(OWNER, None)
                values.update({key: AIM[key] for key in values if key in AIM})
    if aims & 4 and case.method in ("POST", "PUT", "PATCH") and isinstance(case.body, dict):
        case.query.clear()


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1", "replace")


def encoded(case: Case[Any]) -> dict[str, Any]:
    """The request of a case, as httpx takes it."""
    import requests

    prepared = requests.Request(**case.as_transport_kwargs(base_url="http://sandboxd")).prepare()
    body = prepared.body or b""
    return {
        "method": prepared.method,
        "url": prepared.url,
        "headers": [(_bytes(name), _bytes(value)) for name, value in prepared.headers.items()],
        "content": body.encode() if isinstance(body, str) else body,
    }


@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
@pytest.mark.parametrize("label", OPERATIONS)
def test_response_is_one_of_the_document(
    server_of_all: httpx.Client, operations: dict[str, Any], label: str, mode: str
) -> None:
    from schemathesis import GenerationMode
    from schemathesis.specs.openapi import checks

    cases = operations[label].as_strategy(GenerationMode[mode])

    @settings(
        max_examples=examples(5), database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @hypothesis.given(case=cases, aims=st.integers(0, 15))
    def send(case: Case[Any], aims: int) -> None:
        server_of_all.post("/session", json={"image": "c", "name": NAME})
        server_of_all.post("/folders", json={"name": NAME})
        aim(case, aims | 1 if aims < 8 else 15)
        response = server_of_all.request(**encoded(case))
        assert response.status_code < 500 or response.status_code == 501, response.text
        case.validate_response(
            response,
            checks=[
                checks.status_code_conformance,
                checks.content_type_conformance,
                checks.response_headers_conformance,
                checks.response_schema_conformance,
            ],
        )

    send()
