"""The console of a run, printed while the run goes on. A thread sends standard input meanwhile
(stdin_sender.py)."""

from __future__ import annotations

import functools
import secrets
import signal
import threading
import time
from typing import Any

from ...errors import SandboxdError
from ..connection.client import Client, ConnectionLost
from ..connection.patience import COMES_BACK_S, Absence
from ..connection.turn import TurnWait
from ..main import FAULT, TIMED_OUT
from ..reporter import Reporter
from .stdin_sender import InputSource, StdinSender

TERMINATED = 128 + signal.SIGTERM
"""Exit status of a command that was asked to end, whatever the program's own is."""


class ConsolePrinter:
    """The console of one run, printed until its end. The run goes on while the daemon restarts, and
    each call has the position that was printed last.

    fault  the run has ended by a fault of sandboxd: the exit status is not that of the program
    """

    def __init__(
        self,
        client: Client,
        session: str,
        options: dict[str, Any],
        say: Reporter,
        turn: TurnWait | None = None,
    ) -> None:
        """`turn`: the wait of the command for its turn, which goes on with the run."""
        self._client = client
        self._session = session
        self._say = say
        self._began = time.monotonic()
        self._failed_build: int | None = None
        self._options = options
        self._turn = turn or TurnWait(say, None)
        self._run_id = secrets.token_hex(8)  # so that a repeated call starts no second run
        self._has_begun = self._interrupt_sent = self.fault = False
        self._interrupts = 0
        self._terminations = 0

    def follow(self, source: InputSource, exec_only: bool) -> int:
        """Start the run and print it until its end; the exit status for the shell. The program gets
        the input `source`, if `exec_only` not before the build has ended."""
        with self._say.program():
            return self._follow(source, exec_only)

    def _follow(self, source: InputSource, exec_only: bool) -> int:
        sender = StdinSender(self._client, source, self._say)
        signal.signal(signal.SIGINT, self._on_interrupt)
        signal.signal(signal.SIGTERM, self._on_terminate)
        streams = not exec_only
        call = self._request("batch", streams, self._options)
        try:
            while True:
                result = self._call(call)
                self._has_begun = True
                for item in result["console"]:
                    self._print(item, source.is_terminal)
                if result.get("queue"):
                    self._turn.queued(result["queue"])
                code = self._step(result)
                if code is not None:
                    return TERMINATED if self._terminations else code
                streams = streams or result["status"] == "build-finished"
                if streams:
                    sender.start(self._session, self._run_id)
                if (self._interrupts or self._terminations) and not self._interrupt_sent:
                    self._interrupt()
                call = self._request("continue", streams, {"offset": result["offset"]})
                if result["status"] == "waiting-input":  # a build has no input
                    call = call | {"mode": "input", "options": call["options"] | {"eof": True}}
        finally:
            sender.stop()

    def _request(self, mode: str, streams: bool, options: dict[str, Any]) -> dict[str, Any]:
        """A call of the run, with its output as bytes and at once."""
        form = {"live": True, "console": "base64", "input": "stream" if streams else "calls"}
        return {"mode": mode, "code": "", "runId": self._run_id, "options": options | form}

    def _print(self, item: list[Any], is_terminal: bool) -> None:
        kind, data = item
        if kind == "log" and data[0] == "info" and not is_terminal:
            return  # an explanation for a person who types
        self._say.console(kind, data)

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        """The result of a call, which is repeated after a restart of the daemon."""
        path, absence = f"/session/{self._session}", Absence(self._client)
        while True:
            try:
                result: dict[str, Any] = self._client.call("POST", path, call)["result"]
                return result
            except ConnectionLost as error:
                text = f"{error}; the run goes on, trying for {COMES_BACK_S:.0f} s"
                if not absence.wait(functools.partial(self._say.warning, text)):
                    raise
                if call["mode"] == "input":  # the next result shows whether it arrived
                    call = call | {"mode": "continue"}

    def _on_interrupt(self, *_: object) -> None:
        """Ctrl-C. The first one is for the program, a second one ends the command."""
        self._interrupts += 1
        if self._interrupts > 1:
            raise KeyboardInterrupt
        self._say.typed()
        self._say.phase("interrupting; once more to give up")
        if self._has_begun:  # the current call goes on: its result has the end of the program
            threading.Thread(target=self._interrupt, daemon=True).start()

    def _on_terminate(self, *_: object) -> None:
        """SIGTERM. The first one is for the program, whose output is shown until its end, a second
        one ends the command."""
        self._terminations += 1
        if self._terminations > 1:
            raise SystemExit(TERMINATED)
        if self._has_begun:
            threading.Thread(target=self._interrupt, daemon=True).start()

    def _interrupt(self) -> None:
        self._interrupt_sent = True
        path = f"/session/{self._session}/interrupt"
        body = {"terminate": True} if self._terminations else None
        try:
            self._client.call("POST", path, body)
        except SandboxdError as error:
            self._say.warning(f"the program was not interrupted: {error}")

    def _step(self, result: dict[str, Any]) -> int | None:
        """Report the end of a step; the exit status when it was the run's last."""
        status, code = result["status"], result["exitCode"]
        verdict = result.get("verdict") or {}
        skipped = verdict.get("outcome") == "skipped"
        if status in ("clean-finished", "build-finished") and not skipped:
            self._done(status.removesuffix("-finished"), code, verdict)
        if status == "build-finished":
            self._failed_build = code or None
        if status == "exec-timeout":
            self._done("run", None, verdict)
            return TIMED_OUT
        if status != "finished":
            return None
        if self._failed_build is not None:
            self._say.phase("the build failed, so exec was not run", always=True)
            code = self._failed_build  # the API says 127, whatever the build's own code is
        elif not skipped:
            self._done("exec", code, verdict)
        self.fault = code is None or code < 0
        return FAULT if code is None or code < 0 else int(code)

    def _done(self, step: str, code: int | None, verdict: dict[str, Any]) -> None:
        wall = verdict.get("usage", {}).get("wall_ms", 0) / 1000
        ended = "stopped" if code is None else f"finished (exit code {code})"
        self._say.phase(f"{step} {ended} in {wall:.2f} s", step=step, verdict=verdict)
