"""The output of `run` and `shell`: what the program prints, and beside it lines of sandboxd."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any, Protocol

from . import workflow_commands


class Bar(Protocol):
    """The line on a terminal that shows the progress of a transfer."""

    def clear(self) -> object:
        """Remove it from the screen."""

    def refresh(self) -> object:
        """Draw it again."""


def printable(text: str) -> str:
    """`text`, a message or a name, for a terminal and as one line. The author of a name may have
    chosen characters that move the cursor, or bytes that are no text; they are escaped."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Reporter:
    """The printer of one command. With --json each event is one object on standard output."""

    def __init__(self, quiet: bool, as_json: bool) -> None:
        self._quiet = quiet
        self._json = as_json
        self.bar: Bar | None = None
        self._one_place = _is_same_file(1, 2)
        self._in_line = False  # the program has begun a line where the lines of sandboxd go
        self._in_output_line = False  # and so on standard output

    @property
    def draws(self) -> bool:
        """A person watches, on a terminal that takes more than lines."""
        return not self._quiet and not self._json and sys.stderr.isatty()

    def phase(self, text: str, always: bool = False, **event: Any) -> None:
        """A step of sandboxd itself; `always`: the line is printed even with --quiet."""
        if self._json:
            self._line({"event": "phase", "text": text} | event)
        elif always or not self._quiet:
            self._own_line(f"sandboxd: {printable(text)}")

    def warning(self, text: str) -> None:
        """A line that is printed even with --quiet."""
        if self._json:
            self._line({"event": "log", "text": text})
        else:
            self._own_line(f"sandboxd: {printable(text)}")

    @contextlib.contextmanager
    def program(self) -> Iterator[None]:
        """The time in which a program prints. In a step of a CI system, no workflow command in its
        output is carried out (workflow_commands.py).

        Where both standard streams are the log, standard error goes the way of standard output
        meanwhile: the log has then the order in which the lines were written.
        """
        output, errors = workflow_commands.stream(1), workflow_commands.stream(2)
        is_shown = not self._json and (output or errors)
        if not is_shown or not workflow_commands.is_read(os.environ):
            yield
            return
        log = workflow_commands.log_streams(os.environ)
        stop, end = workflow_commands.stop_and_end()
        if any(one and one not in log for one in (output, errors)):
            for one, path in log.items():
                with contextlib.suppress(OSError):  # nobody reads it, or it is a socket
                    if one in (output, errors):
                        self._log_line(stop, one == errors)
                    else:
                        workflow_commands.write_line(path, stop)
            yield
            return
        with self._joined() if output and errors else contextlib.nullcontext():
            self._log_line(stop, bool(errors))
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # nobody reads it
                    self._log_line(end, bool(errors))

    @contextlib.contextmanager
    def _joined(self) -> Iterator[None]:
        """The time in which standard error is standard output."""
        sys.stderr.flush()
        before, one_place = os.dup(2), self._one_place
        os.dup2(1, 2)
        self._one_place = True
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # nobody reads it
                sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            self._one_place = one_place

    def console(self, kind: str, data: Any) -> None:
        """One console item; the data of stdout and stderr is base64."""
        if kind in ("stdout", "stderr"):
            self._output(kind, base64.b64decode(data))
        elif self._json:
            self._line({"event": "console", "type": kind, "data": data})
        elif kind == "log":
            self.warning(str(data[3]))

    def text(self, kind: str, data: str) -> None:
        """Text of a program that comes as text."""
        self._output(kind, data.encode("utf-8", "surrogateescape"))

    def _output(self, kind: str, data: bytes) -> None:
        """Bytes of the program. In JSON they are text, and base64 too if no text has them."""
        if self._json:
            text = data.decode("utf-8", "replace")
            event = {"event": "console", "type": kind, "data": text}
            exact = {} if text.encode() == data else {"base64": base64.b64encode(data).decode()}
            self._line(event | exact)
            return
        stream = sys.stdout if kind == "stdout" else sys.stderr
        stream.buffer.write(data)
        stream.flush()
        in_line = not data.endswith(b"\n")
        if kind == "stderr" or self._one_place:
            self._in_line = in_line
        if kind == "stdout":
            self._in_output_line = in_line

    def typed(self) -> None:
        """The user has typed a key that the terminal shows in the current line, such as ^C."""
        self._in_line = self._in_line or sys.stderr.isatty()

    def end(self, code: int) -> None:
        """The last event of --json."""
        if self._json:
            self._line({"event": "end", "exitCode": code})

    def _own_line(self, text: str) -> None:
        """Print a line on standard error, above the bar if there is one. It does not go on with a
        line of the program."""
        if self.bar:
            self.bar.clear()
        begin = "\n" if self._in_line else ""
        self._in_line = False
        print(f"{begin}{text}", file=sys.stderr, flush=True)
        if self.bar:
            self.bar.refresh()

    def _log_line(self, text: str, to_errors: bool) -> None:
        """Print a line of its own where the log has the output of the program."""
        if to_errors:
            self._own_line(text)
        else:
            print(f"\n{text}" if self._in_output_line else text, flush=True)

    @staticmethod
    def _line(event: dict[str, Any]) -> None:
        print(json.dumps(event), flush=True)


def _is_same_file(first: int, second: int) -> bool:
    """Whether two descriptors write to the same terminal, file or pipe."""
    try:
        return os.path.samestat(os.fstat(first), os.fstat(second))
    except OSError:  # one of them is closed
        return False
