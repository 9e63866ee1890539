"""The requests that a shim carries out for its control socket (wire/messages.py)."""

from __future__ import annotations

import signal
import time
from typing import Any, Protocol

from ..model import Sender
from ..wire import messages
from .broker_socket import BrokerSocket
from .console import ConsoleCopier
from .deadlines import Deadlines
from .input_stream import InputStream
from .launch import Init
from .stdin import Stdin

OF_WARDEN = ("locks", "connections")
"""The limits that the warden watches (warden/runs/run_watch.py)."""

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
    messages.close_all(fds)
    by: Sender = "sandboxd" if message.get("by") == "sandboxd" else "client"
    if op == "input":
        run.inputs += 1
        if run.stdin:
            run.stdin.write(messages.text(message, "text"), bool(message.get("eof")))
            run.record_input()
    elif op == "hold":
        run.console.hold(messages.number(message, "console"))
    elif op == "decline":
        run.deadlines.record_decline(time.monotonic())
    elif op == "no-broker" and run.broker:
        run.broker.turn_away()
    else:
        _end(run, message, by)


def _end(run: ControlledRun, message: dict[str, Any], by: Sender) -> None:
    """Carry out a request that ends the step, or may do so."""
    op, name = message.get("op"), message.get("name")
    if op == "signal" and name in _SIGNALS:
        number = signal.Signals[name]
        run.external_signals[number] = by
        run.init.signal(number)
    elif op == "terminate" and run.terminated_by is None and not run.deadlines.is_in_grace:
        run.terminated_by = run.external_signals[signal.SIGTERM] = by
        run.terminate(time.monotonic())
    elif op == "limit" and name in OF_WARDEN:
        run.exceed(name)
    elif op == "kill":
        run.killed_by, run.over = by, True


def _take_descriptor(run: ControlledRun, op: Any, fds: list[int]) -> None:
    """Take the descriptor of a request that has one."""
    if op == "stdin":
        run.input.attach(fds.pop())
    elif op == "broker" and run.broker:
        run.broker.attach(fds.pop())
