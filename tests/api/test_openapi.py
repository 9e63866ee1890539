"""The OpenAPI document: it is valid, and has every route, method and key, and no other.

The clients of the tests check every response by it (conformity.py), and test_schemathesis.py sends
what it allows.
"""

from __future__ import annotations

import json

import msgspec
import pytest
from starlette.requests import Request

from sandboxd.api.access.ownership import OWNER
from sandboxd.api.access.parameters import (
    NoParameters,
    ParameterSet,
    fold,
    keys_of,
    query_parameters,
    typed,
)
from sandboxd.api.access.unserved import UNASKED
from sandboxd.api.http.problems import TABLE
from sandboxd.api.http.route import WEBSOCKET, Access, Nothing, Route
from sandboxd.api.openapi.operations import refusals
from sandboxd.api.routes.table import ROUTES
from sandboxd.errors import Invalid

from ..each_case import each_case
from .conformity import Schema, the_document
from .conftest import Server

HTTP = [route for route in ROUTES if route.methods != WEBSOCKET]


OPERATIONS = [(route, method.lower()) for route in HTTP for method in route.methods.split()]
EVERY_OPERATION = each_case("route, method", OPERATIONS)


def operation_of(route: Route, method: str) -> Schema:
    operation: Schema = the_document()["paths"][route.path][method]
    return operation


def whole(schema: Schema) -> Schema:
    """A schema, or the one that it refers to."""
    if "$ref" not in schema:
        return schema
    *_, kind, name = schema["$ref"].split("/")
    component: Schema = the_document()["components"][kind][name]
    return component


def test_document_is_served_to_everybody_without_a_signature(server: Server) -> None:
    with server.signed(None) as stranger:
        answer = stranger.get("/openapi.json")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == the_document()


@pytest.mark.slow
def test_document_is_valid_openapi() -> None:
    from openapi_spec_validator import OpenAPIV31SpecValidator  # its import takes long

    assert the_document()["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(the_document()).iter_errors()) == []


def test_document_has_every_route_and_method_and_no_other() -> None:
    documented = {
        (method, path)
        for path, item in the_document()["paths"].items()
        for method in item
        if method not in ("summary", "description")
    }
    assert documented == {(m.lower(), route.path) for route in HTTP for m in route.methods.split()}
    assert set(the_document()["paths"]) == {route.path for route in ROUTES}


def test_every_websocket_is_described_in_words() -> None:
    for route in ROUTES:
        if route.methods == WEBSOCKET:
            item = the_document()["paths"][route.path]
            assert item.keys() == {"summary", "description"}
            assert item["summary"].startswith("A WebSocket.")
            assert not route.frames or route.frames.strip() in item["description"]


def accepted(kind: type[msgspec.Struct]) -> set[str]:
    """The keys that the decoder takes for `kind`: those that its refusal of another key names,
    aliases, and keys that clients send unasked."""
    with pytest.raises(Invalid) as refused:
        typed({"none of them": 1}, kind)  # type: ignore[type-var]  # Nothing, too
    (text,) = refused.value.data.values()
    names = text.partition("known are ")[2]
    own = set(names.split(", ")) if names else set()
    aliases = kind.aliases if issubclass(kind, ParameterSet) else {}
    documented = kind.documented if issubclass(kind, ParameterSet) else {}
    assert documented.items() <= {(name, alias) for alias, name in aliases.items()}
    own = {next((name for name in documented if documented[name] == key), key) for key in own}
    for alias, name in aliases.items():
        assert fold({alias: 1}, aliases) == {name: 1}
    return own | set(aliases) | set(UNASKED.get(kind.__name__, ()))


def documented(operation: Schema) -> set[str]:
    """The keys of parameters, in the query or in the body."""
    parameters = [whole(one) for one in operation["parameters"]]
    keys = {one["name"] for one in parameters if one["in"] == "query"}
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        keys |= set(whole(content["application/json"]["schema"])["properties"])
    return keys


@EVERY_OPERATION
def test_operation_has_every_key_that_the_decoder_accepts_and_no_other(
    route: Route, method: str
) -> None:
    keys = documented(operation_of(route, method))
    owner = {OWNER} if route.access is Access.OWNER else set()
    assert keys == accepted(route.takes) | owner


@each_case("kind", dict.fromkeys(route.takes for route in HTTP))
def test_object_among_parameters_has_every_key_of_its_classes_and_no_other(
    kind: type[msgspec.Struct],
) -> None:
    if kind in (Nothing, NoParameters):
        return
    assert issubclass(kind, ParameterSet)
    for name, keys in keys_of(kind).items():
        inner = the_document()["components"]["schemas"][kind.__name__]["properties"][name]
        (schema,) = [one for one in inner["anyOf"] if one.get("type") == "object"]
        expected = {key for one in keys.kinds for key in accepted(one)}
        assert set(schema["properties"]) == expected


def test_operation_has_the_statuses_of_its_record() -> None:
    for route, method in OPERATIONS:
        own = {str(response.status) for response in route.responses}
        expected = own | {str(status) for status in refusals(route)}
        assert set(operation_of(route, method)["responses"]) == expected, (method, route.path)


def test_every_refusal_is_a_problem_document() -> None:
    for route, method in OPERATIONS:
        responses = operation_of(route, method)["responses"]
        for status in refusals(route):
            content = whole(responses[str(status)])["content"]
            schema = whole(content["application/problem+json"]["schema"])
            assert schema["title"] == "Problem", (method, route.path, status)


def test_every_status_of_a_problem_has_a_description_with_its_types() -> None:
    responses = the_document()["components"]["responses"]
    for status, suffix, title in TABLE.values():
        if status != 500:
            assert f"`{suffix}`: {title}" in responses[str(status)]["description"]


def test_operation_requires_a_signature_where_its_route_does() -> None:
    signed: list[Schema] = [{"signature": []}, {}]  # none at the Unix socket
    for route, method in OPERATIONS:
        expected = signed if route.access.is_signed else []
        assert operation_of(route, method)["security"] == expected, (method, route.path)


def test_bodies_that_are_no_json_have_the_media_types_that_the_routes_take() -> None:
    media = {
        (method, path): set(item[method]["requestBody"]["content"])
        for path, item in the_document()["paths"].items()
        for method in item
        if "requestBody" in item[method]
        and "application/json" not in item[method]["requestBody"]["content"]
    }
    assert media == {
        ("post", "/session/{ref}/upload"): {"multipart/form-data"},
        ("put", "/session/{ref}/archive"): {"application/x-tar", "application/octet-stream"},
        ("put", "/session/{ref}/stdin"): {"application/octet-stream"},
        ("patch", "/folders/_/tus/upload"): {"application/offset+octet-stream"},
    }


class OtherParameters(ParameterSet):
    """Parameters of no route."""


def test_decoder_reads_only_the_parameters_that_the_record_of_a_route_names() -> None:
    for route in HTTP:
        scope = {"type": "http", "query_string": b"", "headers": [], "state": {"route": route}}
        refusal = f"takes {route.takes.__name__}, not OtherParameters"
        with pytest.raises(AssertionError, match=refusal):
            query_parameters(Request(scope), OtherParameters)


def test_document_names_every_default_that_the_decoder_fills_in() -> None:
    for kind in {route.takes for route in HTTP}:
        schema = the_document()["components"]["schemas"][kind.__name__]
        for field in msgspec.structs.fields(kind):
            if isinstance(field.default, (str, int, float, bool)):
                default = schema["properties"][field.encode_name]["default"]
                assert json.dumps(default) == json.dumps(field.default)
