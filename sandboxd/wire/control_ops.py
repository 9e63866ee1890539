"""The table of the messages of a run's control socket, `CONTROL_OPS`: what its shim can be asked.

The api and the warden send them (runs/follower.py, warden/runs/), and the shim carries them out
(shim/control.py, control_requests.py). A shim loads this module, so it has little in it.

    {"op": name, and exactly the fields of the table}, with a socket for some

The shim sends one kind of message, the answer to `watch`: {"console", "journal", "waiting",
"inputs"}. `console` and `journal` are positions (bytes as spool.py counts them, and lines), and
`inputs` is the number of inputs that `waiting` takes into account.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class ControlOp(NamedTuple):
    """A message to a shim: its fields by name, and whether a socket comes with it."""

    name: str
    purpose: str
    fields: tuple[str, ...] = ()
    has_socket: bool = False

    def message(self, **fields: Any) -> dict[str, Any]:
        """The message with these fields. Raises TypeError if they are not those of the table."""
        if fields.keys() != {*self.fields}:
            raise TypeError(f"{self.name} has the fields {self.fields}, not {[*fields]}")
        return {"op": self.name} | fields


WATCH = ControlOp(
    "watch",
    "answered when the run has gone beyond these positions; one watch of a connection at a time, a "
    "newer one replaces it; a new run has one for its end",
    ("console", "journal", "waiting"),
)
INPUT = ControlOp("input", "for the step's standard input: a text, and its end", ("text", "eof"))
STDIN = ControlOp(
    "stdin", "the stream of the step's standard input comes through the socket", has_socket=True
)
HOLD = ControlOp(
    "hold",
    "a client wants all output behind this position: the program waits for a while before output "
    "is overwritten",
    ("console",),
)
DECLINE = ControlOp(
    "decline", "the client did not answer waiting-input: the clock of the step runs on"
)
SIGNAL = ControlOp(
    "signal", "a signal for the process group of the step, and its sender", ("name", "by")
)
TERMINATE = ControlOp(
    "terminate", "ends the run with its step, which gets SIGTERM and its grace", ("by",)
)
KILL = ControlOp("kill", "ends the run now, with everything that it has started", ("by",))
LIMIT = ControlOp("limit", "the step is over a limit that the warden watches", ("name",))
BROKER = ControlOp("broker", "the socket is the link to a broker", has_socket=True)
NO_BROKER = ControlOp("no-broker", "no broker can be started: connections are turned away")

CONTROL_OPS = (
    WATCH, INPUT, STDIN, HOLD, DECLINE, SIGNAL, TERMINATE, KILL,  # of the api
    LIMIT, BROKER, NO_BROKER,  # of the warden
)  # fmt: skip
