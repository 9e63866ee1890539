"""Parameters of requests: JSON bodies on any method, else the query string, typed and bounded.

Clients send `null` for parameters that they leave open, use several names for one parameter and
add keys that this server does not serve: null means absent, aliases are folded, and unserved.py
decides about other keys. Every route reads its parameters here, also one that has none. File names
that are not UTF-8 come as lone surrogates in JSON or as %XX in a query, and are not changed.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar, get_type_hints
from urllib.parse import parse_qs

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request

from ...errors import Invalid
from ..http.body_budget import count_body
from ..http.body_reader import BodyReader
from ..http.route import Route
from . import unserved
from .ownership import OWNER, name_owner
from .type_words import in_words

BODY_MAX = 2 << 20
"""Bytes of a JSON body."""

VALUES_MAX = 100_000
"""Values of a JSON body: objects, lists, texts, numbers."""

LEVELS_MAX = 64
"""Levels of objects and lists of a JSON body. The parser takes hundreds, of which other code, that
is called more deeply, could not make a text."""

VALUE_COST = 128
"""Bytes that a value of a body counts in the total of all bodies, beside its text."""

_FIELDS_MAX = 100
_WHERE = re.compile(r" - at `\$\.?(.*)`$")


class ParameterSet(msgspec.Struct):
    """The base of all parameters of requests. The record of a route names the class that its
    handler reads (http/route.py), and the OpenAPI document comes from the same classes.

    aliases     other names of parameters -> their own names
    documented  own names -> the aliases that the documentation has instead
    """

    aliases: ClassVar[Mapping[str, str]] = {}
    documented: ClassVar[Mapping[str, str]] = {}


Parameters = TypeVar("Parameters", bound=ParameterSet)


class OwnerParameter(ParameterSet):
    """The parameter of every request, which `name_owner` reads."""

    owner_access_key: str = ""


class NoParameters(ParameterSet):
    """The parameters of a request that takes none."""


class ObjectKeys:
    """The keys of an object among parameters, as an annotation of its field. An object of several
    classes has the keys of all of them."""

    def __init__(self, *kinds: type[ParameterSet]) -> None:
        self.kinds = kinds


@functools.cache
def keys_of(kind: type[ParameterSet]) -> Mapping[str, ObjectKeys]:
    """The objects among the parameters `kind`, by the names of their fields."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        name: mark
        for name, hint in hints.items()
        for mark in getattr(hint, "__metadata__", ())
        if isinstance(mark, ObjectKeys)
    }


def inner(outer: ParameterSet, field: str, kind: type[Parameters]) -> Parameters:
    """The object `field` of the parameters `outer` as `kind`, one of its classes. Raises Invalid
    for a key that no class of the object has."""
    kinds = keys_of(type(outer))[field].kinds
    assert kind in kinds, f"{field} has no keys of {kind.__name__}"
    others = tuple(other for other in kinds if other is not kind)
    return typed(fold(getattr(outer, field), kind.aliases), kind, field, beside=others)


async def parameters(request: Request, kind: type[Parameters]) -> Parameters:
    """The request's parameters as `kind`, which is that of its route.

    Raises Invalid for a malformed body and for keys that are not served, HTTPException 413 for a
    body that is too large.
    """
    content = _route(request).content
    assert content is None or content.part, "the body of this route has no parameters"
    body = await _whole(request)
    if not body:
        return _of_query(request, kind)
    query = _query(request.scope["query_string"], kind)
    if beside := sorted(key for key in query if key != OWNER):
        data = {beside[0]: "parameters are in the body of this request, not in its query"}
        raise Invalid.of(data)
    return body_parameters(request, body, kind)


def body_parameters(request: Request, body: bytes, kind: type[Parameters]) -> Parameters:
    """As `parameters`, from a JSON object that has been read."""
    values = parse(body)
    count_body(request, count_values(values) * VALUE_COST)
    name_owner(request, values)
    values = fold(_without_owner(values), kind.aliases)
    return typed(values, _declared(request, kind), beside=(OwnerParameter,))


def query_parameters(request: HTTPConnection, kind: type[Parameters]) -> Parameters:
    """As `parameters`, for a request whose body has none, or that has no body."""
    return _of_query(request, kind)


