"""The check of responses by the OpenAPI document: their status, media type, and JSON.

The clients of the tests check every response that they get (conftest.py), so the document cannot
say less than the server does. The shapes of the document may be extended later, so a client has to
ignore unknown members; here such a member is a fault, because the document does not have it.
"""

from __future__ import annotations

import copy
import functools
import json
import re
from typing import Any

import httpx
import jsonschema_rs

from sandboxd.api.openapi.document import document
from sandboxd.api.routes.table import ROUTES

Schema = dict[str, Any]


@functools.cache
def the_document() -> Schema:
    """The document as a client reads it."""
    whole: Schema = json.loads(json.dumps(document(ROUTES)))
    return whole


@functools.cache
def _closed() -> Schema:
    """The components of the document; objects of responses have no other members."""
    components = copy.deepcopy(the_document()["components"])
    for schema in components["schemas"].values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    return {"components": components}


@functools.cache
def _paths() -> list[tuple[re.Pattern[str], Schema]]:
    return [
        (re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))), item)
        for path, item in the_document()["paths"].items()
    ]


@functools.cache
def _validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(json.loads(schema) | _closed())


def check(response: httpx.Response) -> None:
    """Fail unless the document has the response. Unknown paths and methods are not its subject."""
    operation = _operation(response.request)
    if operation is None:
        return
    expected = operation["responses"].get(str(response.status_code))
    where = f"{response.request.method} {response.request.url.path}"
    assert expected, f"{where}: the status {response.status_code} is not documented"
    if "$ref" in expected:
        expected = the_document()["components"]["responses"][expected["$ref"].rpartition("/")[2]]
    if response.request.method == "HEAD":
        return
    _check_content(response, expected.get("content", {}), where)


def _operation(request: httpx.Request) -> Schema | None:
    method = request.headers.get("x-method-override", request.method).strip().lower()
    for path, item in _paths():
        if path.fullmatch(request.url.path):
            operation: Schema | None = item.get("get" if method == "head" else method)
            return operation or item.get(method)
    return None


def _check_content(response: httpx.Response, content: Schema, where: str) -> None:
    media = response.headers.get("content-type", "").partition(";")[0]
    if not media:
        assert not content, f"{where}: a response without content is not documented"
        return
    assert media in content, f"{where}: {media} is not documented for {response.status_code}"
    if schema := content[media].get("schema"):
        validator = _validator(json.dumps(schema))
        error = next(validator.iter_errors(_printable(json.loads(response.read()))), None)
        assert error is None, f"{where}: {error}"


def _printable(value: Any) -> Any:
    """`value` without lone surrogates, which the validator does not take."""
    if isinstance(value, dict):
        return {_printable(key): _printable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_printable(one) for one in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
