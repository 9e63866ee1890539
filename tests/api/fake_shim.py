"""A shim that plays scripts instead of running programs: real spool files, a real socket.

A command is a script, a verb a line:

    out TEXT, err TEXT    print a line
    flood N               print N characters
    sleep S               do nothing for a while; a signal ends it and the step with 130
    await NAME            do nothing until this file is in the workdir
    linger NAME           stay so long after the last step
    ask                   wait for input, print it
    touch NAME            make a file in the workdir
    environ, limits       print them as JSON
    stdin                 print the whole of standard input
    deafen                read no standard input any more
    exit N                end the step
    timeout               end the step and the run for a time limit
    die                   end without a verdict
    fault                 end with a fault of sandboxd's own

A terminal echoes typed text, and its size when that changes. The lines "exit N", "drop", "flood N",
"timeout" and "nonsense" are commands to the shim.
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import socket
import threading
import time
from pathlib import Path
from typing import Any

from sandboxd.config.settings import ConsoleConfig
from sandboxd.model import BUILD_FAILED
from sandboxd.runs.journal import NO_POSITION
from sandboxd.shim.input_stream import InputStream
from sandboxd.shim.stdin import Stdin
from sandboxd.spool import STDERR, STDOUT, ConsoleWriter, append_event
from sandboxd.wire import messages

KEEP = ConsoleConfig(head=256 * 1024, tail=256 * 1024)


NO_SUCH_COMMAND = 127
"""The exit code of a shell for a command that it does not know."""


class Ended(Exception):
    """The script of a step is over: `code`, and whether the run is over with it."""

    def __init__(self, code: int | None, final: bool = False) -> None:
        self.code, self.final = code, final


class FakeShim:
    """Plays one run in two threads. `request` has the arguments of the request `start` as JSON."""

    def __init__(
        self, request: dict[str, Any], stdin: int | None, home: Path, spool: Path, log: list[str],
        keep: ConsoleConfig = KEEP,
    ) -> None:  # fmt: skip
        self.request, self.stdin, self.home, self.log = request, stdin, home, log
        self.control, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        spool.mkdir(parents=True)
        self.console = os.open(spool / "console", os.O_RDWR | os.O_CREAT)
        self.journal = os.open(spool / "journal", flags)
        self.writer = ConsoleWriter(self.console, keep.head, keep.tail)
        self.changed = threading.Condition()
        end = {"console": NO_POSITION, "journal": 3, "waiting": False}
        self.watch: dict[str, Any] | None = end
        self.selector = selectors.PollSelector()
        self.streams = InputStream(self.selector, lambda: None, stdin is not None)
        self.events, self.waiting, self.ended = 0, False, False
        self.inputs: list[str] = []
        self.eof = self.signalled = False
        self.received = 0
        self.awaited_last = ""
        self.threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to play."""
        for target in (self._serve, self._play):
            self.threads.append(threading.Thread(target=target, daemon=True))
            self.threads[-1].start()

    def kill(self) -> None:
        """End the run as cgroup.kill would. No thread of it is left then."""
        with self.changed:
            self.ended = True
            self.changed.notify_all()
        for thread in self.threads:
            thread.join()
        self.control.close()

    def _serve(self) -> None:
        try:
            while True:
                message, fds = messages.receive(self.control)
                if message is None:
                    return
                with self.changed:
                    self._act(message, fds)
        except OSError:
            pass

    def _act(self, message: dict[str, Any], fds: list[int]) -> None:
        op = message["op"]
        self.log.append(op)
        if op == "watch":
            self.watch = message
            self._answer()
        elif op == "input":
            self.inputs.append(message["text"])
            self.eof, self.waiting = message["eof"], False
            self.received += 1
        elif op == "stdin":
            self.streams.attach(fds.pop())
            if len(self.threads) == 2:
                self.threads.append(threading.Thread(target=self._serve_stream, daemon=True))
                self.threads[-1].start()
        elif op == "signal":
            self.signalled = message["name"] in ("SIGINT", "SIGTERM")
        elif op == "kill":
            self.ended = True
        self.changed.notify_all()

    def _answer(self) -> None:
        """Answer the watch if the run has gone beyond it. The caller holds the condition."""
        seen = self.watch
        state = {
            "console": self.writer.position, "journal": self.events, "waiting": self.waiting,
            "inputs": self.received,
        }  # fmt: skip
        if seen is None or (
            state["console"] <= seen["console"]
            and state["journal"] <= seen["journal"]
            and state["waiting"] == seen["waiting"]
        ):
            return
        self.watch = None
        messages.send(self.control, state)

    def _play(self) -> None:
        failed = False
        try:
            for step in self.request["steps"]:
                code, outcome = 0, "skipped"
                if step["name"] == "exec" and failed:
                    code = BUILD_FAILED
                elif step["command"] is not None:
                    code, outcome = self._step(step), "success"
                failed = failed or (step["name"] == "build" and code != 0)
                self._event(step["name"], code, outcome)
            if self.awaited_last:
                self._do_await(self.awaited_last, {})
        except Ended as end:
            if end.final:
                self._event(step["name"], end.code, "limit")
        except OSError:
            pass  # the api follows the run no longer
        finally:
            for fd in (self.console, self.journal):
                os.close(fd)
            with self.changed:
                self.ended = True
                self.changed.notify_all()
            self.control.shutdown(socket.SHUT_RDWR)

    def _step(self, step: dict[str, Any]) -> int:
        try:
            if self.request.get("terminal"):
                self._sit()
            for line in step["command"].splitlines():
                verb, _, rest = line.partition(" ")
                act = getattr(self, f"_do_{verb}", None)
                if act is None:  # of a fuzzing test; a shell has the same exit code
                    return NO_SUCH_COMMAND
                act(rest, step)
        except Ended as end:
            if end.final or end.code is None:
                raise
            return end.code
        return 0

    def _sit(self) -> None:
        """Be a terminal until its user leaves or ends it."""
        assert self.stdin is not None
        with socket.socket(fileno=os.dup(self.stdin)) as link:
            os.close(self.stdin)
            link.settimeout(0.05)
            while True:
                self._wait(lambda: True, 0)
                try:
                    message, _ = messages.receive(link)
                except TimeoutError:
                    continue
                if message is None:
                    raise Ended(129)
                self._typed(link, message)

    def _typed(self, link: socket.socket, message: dict[str, Any]) -> None:
        text = f"{message.get('rows')}x{message.get('cols')}".encode()
        if message["op"] == "stdin":
            text = base64.b64decode(message["chars"])
        verb, _, rest = text.decode(errors="replace").rstrip("\n").partition(" ")
        if verb in ("exit", "timeout"):
            raise Ended(int(rest) if rest else None, final=verb == "timeout")
        link.settimeout(10)
        if verb == "drop":
            messages.send(link, {"dropped": 5})
        elif verb == "nonsense":
            messages.send(link, {"out": 5})
        for _number in range(int(rest) // 32768 if verb == "flood" else 0):
            messages.send(link, {"out": base64.b64encode(b"x" * 32768).decode()})
        messages.send(link, {"out": base64.b64encode(text).decode()})
        link.settimeout(0.05)

    def _event(self, step: str, code: int | None, outcome: str) -> None:
        with self.changed:
            event = {"event": "step", "step": step, "exit": code, "console": self.writer.position}
            append_event(self.journal, event | {"verdict": {"outcome": outcome}})
            self.events += 1
            self._answer()

    def _print(self, stream: int, text: str) -> None:
        with self.changed:
            self.writer.append(stream, text.encode())
            self._answer()

    def _wait(self, done: Any, seconds: float) -> bool:
        with self.changed:
            is_done: bool = self.changed.wait_for(lambda: self.ended or done(), seconds)
            if self.ended:
                raise Ended(None)
            return is_done

    def _do_out(self, rest: str, _: Any) -> None:
        self._print(STDOUT, rest + "\n")

    def _do_err(self, rest: str, _: Any) -> None:
        self._print(STDERR, rest + "\n")

    def _do_flood(self, rest: str, _: Any) -> None:
        for _number in range(int(rest) // 8192):
            self._print(STDOUT, "x" * 8192)

    def _do_sleep(self, rest: str, _: Any) -> None:
        if self._wait(lambda: self.signalled, float(rest)):
            raise Ended(130)

    def _do_await(self, rest: str, _: Any) -> None:
        while not (self.home / rest).exists():
            if self._wait(lambda: self.signalled, 0.02):
                raise Ended(130)

    def _do_linger(self, rest: str, _: Any) -> None:
        self.awaited_last = rest

    def _do_ask(self, rest: str, _: Any) -> None:
        with self.changed:
            self.waiting = True
            self._answer()
        self._wait(lambda: self.eof or any("\n" in text for text in self.inputs), 20)
        self._print(STDOUT, f"got {''.join(self.inputs)!r}\n")
        self.inputs.clear()

    def _do_touch(self, rest: str, _: Any) -> None:
        path = self.home / rest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("made by a program\n")

    def _do_environ(self, _: str, __: Any) -> None:
        self._print(STDOUT, json.dumps(self.request["environ"]))

    def _do_limits(self, _: str, step: Any) -> None:
        self._print(STDOUT, json.dumps(step["limits"]))

    def _do_stdin(self, _: str, __: Any) -> None:
        if self.stdin is None:
            self._print_stream()
            return
        with open(self.stdin, closefd=True) as file:
            self._print(STDOUT, file.read())

    def _print_stream(self) -> None:
        """Print the input that a client streams, to its end."""
        pipe = Stdin(self.selector, self.streams.update)
        os.set_blocking(pipe.child, False)
        self.streams.begin(pipe, True)
        while data := self._streamed(pipe.child):
            with self.changed:
                self.writer.append(STDOUT, data)
                self._answer()
        os.close(pipe.child)

    def _streamed(self, pipe: int) -> bytes:
        """The next bytes of a pipe; none at its end."""
        with self.changed:
            while not self.ended:
                try:
                    return os.read(pipe, 65536)
                except BlockingIOError:
                    self.changed.wait(0.02)
            raise Ended(None)

    def _serve_stream(self) -> None:
        """Be the event loop of the shim, for the stream of input."""
        with self.changed:
            while not self.ended:
                for key, _ in self.selector.select(0):
                    key.data(key.fd)
                self.changed.wait(0.005)
            self.streams.detach()

    def _do_deafen(self, _: str, __: Any) -> None:
        with self.changed:
            pipe = Stdin(self.selector, self.streams.update)
            os.close(pipe.child)
            self.streams.begin(pipe, True)
            pipe.close()

    def _do_exit(self, rest: str, _: Any) -> None:
        raise Ended(int(rest))

    def _do_timeout(self, _: str, __: Any) -> None:
        raise Ended(None, final=True)

    def _do_die(self, _: str, __: Any) -> None:
        raise Ended(None)

    def _do_fault(self, _: str, __: Any) -> None:
        with self.changed:
            event = {"event": "fault", "stage": "exec", "errno": 13, "message": "cannot execute"}
            append_event(self.journal, event | {"console": self.writer.position})
            self.events += 1
            self._answer()
        time.sleep(0.01)
        raise Ended(None)
