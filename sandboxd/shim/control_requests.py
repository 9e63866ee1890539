"""The requests that a shim carries out for its control socket (wire/control_ops.py)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any, Protocol

from ..model import Sender
from ..wire import control_ops, messages
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
    op = str(message.get("op"))
    if len(fds) == 1 and op in WITH_SOCKET:
        WITH_SOCKET[op](run, fds.pop())
    messages.close_all(fds)
    if op in PLAIN:
        PLAIN[op](run, message)


def _input(run: ControlledRun, message: dict[str, Any]) -> None:
    run.inputs += 1
    if run.stdin:
        run.stdin.write(messages.text(message, "text"), bool(message.get("eof")))
        run.record_input()


def _hold(run: ControlledRun, message: dict[str, Any]) -> None:
    run.console.hold(messages.number(message, "console"))


def _decline(run: ControlledRun, _: dict[str, Any]) -> None:
    run.deadlines.record_decline(time.monotonic())


def _signal(run: ControlledRun, message: dict[str, Any]) -> None:
    if (name := message.get("name")) in _SIGNALS:
        number = signal.Signals[name]
        run.external_signals[number] = _sender(message)
        run.init.signal(number)


def _terminate(run: ControlledRun, message: dict[str, Any]) -> None:
    if run.terminated_by is None and not run.deadlines.is_in_grace:
        run.terminated_by = run.external_signals[signal.SIGTERM] = _sender(message)
        run.terminate(time.monotonic())


def _kill(run: ControlledRun, message: dict[str, Any]) -> None:
    run.killed_by, run.over = _sender(message), True


def _sender(message: dict[str, Any]) -> Sender:
    return "sandboxd" if message.get("by") == "sandboxd" else "client"


def _limit(run: ControlledRun, message: dict[str, Any]) -> None:
    if (name := message.get("name")) in OF_WARDEN:
        run.exceed(name)


def _turn_away(run: ControlledRun, _: dict[str, Any]) -> None:
    if run.broker:
        run.broker.turn_away()


def _attach_input(run: ControlledRun, fd: int) -> None:
    run.input.attach(fd)


def _attach_broker(run: ControlledRun, fd: int) -> None:
    if run.broker:
        run.broker.attach(fd)
    else:
        os.close(fd)


PLAIN: dict[str, Callable[[ControlledRun, dict[str, Any]], None]] = {
    control_ops.INPUT.name: _input,
    control_ops.HOLD.name: _hold,
    control_ops.DECLINE.name: _decline,
    control_ops.SIGNAL.name: _signal,
    control_ops.TERMINATE.name: _terminate,
    control_ops.KILL.name: _kill,
    control_ops.LIMIT.name: _limit,
    control_ops.NO_BROKER.name: _turn_away,
}
WITH_SOCKET: dict[str, Callable[[ControlledRun, int], None]] = {
    control_ops.STDIN.name: _attach_input,
    control_ops.BROKER.name: _attach_broker,
}
"""The acts of the table, but for `watch`, which the control socket answers itself."""
