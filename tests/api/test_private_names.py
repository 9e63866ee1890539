"""The names of uvicorn and websockets that are not public, and that our protocols rely on.

The subclasses in sandboxd/api/http and uvicorn_servers.py override methods and use attributes that
these libraries do not document. Another release may rename one without a word. So each is listed
here with its signature, and this test fails where the installed release differs.
"""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import textwrap
from asyncio import selector_events
from typing import Any

from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import Server, ServerState
from websockets.protocol import Protocol
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

from sandboxd.api.http.connections import Bounded, Connections
from sandboxd.api.http.delivery import Delivering
from sandboxd.api.http.http_protocol import HttpProtocol
from sandboxd.api.http.ws_protocol import Handshake, WebSocketProtocol
from sandboxd.api.uvicorn_servers import ApiServer, MonitorServer, _RestingServer

from ..each_case import each_case

METHODS: dict[type, dict[str, str]] = {
    HttpToolsProtocol: {
        "__init__": "self config server_state app_state _loop",
        "connection_made": "self transport",
        "connection_lost": "self exc",
        "data_received": "self data",
        "eof_received": "self",
        "pause_writing": "self",
        "resume_writing": "self",
        "handle_websocket_upgrade": "self",
        "on_message_begin": "self",
        "on_header": "self name value",
        "on_headers_complete": "self",
        "on_message_complete": "self",
        "on_response_complete": "self",
        "send_400_response": "self msg",
    },
    WebSocketsSansIOProtocol: {
        "__init__": "self config server_state app_state _loop",
        "connection_made": "self transport",
        "connection_lost": "self exc",
        "data_received": "self data",
        "pause_writing": "self",
        "resume_writing": "self",
        "handle_connect": "self event",
        "handle_cont": "self event",
        "handle_ping": "self",
        "on_task_complete": "self task",
        "send_receive_event_to_app": "self",
        "receive": "self",
        "send": "self message",
    },
    FlowControl: {"drain": "self"},
    Server: {
        "__init__": "self config",
        "serve": "self sockets",
        "startup": "self sockets",
        "capture_signals": "self",
        "main_loop": "self",
    },
    ServerState: {"__init__": "self"},
    Protocol: {"fail": "self code reason", "data_to_send": "self"},
    ServerProtocol: {
        "__init__": "self origins extensions subprotocols select_subprotocol state max_size logger",
        "send_response": "self response",
        "reject": "self status text",
    },
}
"""The methods that we override or call, with the names of their parameters."""

ATTRIBUTES: dict[type, set[str]] = {
    HttpToolsProtocol: {
        "client", "cycle", "flow", "headers", "loop", "pipeline", "scope", "server_state",
        "transport", "url",
    },
    WebSocketsSansIOProtocol: {
        "client", "close_sent", "close_timer", "conn", "curr_msg_data_type", "frames",
        "handshake_complete",
        "handshake_initiated", "loop", "queue", "read_paused", "response", "scope",
        "transport", "writable",
    },
    RequestResponseCycle: {
        "body", "keep_alive", "more_body", "response_complete", "response_started", "scope",
        "transport",
    },
    ServerState: {"connections", "default_headers"},
    Server: {"server_state", "should_exit", "started"},
    Protocol: {"current_size", "handshake_exc", "reader"},
    StreamReader: {"buffer"},
}  # fmt: skip
"""The attributes that we read or set."""

SUBCLASSES = (
    ((HttpProtocol, Bounded, Delivering), HttpToolsProtocol),
    ((WebSocketProtocol, Bounded, Delivering), WebSocketsSansIOProtocol),
    ((Connections,), ServerState),
    ((ApiServer, MonitorServer, _RestingServer), Server),
    ((Handshake,), ServerProtocol),
)
"""Our classes with the class of a library that they complete."""


def differs(name: str) -> str:
    """The sentence for the reader who has installed another release."""
    uvicorn, websockets = map(importlib.metadata.version, ("uvicorn", "websockets"))
    return (
        f"uvicorn {uvicorn} with websockets {websockets} has no {name}, on which sandboxd relies: "
        "read sandboxd/api/http/ and uvicorn_servers.py against this release, and change them, or "
        "the bounds in pyproject.toml"
    )


def own_attributes(owner: type) -> dict[str, bool]:
    """The attributes of `self` that the code of a class uses; true for those that it sets."""
    names: dict[str, bool] = {}
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(owner)))):
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=context):
                names[name] = names.get(name, False) or isinstance(context, ast.Store)
    return names


def rows(table: dict[type, Any]) -> list[tuple[type, str]]:
    return [(owner, name) for owner, names in table.items() for name in sorted(names)]


@each_case(("owner", "name"), rows(METHODS))
def test_a_method_that_we_override_or_call_is_there_with_its_parameters(
    owner: type, name: str
) -> None:
    method = vars(owner).get(name)
    assert method, differs(f"{owner.__name__}.{name}")
    parameters = METHODS[owner][name]
    there = list(inspect.signature(method).parameters)
    assert there == parameters.split(), differs(f"{owner.__name__}.{name}({parameters})")


@each_case(("owner", "name"), rows(ATTRIBUTES))
def test_an_attribute_that_we_read_or_set_is_one_that_the_library_sets(
    owner: type, name: str
) -> None:
    assert own_attributes(owner).get(name), differs(f"{owner.__name__}.{name}")


def test_the_status_lines_that_we_send_are_a_table_by_status() -> None:
    lines = getattr(httptools_impl, "STATUS_LINE", {})
    assert lines.get(431, b"").startswith(b"HTTP/1.1 431 "), differs("STATUS_LINE")


def test_the_bytes_of_one_read_of_a_connection_have_a_bound_that_asyncio_reads() -> None:
    transport = vars(selector_events)["_SelectorSocketTransport"]
    assert transport.max_size > 0
    assert "recv(self.max_size)" in inspect.getsource(transport)


def names_of(*owners: type) -> set[str]:
    """All that these classes define, or set on an instance."""
    names = {name for one in owners for name in (*vars(one), *own_attributes(one))}
    return {name for name in names if not (name.startswith("__") and name.endswith("__"))}


def family(base: type) -> list[type]:
    """A class of a library with its ancestors there."""
    return [
        one for one in base.__mro__ if one.__module__.split(".")[0] in ("uvicorn", "websockets")
    ]


@each_case(("ours", "base"), SUBCLASSES)
def test_tables_have_every_name_of_a_library_that_our_subclasses_use(
    ours: tuple[type, ...], base: type
) -> None:
    listed = {
        name
        for one in family(base)
        for table in (METHODS, ATTRIBUTES)
        for name in table.get(one, ())
    }
    assert (names_of(*ours) & names_of(*family(base))) - listed == set()


@each_case(("ours", "base"), SUBCLASSES)
def test_no_private_attribute_of_our_own_has_the_name_of_one_of_the_library(
    ours: tuple[type, ...], base: type
) -> None:
    private = {name for name in names_of(*ours) if name.startswith("_")}
    assert private & names_of(*family(base)) == set()
