"""The parameters of all routes: bodies, queries, sizes, and the options in them."""

from __future__ import annotations

import functools
import sys
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import strategies as st
from starlette.requests import Request

from sandboxd.api.access.parameters import (
    NoParameters,
    ParameterSet,
    fold,
    inner,
    keys_of,
    parse,
    query_parameters,
    typed,
)
from sandboxd.api.folders.attachments import attachments
from sandboxd.api.folders.registry import new_row
from sandboxd.api.http.responses import to_json
from sandboxd.api.http.route import WEBSOCKET, Nothing
from sandboxd.api.options import batch, granted_limits, limit_values, variables
from sandboxd.api.routes import create_session, execute
from sandboxd.api.routes.table import ROUTES
from sandboxd.config.settings import Config
from sandboxd.errors import NotFound
from sandboxd.model import MAY_BE_ZERO
from sandboxd.runtimes import Runtime
from sandboxd.store.sessions import SessionRow

from .refusals import attempt
from .values import changed, effort, encoded, objects, scalars, small_effort, values

KINDS = sorted(
    {
        route.takes
        for route in ROUTES
        if route.methods != WEBSOCKET and route.takes not in (Nothing, NoParameters)
    },
    key=lambda kind: kind.__name__,
)

# -- bodies and queries


@effort
@hypothesis.given(
    objects("a", "mode").map(encoded) | values().map(encoded) | st.binary(max_size=60)
)
def test_body_is_a_json_object_or_refused(body: bytes) -> None:
    assert isinstance(attempt(lambda: parse(body)), dict | None)


def keys(kind: type[msgspec.Struct]) -> list[str]:
    aliases = kind.aliases if issubclass(kind, ParameterSet) else {}
    return [*(field.encode_name for field in msgspec.structs.fields(kind)), *aliases]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@small_effort
@hypothesis.given(data=st.data())
def test_parameters_of_every_route_are_read_or_refused(
    kind: type[ParameterSet], data: st.DataObject
) -> None:
    sent = data.draw(st.dictionaries(st.sampled_from(keys(kind)), values(*keys(kind)), max_size=5))
    whole = attempt(lambda: typed(fold(parse(encoded(sent)), kind.aliases), kind))
    if whole is None:
        return
    for name, mark in keys_of(kind).items():
        for one in mark.kinds:
            attempt(functools.partial(inner, whole, name, one))


QUERY_VALUES = (b"nan", b"inf", b"-1", b"true", b"1e999", b"%ff", b"%00", b"%", b"9" * 50)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@small_effort
@hypothesis.given(data=st.data())
def test_query_of_every_route_is_read_or_refused(
    kind: type[ParameterSet], data: st.DataObject
) -> None:
    names = st.sampled_from([*keys(kind), "owner_access_key"]).map(str.encode)
    text = st.binary(max_size=12) | st.sampled_from(QUERY_VALUES)
    pairs = data.draw(st.lists(st.tuples(names, text), max_size=5))
    query = b"&".join(name + b"=" + value for name, value in pairs)
    route = next(route for route in ROUTES if route.takes is kind)
    scope = {"type": "http", "query_string": query, "headers": [], "state": {"route": route}}
    whole = attempt(lambda: query_parameters(Request(scope), kind))
    for value in msgspec.structs.asdict(whole).values() if whole else ():
        assert value == value, "NaN is no value of a client"


# -- sizes, durations, limits

DEFAULT = Config()


FIELDS = sorted({*limit_values.RUN_LIMITS.values(), "shm"})


@effort
@hypothesis.given(scalars | values(), st.sampled_from(FIELDS))
def test_limit_is_a_number_in_the_range_of_the_warden_or_refused(value: Any, field: str) -> None:
    number = attempt(lambda: limit_values.amount(field, value, "x"))
    least = 0 if field in MAY_BE_ZERO else sys.float_info.min
    assert number is None or number >= least
    if number is not None:
        limits, _ = granted_limits.granted({field: number}, DEFAULT.ceiling)
        assert least <= limits[field] <= getattr(DEFAULT.ceiling, field)
        to_json(
            granted_limits.clamp_fields(granted_limits.granted({field: number}, DEFAULT.ceiling)[1])
        )


SETTINGS: dict[str, Any] = {
    "environ": {"A": "b"}, "resources": {"mem": "512m", "cpu": "1"},
    "resource_opts": {"shmem": "64m", "disk": "32m"}, "mounts": ["data"],
    "mount_map": {"data": "x"}, "mount_options": {"data": {"permission": "ro"}},
}  # fmt: skip


@effort
@hypothesis.given(changed(SETTINGS))
def test_settings_of_a_session_are_read_or_refused(config: dict[str, Any]) -> None:
    sent = {"image": "c", "config": config}

    def read() -> None:
        body = typed(fold(parse(encoded(sent)), {}), create_session.CreateSession)
        read = inner(body, "config", create_session.SessionSettings)
        variables.checked(read.environ, "config.environ")
        create_session._resources(read)
        attachments(
            [*read.mounts, *read.mount_ids],
            read.mount_map | read.mount_id_map,
            read.mount_options,
            _folder,
        )

    attempt(read)


def _folder(name: str) -> Any:
    if name == "data":
        return new_row("data", "local", 1 << 30, "rw")
    raise NotFound("folder", "there is none")


OPTIONS: dict[str, Any] = {
    "clean": "*", "build": "*", "exec": "./main", "stdin": "x", "timeout": {"exec": 5},
    "limits": {"exec": {"mem": "64m", "pids": 5}}, "environ": {"A": 1}, "live": True,
    "offset": {"console": 0, "steps": 0}, "console": "base64", "input": "stream",
}  # fmt: skip


@effort
@hypothesis.given(changed(OPTIONS) | st.just(OPTIONS))
def test_options_of_a_run_become_a_plan_or_are_refused(options: dict[str, Any]) -> None:
    row = SessionRow("i", "n", "o", "c", "c", 0.0, limits={"memory": 1 << 26})
    runtime = Runtime("c", "C", build="make", exec="./main", environ={})

    def plan() -> Any:
        call = typed(fold(parse(encoded({"options": options})), {}), execute.Call)
        execute.cursor_of(inner(call, "options", execute.CallOptions).offset)
        return batch.plan(inner(call, "options", batch.BatchOptions), row, runtime, DEFAULT)

    if result := attempt(plan):
        for step in result.steps:
            assert step.limits.memory <= 1 << 26
