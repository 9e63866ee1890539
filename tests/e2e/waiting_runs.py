"""A run that goes on for as long as a test wants: it waits for a line of input."""

from __future__ import annotations

import httpx

from .daemon import Outcome, follow

NAME = "waits"


def begin(http: httpx.Client, session: str) -> None:
    """Begin the run in this session; it is under way."""
    options = {"exec": "read -r line && echo $line"}
    call = {"mode": "batch", "code": "", "runId": NAME, "options": options}
    while http.post(f"/session/{session}", json=call).json()["result"]["status"] != "waiting-input":
        call = {"mode": "continue", "code": "", "runId": NAME}


def end(http: httpx.Client, session: str) -> Outcome:
    """Let the run print "lived" and end."""
    return follow(http, session, {"mode": "input", "code": "lived\n", "runId": NAME})
