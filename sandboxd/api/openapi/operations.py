"""The operations of the OpenAPI document: one for each method of a route. No I/O."""

from __future__ import annotations

import inspect
import re
from typing import Any, get_args, get_origin, get_type_hints

from ..access.parameters import NoParameters
from ..access.unserved import UNASKED
from ..http.problems import MEDIA_TYPE, titles
from ..http.responses import JsonResponse
from ..http.route import JSON, WEBSOCKET, Access, Header, Nothing, ResponseSpec, Route
from .schemas import Schema, Schemas, aliases_of

ALWAYS = (400, 408, 429, 431, 503)
"""Statuses of refusals that every request may get."""

PATHS = {
    "ref": "the UUID or the name of a session",
    "name": "the UUID or the name of a virtual folder",
}
HEADERS = {
    "X-Request-Id": "the id of the request in the log of the server",
    "X-RateLimit-Limit": "requests that the caller may make within the window",
    "X-RateLimit-Remaining": "requests of these that are left",
    "X-RateLimit-Window": "seconds of the window",
}
"""Headers of every response -> their meaning."""

RETRY = {"Retry-After": "seconds after which a new request makes sense"}
REFUSAL_HEADERS = {401: {"WWW-Authenticate": "BackendAI"}, 429: RETRY, 503: RETRY}

_WITH_BODY = ("POST", "PUT", "PATCH")
"""Methods whose parameters are documented as a body. The decoder takes either place for all."""

_SUBJECT = re.compile(r"^(?:[A-Z]+(?: or [A-Z]+)*|WebSocket) \S+(?: and \S+)?: ")
_RAISES = re.compile(r"\s*Raises [^.]*\.")


def shapes_of(route: Route, response: ResponseSpec) -> tuple[Any, ...]:
    """The types that the JSON of a response may have; none: it has no JSON."""
    if JSON not in response.media:
        return ()
    if response.shape is not None:
        return response.shape if isinstance(response.shape, tuple) else (response.shape,)
    returned = get_type_hints(route.handler)["return"]
    assert get_origin(returned) is JsonResponse, f"{route.path} has a response without a shape"
    return get_args(returned)


def summary_and_description(route: Route) -> tuple[str, str]:
    """A line about a route, and the rest of the text; from the docstring of its handler."""
    text = inspect.cleandoc(route.handler.__doc__ or "")
    text = _RAISES.sub("", _SUBJECT.sub("", text, count=1))
    first, _, rest = text.partition("\n\n")
    line = " ".join(first.split())
    return line[:1].upper() + line[1:], rest


def refusals(route: Route) -> list[int]:
    """The statuses of refusals that a route may give."""
    statuses = {*ALWAYS, *route.refuses}
    if route.access is Access.TOKEN:
        statuses |= {401, 404}
    elif route.access is not Access.OPEN:
        statuses |= {401, 403}
    else:
        statuses.add(403)  # a web page, where requests are unsigned
    if "{" in route.path:
        statuses.add(404)
    if route.takes is not Nothing or route.content:
        statuses.add(413)
    return sorted(statuses)


def operation(route: Route, method: str, schemas: Schemas) -> Schema:
    """The operation of one method."""
    summary, description = summary_and_description(route)
    result: Schema = {
        "operationId": "_".join([method.lower(), *re.findall(r"[\w-]+", route.path)]),
        "summary": summary,
        "tags": [_tag(route.path)],
        "parameters": _parameters(route, method, schemas),
        "responses": _responses(route, schemas),
        "security": [{"signature": []}, {}] if route.access.is_signed else [],
    }
    if description:
        result["description"] = description
    if body := _body(route, method, schemas):
        result["requestBody"] = body
    return result


def websocket(route: Route) -> Schema:
    """The text about a WebSocket, for which OpenAPI has no operations."""
    assert route.methods == WEBSOCKET
    summary, description = summary_and_description(route)
    keys = ", ".join(route.takes.__struct_fields__)
    frames = f"```text\n{route.frames.strip()}\n```" if route.frames else ""
    parts = [description, frames, f"Parameters of the query: {keys}." if keys else ""]
    text = "\n\n".join(part.strip() for part in parts if part)
    return {"summary": f"A WebSocket. {summary}", "description": text}


