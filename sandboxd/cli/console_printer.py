"""The console of a run, printed while the run goes on, and the lines that its user types."""

from __future__ import annotations

import secrets
import signal
import sys
import time
from typing import Any

from .client import Client, ConnectionLost
from .main import FAULT, TIMED_OUT
from .reporter import Reporter

COMES_BACK_S, RETRY_S = 60.0, 0.25
"""Seconds that a daemon may take to return after a restart, and seconds between two tries."""


class ConsolePrinter:
    """The console of one run, printed until its end. The run goes on while the daemon restarts, and
    each call has the position that was printed last."""

    def __init__(
        self, client: Client, session: str, options: dict[str, Any], say: Reporter
    ) -> None:
        self._client = client
        self._session = session
        self._say = say
        self._began = time.monotonic()
        self._failed_build: int | None = None
        self._options = options
        self._interrupts = 0
        self._interrupt_sent = self._reading = False
        self._unanswered: tuple[dict[str, int] | None, dict[str, Any]] = (None, {})

    def follow(self) -> int:
        """Start the run and print it until its end; the exit status for the shell."""
        run_id = secrets.token_hex(8)  # chosen here, so that a repeated call starts no second run
        call = {"mode": "batch", "code": "", "runId": run_id, "options": self._options}
        self._options["live"] = True
        signal.signal(signal.SIGINT, self._on_interrupt)
        while True:
            result = self._call(call)
            for kind, data in result["console"]:
                self._say.console(kind, data)
            code = self._step(result)
            if code is not None:
                return code
            options = {"live": True, "offset": result["offset"]}
            call = {"mode": "continue", "code": "", "runId": run_id, "options": options}
            if self._interrupts and not self._interrupt_sent:
                self._interrupt_sent = True
                self._client.call("POST", f"/session/{self._session}/interrupt")
            elif result["status"] == "waiting-input":
                self._reading = True
                call |= self._input(result["offset"])
                self._reading = False

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        """The result of a call, which is repeated after a restart of the daemon."""
        path, until = f"/session/{self._session}", 0.0
        while True:
            try:
                result: dict[str, Any] = self._client.call("POST", path, call)["result"]
                return result
            except ConnectionLost as error:
                now = time.monotonic()
                if not self._client.comes_back or (until and now > until):
                    raise
                if not until:
                    until = now + COMES_BACK_S
                    self._say.warning(f"{error}; the run goes on, trying for {COMES_BACK_S:.0f} s")
                if call["mode"] == "input":  # the next result shows whether it arrived
                    self._unanswered = call["options"]["offset"], call
                    call = call | {"mode": "continue", "code": ""}
            time.sleep(RETRY_S)

    def _input(self, offset: dict[str, int]) -> dict[str, Any]:
        """The next line of standard input as an input call; the previous one if that was lost."""
        (before, call), self._unanswered = self._unanswered, (None, {})
        if before == offset:
            return {"mode": "input", "code": call["code"], "options": call["options"]}
        line = _input()
        return line | {"options": line["options"] | {"offset": offset}}

    def _on_interrupt(self, *_: object) -> None:
        """Ctrl-C. The first one lets the current call end, since its output comes only once. A
        second one, or one during a read from the user, ends the command."""
        self._interrupts += 1
        if self._interrupts > 1 or self._reading:
            raise KeyboardInterrupt
        self._say.phase("interrupting; once more to give up")

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
            self._say.phase("the build failed, so exec was not run")
            code = self._failed_build  # the API says 127, whatever the build's own code is
        elif not skipped:
            self._done("exec", code, verdict)
        return FAULT if code is None or code < 0 else int(code)

    def _done(self, step: str, code: int | None, verdict: dict[str, Any]) -> None:
        wall = verdict.get("usage", {}).get("wall_ms", 0) / 1000
        ended = "stopped" if code is None else f"finished (exit code {code})"
        self._say.phase(f"{step} {ended} in {wall:.2f} s", step=step, verdict=verdict)


def _input() -> dict[str, Any]:
    """The next line of standard input, or its end, as an input call."""
    line = sys.stdin.readline()
    return {"mode": "input", "code": line, "options": {"live": True, "eof": not line}}
