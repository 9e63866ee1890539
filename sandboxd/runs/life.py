"""The states of a run, and the state that follows each event. No I/O.

    queued      it waits for its turn in the queue of its session
    waiting     it has its turn there, and waits for admission
    starting    it has been admitted, and the warden starts it
    running     it has begun, and is followed
    over        it has ended, and its journal says how
    called off  its client has had it taken out before it began; its calls end when the queue has
                forgotten it
    failed      our failure has ended it; each of its calls raises that
    vanished    its session is gone, or it was taken out of the queue: calls end without a reply

A run that has vanished may still be started and ended: nobody sees that. An event that the table
does not have for a state cannot happen in it.
"""

from __future__ import annotations

from typing import Literal

RunState = Literal[
    "queued", "waiting", "starting", "running", "over", "called off", "failed", "vanished"
]

RunEvent = Literal["wait", "admit", "follow", "end", "call off", "fail", "vanish"]

TRANSITIONS: dict[RunState, dict[RunEvent, RunState]] = {
    # "follow": it is not admitted in turn; a terminal, or a run of an earlier daemon.
    "queued": {"wait": "waiting", "follow": "running", "fail": "failed", "vanish": "vanished"},
    "waiting": {
        "admit": "starting", "call off": "called off", "fail": "failed", "vanish": "vanished",
    },
    "starting": {"follow": "running", "fail": "failed", "vanish": "vanished"},
    "running": {"end": "over", "fail": "failed", "vanish": "vanished"},
    "over": {"fail": "failed", "vanish": "vanished"},
    "called off": {"fail": "failed", "vanish": "vanished"},
    "failed": {"vanish": "vanished"},
    "vanished": dict.fromkeys(
        ("wait", "follow", "end", "fail", "vanish"), "vanished"
    ),
}  # fmt: skip

BEFORE: frozenset[RunState] = frozenset({"queued", "waiting", "starting"})
"""It may still begin."""

ENDED: frozenset[RunState] = frozenset({"over", "failed", "vanished"})
"""Nothing more will happen in it."""

UNWANTED: frozenset[RunState] = frozenset({"called off", "vanished"})
"""It need not be started any more."""