def _tag(path: str) -> str:
    first = path.strip("/").partition("/")[0]
    return {"session": "sessions", "stream": "sessions", "events": "sessions"}.get(
        first, first if first in ("folders", "admin") else "server"
    )


def _parameters(route: Route, method: str, schemas: Schemas) -> list[Schema]:
    parameters: list[Schema] = [
        {
            "name": name, "in": "path", "required": True, "description": PATHS[name],
            "schema": {"type": "string", "pattern": "^[^/]+$"},
        }
        for name in re.findall(r"{(\w+)}", route.path)
    ]  # fmt: skip
    if (route.content and not route.content.part) or method not in _WITH_BODY:
        parameters += _query(route, schemas)
    if route.access is Access.OWNER:
        parameters.append({"$ref": "#/components/parameters/Owner"})
    parameters += [_header(header) for header in route.headers]
    return [*parameters, {"$ref": "#/components/parameters/Version"}]


def _query(route: Route, schemas: Schemas) -> list[Schema]:
    kind = route.takes
    required = set(schemas.required(kind)) - set(aliases_of(kind).values())
    fields = schemas.fields(kind)
    unasked = UNASKED.get(kind.__name__, {})
    fields |= {
        name: {"enum": ["", *values], "description": "has no effect"}
        for name, values in unasked.items()
        if name not in fields
    }
    return [
        {
            "name": name, "in": "query", "required": name in required,
            "schema": {key: value for key, value in schema.items() if key != "description"},
            **({"description": schema["description"]} if "description" in schema else {}),
        }
        for name, schema in fields.items()
    ]  # fmt: skip


def _header(header: Header) -> Schema:
    return {
        "name": header.name, "in": "header", "required": header.required,
        "description": header.meaning, "schema": dict(header.schema),
    }  # fmt: skip


def _body(route: Route, method: str, schemas: Schemas) -> Schema | None:
    if content := route.content:
        media: Schema = {one: {"schema": _bytes(one)} for one in content.media}
        if content.part:
            media[JSON] = {"schema": schemas.of(route.takes)}
            for one in content.media:
                media[one] = {"schema": _form(one, content.part, schemas.of(route.takes))}
        return {
            "description": content.meaning, "required": content.required, "content": media,
        }  # fmt: skip
    kind = route.takes
    if method not in _WITH_BODY or kind in (Nothing, NoParameters):
        return None
    schema = schemas.of(kind)
    return {"required": bool(schemas.required(kind)), "content": {JSON: {"schema": schema}}}


def _bytes(media: str) -> Schema:
    """The schema of a body that is no JSON."""
    if media != "multipart/form-data":
        return {}  # any bytes: OpenAPI 3.1, 4.8.14.3
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    return {
        "type": "object",
        "additionalProperties": {"type": "array", "items": file},
        "minProperties": 1,
    }


def _form(media: str, part: str, parameters: Schema) -> Schema:
    """The schema of a form whose part `part` has the parameters."""
    schema = {key: value for key, value in _bytes(media).items() if key != "minProperties"}
    return {**schema, "properties": {part: parameters}, "required": [part]}


def _responses(route: Route, schemas: Schemas) -> Schema:
    responses: Schema = {
        str(status): {"$ref": f"#/components/responses/{status}"} for status in refusals(route)
    }
    for response in route.responses:
        some = [schemas.of(shape) for shape in shapes_of(route, response)]
        schema = {"schema": {"anyOf": some} if some[1:] else some[0]} if some else {}
        content: Schema = dict.fromkeys(response.media, schema)
        if str(response.status) in responses:  # a report on health may have the status of a refusal
            content |= refusal(response.status)["content"]
        responses[str(response.status)] = {
            "description": response.meaning or summary_and_description(route)[0],
            "headers": _headers(HEADERS | dict(response.headers)),
            **({"content": content} if content else {}),
        }
    return dict(sorted(responses.items()))


def refusal(status: int) -> Schema:
    """The response of a refusal, a problem document."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": "\n".join(titles(status)),
        "headers": _headers(HEADERS | REFUSAL_HEADERS.get(status, {})),
        "content": {MEDIA_TYPE: {"schema": schema}},
    }


def _headers(headers: dict[str, str]) -> Schema:
    return {
        name: {"$ref": f"#/components/headers/{name}"}
        if name in HEADERS
        else {"description": meaning, "schema": {"type": "string"}}
        for name, meaning in headers.items()
    }
