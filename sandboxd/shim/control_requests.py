"""The requests that a shim carries out for its control socket (wire.py)."""

from __future__ import annotations

import signal
import time
from typing import Any, Protocol

from .. import wire
from ..model import Sender
from .broker_socket import BrokerSocket
from .console import ConsoleCopier
from .deadlines import Deadlines
from .input_stream import InputStream
from .launch import Init
from .stdin import Stdin

OF_WARDEN = ("locks",)
"""The limits that the warden watches (warden/runs/lock_watch.py)."""

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")


class ControlledRun(Protocol):
    """The run that the requests are about: see run.RunExecution."""

    inputs: int
    stdin: Stdin | None
    input: InputStream
    broker: BrokerSocket | None
    console: ConsoleCopier
    deadlines: Deadlines
    external_signals: dict[int, Sender]
    init: Init
    terminated_by: Sender | None
    killed_by: Sender | None
    over: bool

    def record_input(self) -> None:
        """A client has sent input."""

    def terminate(self, now: float) -> None:
        """Send SIGTERM to all processes of the step."""

    def exceed(self, limit: str | None) -> None:
        """Kill the step, if it is over a `limit`."""


def handle(run: ControlledRun, message: dict[str, Any], fds: list[int]) -> None:
    """Carry out a request. An unknown request has no effect."""
    op = message.get("op")
    if len(fds) == 1:
        _take_descriptor(run, op, fds)
    wire.close_all(fds)
    by: Sender = "sandboxd" if message.get("by") == "sandboxd" else "client"
    run.inputs += op == "input"
    if op == "input" and run.stdin:
        run.stdin.write(wire.text(message, "text"), bool(message.get("eof")))
        run.record_input()
    elif op == "hold":
        run.console.hold(wire.number(message, "console"))
    elif op == "decline":
        run.deadlines.record_decline(time.monotonic())
    elif op == "signal" and message.get("name") in _SIGNALS:
        number = signal.Signals[message["name"]]
        run.external_signals[number] = by
        run.init.signal(number)
    elif op == "terminate" and run.terminated_by is None and not run.deadlines.is_in_grace:
        run.terminated_by = run.external_signals[signal.SIGTERM] = by
        run.terminate(time.monotonic())
    elif op == "no-broker" and run.broker:
        run.broker.turn_away()
    elif op == "limit" and message.get("name") in OF_WARDEN:
        run.exceed(message["name"])
    elif op == "kill":
        run.killed_by, run.over = by, True


def _take_descriptor(run: ControlledRun, op: Any, fds: list[int]) -> None:
    """Take the descriptor of a request that has one."""
    if op == "stdin":
        run.input.attach(fds.pop())
    elif op == "broker" and run.broker:
        run.broker.attach(fds.pop())
