"""The record of a route: all that is said about a path and a method, once.

The table of all routes is routes/table.py. From it come the routes of Starlette (app.py), who may
use them (access/authentication.py), what the audit log says about them (telemetry/audit_log.py) and
the OpenAPI document (api/openapi). The decoder of parameters reads what the record names, and
nothing else (access/parameters.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import msgspec

WEBSOCKET = "WEBSOCKET"
"""The method of a route that is a WebSocket, which has no other."""

JSON = "application/json"
OCTETS = "application/octet-stream"


class Access(Enum):
    """The callers that a route admits."""

    OPEN = "everybody"
    TOKEN = "every client with the token, which the handler checks"
    CALLER = "every caller with a valid signature; the response is the same for all of them"
    OWNER = "every caller with a valid signature; the handler shows what the owner has"
    ADMIN = "admins"

    @property
    def is_signed(self) -> bool:
        """The request must be signed, or come from where no signature is needed."""
        return self not in (Access.OPEN, Access.TOKEN)


class Nothing(msgspec.Struct):
    """The parameters of a route whose handler reads none, and ignores all."""


@dataclass(frozen=True, slots=True)
class Content:
    """The body of a request that is no JSON.

    media     its media types
    meaning   a sentence about it
    required  a request without it is refused
    part      the part of a form that has the parameters as JSON; a body that is no form is the
              parameters themselves. "": they are in the query
    """

    media: tuple[str, ...]
    meaning: str
    required: bool = True
    part: str = ""


@dataclass(frozen=True, slots=True)
class Header:
    """A header of a request, and its JSON Schema."""

    name: str
    meaning: str
    schema: Mapping[str, Any]
    required: bool = False


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """A response that is no refusal.

    media    its media types; none: the response has no content
    shape    the type of its JSON, or several in a tuple; None: the handler's annotation
             JsonResponse[...] names the type
    headers  its own headers -> their meaning
    """

    status: int = 200
    media: tuple[str, ...] = (JSON,)
    meaning: str = ""
    shape: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


DONE = ResponseSpec(204, (), "The request was carried out.")
OK = ResponseSpec()
CREATED = ResponseSpec(201)


@dataclass(frozen=True, slots=True)
class Route:
    """A path with the methods that one handler serves.

    methods    names with blanks between, or WEBSOCKET
    act        the name of the request in the audit log; "" for a request that changes nothing and
               gives no content away
    polls      a request is an act only if its handler annotates a run; other requests poll for one
    streams    a response lasts as long as its client wants
    takes      the class of its parameters
    content    its body, if that is not its parameters alone
    headers    headers of the request that the handler reads
    responses  those that are no refusals
    refuses    statuses of refusals, besides those that every route of this access has
    frames     of a WebSocket: a description of its frames
    """

    methods: str
    path: str
    handler: Callable[..., Any]
    act: str = ""
    access: Access = Access.OWNER
    polls: bool = False
    streams: bool = False
    takes: type[msgspec.Struct] = Nothing
    content: Content | None = None
    headers: tuple[Header, ...] = ()
    responses: tuple[ResponseSpec, ...] = (OK,)
    refuses: tuple[int, ...] = ()
    frames: str = ""

    def act_of(self, method: str, annotations: Mapping[str, Any]) -> str:
        """The name of the act that a request with these annotations was; "": none. Starlette
        serves HEAD wherever there is GET; a response without its body gives no content away."""
        is_poll = self.polls and "run" not in annotations
        return "" if is_poll or method not in self.methods.split() else self.act