def _of_query(request: HTTPConnection, kind: type[Parameters]) -> Parameters:
    """The parameters in the query. Values are texts there, so "true" is a truth value and "1" a
    number."""
    values = _query(request.scope["query_string"], kind)
    name_owner(request, values)
    values = fold(_without_owner(values), kind.aliases)
    return typed(values, _declared(request, kind), beside=(OwnerParameter,), strict=False)


def _route(request: HTTPConnection) -> Route:
    """The record of the route that serves the request."""
    route: Route = request.scope["state"]["route"]
    return route


def _declared(request: HTTPConnection, kind: type[Parameters]) -> type[Parameters]:
    """`kind`, which is the class of the route's record: so the OpenAPI document has the keys that
    are accepted, and no other."""
    route = _route(request)
    assert route.takes is kind, f"{route.path} takes {route.takes.__name__}, not {kind.__name__}"
    return kind


def _without_owner(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != OWNER}


@functools.cache
def _names(kind: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(kind))


def typed(
    values: Mapping[str, Any],
    kind: type[Parameters],
    where: str = "",
    *,
    beside: Iterable[type[msgspec.Struct]] = (),
    strict: bool = True,
) -> Parameters:
    """`values` as `kind`; the keys of `beside` are served too, in another place. Not `strict`:
    values may be texts.

    Raises Invalid naming the field (below `where`) and what is allowed.
    """
    names = _names(kind)
    served = names.union(*map(_names, beside))
    rest = {key: value for key, value in values.items() if key not in served}
    shown = {kind.documented.get(name, name) for name in served}
    unserved.check(rest, kind.__name__, shown, where)
    # msgspec encodes every key that it looks at, and JSON has keys that cannot be encoded
    known = {name: values[name] for name in names if name in values}
    try:
        return msgspec.convert(known, kind, strict=strict)
    except msgspec.ValidationError as error:
        text = str(error)
        match = _WHERE.search(text)
        name = kind.documented.get(match[1], match[1]) if match else ""
        problem = {f"{where}.{name}".strip(".") or "body": in_words(_WHERE.sub("", text))}
        raise Invalid.of(problem) from None
    except UnicodeEncodeError:  # of a text in the place of something else
        raise Invalid.of({where or "body": "a text has no form in UTF-8"}) from None


def fold(values: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    """`values` without nulls, each under its own name; an own name wins over its aliases."""
    folded: dict[str, Any] = {}
    for key, value in values.items():
        name = aliases.get(key, key)
        if value is not None and (name == key or name not in folded):
            folded[name] = value
    return folded


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object that `body` is, in UTF-8. Raises Invalid."""
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError among them
        raise Invalid("Malformed body") from None
    if not isinstance(value, dict):
        raise Invalid("Malformed body", {"body": "a JSON object is expected"})
    count_values(value)
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _query(query: bytes, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The query string; the last of repeated values counts, unless `kind` has a list there."""
    if not query:
        return {}
    text = query.decode("utf-8", "surrogateescape")
    try:
        fields = parse_qs(text, True, errors="surrogateescape", max_num_fields=_FIELDS_MAX)
    except ValueError:
        raise Invalid(f"at most {_FIELDS_MAX} fields in a query are allowed") from None
    lists = _lists(kind)
    return {key: value if key in lists else value[-1] for key, value in fields.items()}


@functools.cache
def _lists(kind: type[msgspec.Struct]) -> frozenset[str]:
    """The names of the parameters `kind` that are lists."""
    return frozenset(
        field.encode_name
        for field in msgspec.structs.fields(kind)
        if isinstance(msgspec.inspect.type_info(field.type), msgspec.inspect.ListType)
    )


async def _whole(request: Request) -> bytes:
    incoming, body = BodyReader(request), bytearray()
    while piece := await incoming.piece():
        body += piece
        if len(body) > BODY_MAX:
            closing = await incoming.drop()
            raise HTTPException(413, f"a body has at most {BODY_MAX} bytes", closing)
        count_body(request, len(piece))
    return bytes(body)


def count_values(value: Any) -> int:
    """The number of values in `value`, itself among them. Raises Invalid above VALUES_MAX, and for
    values within more than LEVELS_MAX others.

    A value of two bytes in JSON takes up to a hundred in memory.
    """
    level, count = [value], 0
    for _ in range(LEVELS_MAX):
        count += len(level)
        if count > VALUES_MAX:
            raise Invalid("Malformed body", {"body": f"at most {VALUES_MAX} values are allowed"})
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return count
    raise Invalid("Malformed body", {"body": f"at most {LEVELS_MAX} levels of values are allowed"})


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
