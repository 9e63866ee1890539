"""What sandboxd tells its operator: one line an event, on standard error.

A line is a list of fields, written as `key=value` or as a JSON object (`log` in the
configuration). Values come from clients and programs too, so whatever could end a line, begin a
field or move a terminal's cursor is escaped: nobody can forge a line. Where standard error is the
journal (JOURNAL_STREAM, systemd.exec(5)) a line begins with its priority (`<N>`, sd-daemon(3)) and
leaves the time to the journal.

A line has at most LINE_MAX bytes, PIPE_BUF, so that lines of several processes on one pipe do not
mix (pipe(7)); what is too long is cut value by value. And a line is never waited for: if whoever
should read the log does not, lines are dropped and counted, and the next one that gets through
says how many. A daemon must not hang because of its log.

Everything goes by way of `logging`, so what libraries say comes out in the same form.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

FORMS = ("text", "json")
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

LINE_MAX = 4096
VALUE_MAX = 2048
"""Characters of a value at most: the first ones, of a traceback the last."""

TRACE = "trace"

_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_BARE = re.compile(r"[A-Za-z0-9_./:@+,*-]+", re.ASCII)

context: ContextVar[Mapping[str, Any]] = ContextVar("context", default=MappingProxyType({}))
"""Fields of every line that is written for the request that is being served."""

_log = logging.getLogger("sandboxd")


def event(what: str, level: int = logging.INFO, **fields: Any) -> None:
    """Write a line of the event called `what`; fields that are None are left out."""
    _log.log(level, what, extra={"event": what, "fields": fields})


def line(fields: Mapping[str, Any], form: str) -> str:
    """One line, without its end, that reads back as `fields`; values are cut to fit LINE_MAX."""
    room = VALUE_MAX
    while True:
        short = {key: _cut(key, value, room) for key, value in fields.items() if value is not None}
        if form == "json":
            text = json.dumps(short, separators=(",", ":"))
        else:
            text = " ".join(f"{key}={_text(value)}" for key, value in short.items())
        if len(text) < LINE_MAX - len("<0>\n") or room < 8:
            return text[: LINE_MAX - 4]
        room //= 2


def _cut(key: str, value: Any, room: int) -> Any:
    if isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    if len(text) <= room:
        return text
    return f"...{text[-room:]}" if key == TRACE else f"{text[:room]}..."


def _text(value: Any) -> str:
    """A value as it stands behind `key=`: bare if it is harmless, else a JSON string, which is
    ASCII and has every control character escaped."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)


class Handler(logging.Handler):
    """Writes records as lines to the descriptor `fd`; `part` says which process it is.

    dropped  lines that nobody took in
    """

    def __init__(self, fd: int, form: str, part: str, journal: bool) -> None:
        super().__init__()
        self.part = part
        self.dropped = 0
        self._untold = 0
        self._fd = fd
        self._form = form
        self._journal = journal
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or drop it."""
        try:
            if self._untold and self._write(
                "warning", {"event": "log.dropped", "lines": self._untold}
            ):
                self._untold = 0
            level = record.levelname.lower()
            level = level if level in _PRIORITY else "error"
            if not self._write(level, self._fields(record)):
                self.dropped += 1
                self._untold += 1
        except Exception:  # as logging asks of handlers: a mistake in a log line stops nothing
            self.handleError(record)

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        what = getattr(record, "event", None)
        told = {"event": what} if what else {"msg": " ".join(record.getMessage().split())}
        found = told | dict(context.get()) | getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1]:
            found["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
            found[TRACE] = logging.Formatter().formatException(record.exc_info)
        return found

    def _write(self, level: str, fields: dict[str, Any]) -> bool:
        """Write one line; whether it could be written at once and whole."""
        head: dict[str, Any] = {"level": level, "part": self.part}
        if not self._journal:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            head = {"time": now.replace("+00:00", "Z")} | head
        text = line(head | fields, self._form)
        if self._journal:
            text = f"<{_PRIORITY[level]}>{text}"
        try:
            ready = self._poll.poll(0)
            return (
                bool(ready)
                and bool(ready[0][1] & select.POLLOUT)
                and (os.write(self._fd, f"{text}\n".encode()) > 0)
            )
        except OSError:  # nobody reads any more, or the disk with the log is full
            return False


_handler: Handler | None = None


def setup(form: str, level: str, part: str) -> Handler:
    """Send all that is logged to standard error, from `level` up. May be called again."""
    global _handler
    fd = sys.stderr.fileno()
    _handler = Handler(fd, form, part, _is_journal(fd))
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    root.addHandler(_handler)
    root.setLevel(LEVELS[level])
    return _handler


def became(part: str) -> None:
    """This process is `part` from now on."""
    if _handler:
        _handler.part = part


def dropped() -> int:
    """Lines of this process that nobody has taken in."""
    return _handler.dropped if _handler else 0


def _is_journal(fd: int) -> bool:
    """Standard error is what JOURNAL_STREAM says: device and inode of the journal's socket."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    status = os.fstat(fd)
    return (device, inode) == (str(status.st_dev), str(status.st_ino))
