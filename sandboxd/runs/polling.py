"""The policies by which a client follows a run: by polling, or over an open connection."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PollPolicy:
    """How calls of a run are answered.

    wait_s    seconds until a call returns `continued`; None: only with output
    live      a call returns as soon as there is output
    gather_s  how long output waits for more of it
    whole     output that a reply has no room for comes with the next; else it is cut
    frames    a reply is a frame, with less room
    base64    the data of stdout and stderr are bytes, in base64; needs `whole`. With `live`, the
              program waits for the client before output is overwritten
    patient   another call after waiting-input does not mean that there will be no input
    streams   the client streams standard input: no call answers waiting-input
    holds     the end of a step is no answer unless it ends the run; a reply has the ends of all
              steps that no call has answered yet
    room      characters of each stream that a reply has room for; None: as configured
    """

    wait_s: float | None = 2.0
    live: bool = False
    gather_s: float = 0.05
    whole: bool = False
    frames: bool = False
    base64: bool = False
    patient: bool = False
    streams: bool = False
    holds: bool = False
    room: int | None = None


POLL = PollPolicy()
"""For calls that are single requests."""

LIVE = PollPolicy(live=True, whole=True)
"""The same, for a client that wants output at once."""

STREAM = PollPolicy(
    wait_s=None, live=True, gather_s=0.2, whole=True, frames=True, patient=True
)  # fmt: skip
"""For a connection: its client sees everything at the moment when it happens."""
