"""The log for the operator: one line per event, on standard error.

A line is a list of fields, written as `key=value` or as a JSON object (`log` in the
configuration). Some values come from clients and programs. Therefore every character that could
end a line, begin a field or move the cursor of a terminal is escaped: a client cannot forge a
line. Where standard error is the journal (JOURNAL_STREAM, systemd.exec(5)), a line begins with its
priority (`<N>`, sd-daemon(3)) and has no time, since the journal adds one.

A line has at most LINE_MAX bytes, which is PIPE_BUF, so that lines of several processes on one
pipe do not mix (pipe(7)). Long values are cut. The daemon never waits for the reader of its log:
lines that cannot be written at once are dropped and counted, and the next line that can be
written reports the count.

All lines go through `logging`, so messages of libraries have the same form.
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
"""Characters of a value at most: its first ones, or the last ones of a traceback."""

TRACE = "trace"

_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_BARE = re.compile(r"[A-Za-z0-9_./:@+,*-]+", re.ASCII)

context: ContextVar[Mapping[str, Any]] = ContextVar("context", default=MappingProxyType({}))
"""Fields of every line that belongs to the current request."""

_log = logging.getLogger("sandboxd")

# No line shows them, and they cost more than the line itself (docs.python.org/3/howto/logging.html,
# "Optimization").
logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False


def event(what: str, level: int = logging.INFO, **fields: Any) -> None:
    """Write a line for the event `what`. Fields that are None are left out."""
    _log.log(level, what, extra={"event": what, "fields": fields})


def is_written(level: int) -> bool:
    """Lines of this level are written."""
    return _log.isEnabledFor(level)


def line(fields: Mapping[str, Any], form: str) -> str:
    """One line for `fields`, without a newline. Values are cut so that it fits LINE_MAX."""
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
    """A value in the form behind `key=`: bare if every character is harmless, else a JSON string,
    which is ASCII and escapes every control character."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)


class Handler(logging.Handler):
    """The writer of lines to the descriptor `fd`. `part` is the name of the process in each line.

    dropped  count of the lines that could not be written
    """

    def __init__(self, fd: int, form: str, part: str, journal: bool) -> None:
        super().__init__()
        self.part = part
        self.dropped = 0
        self._unreported = 0
        self._fd = fd
        self._form = form
        self._journal = journal
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record or drop it."""
        try:
            if self._unreported and self._write(
                "warning", {"event": "log.dropped", "lines": self._unreported}
            ):
                self._unreported = 0
            level = record.levelname.lower()
            level = level if level in _PRIORITY else "error"
            if not self._write(level, self._fields(record)):
                self.dropped += 1
                self._unreported += 1
        except Exception:  # as logging asks of handlers: a mistake in a log line stops nothing
            self.handleError(record)

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        what = getattr(record, "event", None)
        head = {"event": what} if what else {"msg": " ".join(record.getMessage().split())}
        fields = head | dict(context.get()) | getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1]:
            fields["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
            fields[TRACE] = logging.Formatter().formatException(record.exc_info)
        return fields

    def _write(self, level: str, fields: dict[str, Any]) -> bool:
        """Write one line at once and whole, or not at all; whether it was written."""
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
        except OSError:  # the reader has gone, or the disk with the log is full
            return False


_handler: Handler | None = None


def setup(form: str, level: str, part: str) -> Handler:
    """Send all records from `level` up to standard error. May be called again."""
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
    """Change the name of this process in its lines to `part`."""
    if _handler:
        _handler.part = part


def dropped() -> int:
    """Count of the lines that this process could not write."""
    return _handler.dropped if _handler else 0


def _is_journal(fd: int) -> bool:
    """Whether `fd` is the journal's socket: JOURNAL_STREAM has its device and inode."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    status = os.fstat(fd)
    return (device, inode) == (str(status.st_dev), str(status.st_ino))
