"""The OpenAPI 3.1 document of the API, from the records of its routes. No I/O.

The records check the requests, so the document cannot say something else than the server does: keys
of parameters come from the classes that the decoder fills, shapes of responses from the annotations
of handlers, refusals from the table of problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import __version__
from ..access import signature
from ..access.ownership import OWNER
from ..access.request_checks import VERSIONS
from ..http.problems import Problem
from ..http.route import WEBSOCKET, Access, Route
from . import operations
from .schemas import Schema, Schemas

_ABOUT = """\
Batch runs of untrusted programs, in the form of the Backend.AI session API.

Parameters are a JSON object in the body, with any method, or the query string if there is no body.
This document shows one of the two places. Null is the same as an absent key. A name that is not
UTF-8 has lone surrogates in JSON, and %XX in a query.

`X-Method-Override` names the method of a request whose client can send only some methods. HEAD is
served wherever GET is. Any request may have an `X-Request-Id`, 1 to 128 characters of
A-Z a-z 0-9 . _ : -, which the response and the log repeat. A request with an incomplete or
malformed head is refused with 400, 408 or 431 before its route is known; an unknown path with 404,
an unknown method with 405.

A refusal is a problem document (RFC 9457). A status 500 is a bug.
"""

_SIGNATURE = """\
The header `Authorization: BackendAI signMethod=HMAC-SHA256, credential=ACCESS_KEY:SIGNATURE`.
Requests on a plain Unix socket need none: the kernel names the user, and the owner is `uid:N`.
Neither do requests over TCP to a daemon with `auth = "none"`; their owner is `uid:0`.
"""


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The document."""
    http = [route for route in routes if route.methods != WEBSOCKET]
    shapes = [
        shape
        for route in http
        for response in route.responses
        for shape in operations.shapes_of(route, response)
    ]
    kinds = {route.takes: None for route in http}
    with_owner = {route.takes for route in http if route.access is Access.OWNER}
    schemas = Schemas(kinds, [*_unique(shapes), Problem], with_owner)
    paths = _paths(routes, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sandboxd",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": _components(http, schemas),
    }


def _unique(shapes: Sequence[Any]) -> list[Any]:
    """The shapes without repetitions; not all of them can be in a set."""
    unique: list[Any] = []
    for shape in shapes:
        if shape not in unique:
            unique.append(shape)
    return unique


def _paths(routes: Sequence[Route], schemas: Schemas) -> Schema:
    paths: Schema = {}
    for route in routes:
        item = paths.setdefault(route.path, {})
        if route.methods == WEBSOCKET:
            item |= operations.websocket(route)
            continue
        for method in route.methods.split():
            item[method.lower()] = operations.operation(route, method, schemas)
    return paths


def _components(http: Sequence[Route], schemas: Schemas) -> Schema:
    statuses = sorted({status for route in http for status in operations.refusals(route)})
    return {
        "schemas": dict(sorted(schemas.components.items())),
        "responses": {str(status): operations.refusal(status) for status in statuses},
        "headers": {
            name: {"description": meaning, "schema": {"type": "string"}}
            for name, meaning in operations.HEADERS.items()
        },
        "parameters": {
            "Owner": {
                "name": OWNER, "in": "query", "schema": {"type": "string"},
                "description": "an access key; an admin acts for its owner",
            },
            "Version": {
                "name": "X-BackendAI-Version", "in": "header",
                "schema": {"enum": sorted(VERSIONS)},
                "description": "the version of the API; required with a signature",
            },
        },
        "securitySchemes": {
            "signature": {
                "type": "http", "scheme": "BackendAI",
                "description": f"{_SIGNATURE}\n{_text(signature.__doc__)}",
            },
        },
    }  # fmt: skip


def _text(docstring: str | None) -> str:
    """A docstring without its first line, which is for readers of the code."""
    return (docstring or "").partition("\n\n")[2].strip()
