"""The check whether a program waits for input, and the end of an input that gets no answer."""

from __future__ import annotations

import time

from .deadlines import Deadlines
from .stdin import Stdin


def check(
    now: float, stdin: Stdin | None, deadlines: Deadlines, attached: bool, quiet_since: float
) -> None:
    """Record whether the program waits; close an input that gets no answer in time.

    `attached`: the input is a stream of the client. It is not closed: a program must not take half
    of its input for all of it. `quiet_since` is the time of the program's last output.
    """
    if stdin is None or stdin.fd is None:
        deadlines.stop_looking(now)
    elif deadlines.input_reached(now) and attached:
        deadlines.expire_input(now)
    elif deadlines.input_reached(now):
        stdin.close()
        deadlines.stop_looking(now)
    elif deadlines.look_due(now, quiet_since):
        awaited = stdin.awaited()
        deadlines.record_look(now, awaited, time.monotonic() - now)
