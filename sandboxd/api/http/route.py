"""The record of a route: all that is said about a path and a method, once.

The table of all routes is routes/table.py. From it come the routes of Starlette (app.py), who may
use them (access/authentication.py) and what the audit log says about them (telemetry/audit_log.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

WEBSOCKET = "WEBSOCKET"
"""The method of a route that is a WebSocket, which has no other."""


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


@dataclass(frozen=True, slots=True)
class Route:
    """A path with the methods that one handler serves.

    methods  names with blanks between, or WEBSOCKET
    act      the name of the request in the audit log; "" for a request that changes nothing and
             gives no content away
    polls    a request is an act only if its handler annotates a run; other requests poll for one
    streams  a response lasts as long as its client wants
    """

    methods: str
    path: str
    handler: Callable[..., Any]
    act: str = ""
    access: Access = Access.OWNER
    polls: bool = False
    streams: bool = False

    def act_of(self, method: str, annotations: Mapping[str, Any]) -> str:
        """The name of the act that a request with these annotations was; "": none. Starlette
        serves HEAD wherever there is GET; a response without its body gives no content away."""
        is_poll = self.polls and "run" not in annotations
        return "" if is_poll or method not in self.methods.split() else self.act
