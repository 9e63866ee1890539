"""The terminal of a run: a pseudo-terminal of the jail, connected to the socket of its user.

The shim opens the pseudo-terminal after it has dropped root and is in the jail, so the terminal is
in the devpts of the run, which has nothing of the host. Only the shim has the master. No program
can get it: the shim is in no pid namespace that a program sees, and is not dumpable. The shell is
the leader of a new process session and opens the other side by its name, which makes it the
controlling terminal of the shell (init.py).

    output  The shim reads the terminal only after the socket has taken the output before. A slow
            reader therefore blocks the program, and the shim holds one chunk at most. A flood is
            slowed down to RATE.
    input   The shim holds input for the program, up to INPUT_MAX bytes. Input beyond that is
            dropped, and the user gets the count.
    end     When the socket closes, the shim closes the master and the kernel hangs up (SIGHUP).
            Processes that have not ended after HANGUP_S are killed.

The messages are described at the top of wire/messages.py.
"""

from __future__ import annotations

import base64
import fcntl
import os
import selectors
import socket
import struct
import termios
import time
from collections.abc import Mapping
from typing import Any

from ..jail.stage import expect, stage
from ..wire import messages
from .output_rate import OutputRate

PTS = "/dev/pts"
ROWS, COLUMNS = 24, 80

CHUNK = 32 * 1024
FREE = 4 << 20
RATE = 2 << 20
LEAST = 2 * 1024
"""FREE bytes of output at once, then RATE bytes a second: messages cost CPU time of the daemon, and
no person reads faster. A message counts as LEAST bytes at least, so there are 1000 a second."""

INPUT_MAX = 1 << 20
HANGUP_S = 3.0
DRAIN_S = 10.0
"""Seconds that the last output may take, for a client that reads nothing."""

IUTF8 = 0x4000  # asm-generic/termbits.h; Python has no name for it before 3.14


class PseudoTerminal:
    """A terminal. `link` is the socket to its user; the terminal owns the descriptor.

    path  the name of the terminal in the jail
    sent  bytes of output so far
    """

    def __init__(self, selector: selectors.BaseSelector, link: int) -> None:
        self._master, self._slave, self.path = open_pair()
        with stage("terminal"):
            _configure(self._master)
        self._selector = selector
        self._link = socket.socket(fileno=link)
        self._link.setblocking(False)
        self._message: dict[str, Any] | None = None
        self._input = b""
        self._dropped = 0
        self.sent = 0
        self._rate = OutputRate(FREE, RATE, LEAST)
        self._resume: float | None = None
        self._hung_up_at: float | None = None
        self._update_selector()

    def next_due(self, now: float) -> float | None:
        """The next moment at which the terminal needs a call without an event; None: there is no
        such moment. To be called after each wait."""
        if self._resume is not None and now >= self._resume:
            self._resume = None
            self._update_selector()
        due = [at for at in (self._resume, self._kill_due()) if at is not None]
        return min(due, default=None)

    @property
    def hung_up(self) -> bool:
        """Whether the user has closed the socket, and so the kernel has hung up."""
        return self._hung_up_at is not None

    def abandoned(self, now: float) -> bool:
        """Whether the user has gone and the programs have used up their time to end."""
        due = self._kill_due()
        return due is not None and now >= due

    def _kill_due(self) -> float | None:
        return None if self._hung_up_at is None else self._hung_up_at + HANGUP_S

    def finish(self) -> None:
        """After the last process: send the rest of the output and close everything."""
        os.close(self._slave)  # the last copy: the master now ends after the output
        if self._hung_up_at is None:
            self._unregister(self._master, self._link)
            # A program that sent its descriptor to another run of the session may write for ever.
            until = time.monotonic() + DRAIN_S
            try:
                while (left := until - time.monotonic()) > 0 and self._next_message():
                    self._link.settimeout(left)
                    messages.send(self._link, self._message or {})
                    self._message = None
            except OSError:
                pass  # the user does not read any more
            os.close(self._master)
            self._link.close()

    def _handle_events(self, _: int) -> None:
        """Move data between the socket and the terminal, as far as both are ready."""
        if self._hung_up_at is None:
            self._receive()
        if self._hung_up_at is None:
            self._write()
            self._send()
            self._update_selector()

    def _update_selector(self) -> None:
        """Wait for the events that have a use now: no reads while a message or a pause waits, no
        writes without data."""
        full = self._message is not None
        read, write = selectors.EVENT_READ, selectors.EVENT_WRITE
        self._register(self._link, read | (write if full else 0))
        output = 0 if full or self._resume is not None else read
        self._register(self._master, output | (write if self._input else 0))

    def _register(self, file: int | socket.socket, events: int) -> None:
        self._unregister(file)
        if events:
            self._selector.register(file, events, self._handle_events)

    def _unregister(self, *files: int | socket.socket) -> None:
        for file in files:
            if file in self._selector.get_map():
                self._selector.unregister(file)

    # -- output

    def _send(self) -> None:
        """Send output, as much as the socket takes and the rate allows."""
        while self._message or (self._resume is None and self._next_message()):
            try:
                messages.send(self._link, self._message or {})
            except BlockingIOError:
                return
            except OSError:
                return  # `_receive` sees the end of the socket
            self._message = None

    def _next_message(self) -> bool:
        """Set `_message`, unless one waits already. False when there is nothing to send."""
        if self._message:
            return True
        if self._dropped:
            self._message, self._dropped = {"dropped": self._dropped}, 0
            return True
        data = self._read()
        if data:
            self._message = {"out": base64.b64encode(data).decode()}
            self.sent += len(data)
            now = time.monotonic()
            if pause := self._rate.pause(len(data), now):
                self._resume = now + pause
        return bool(data)

    def _read(self) -> bytes:
        """Output of the terminal. One read(2) returns a page at most."""
        data = b""
        try:
            while len(data) < CHUNK:
                data += os.read(self._master, CHUNK - len(data))
        except OSError:  # EAGAIN: no more for now; EIO: no process has the other side open
            pass
        return data

    # -- input

    def _receive(self) -> None:
        """Handle the next message of the user, or the end of the socket."""
        try:
            message = messages.receive_plain(self._link)
        except BlockingIOError:
            return
        if message is None:
            self._hang_up()
        elif message.get("op") == "stdin":
            self._queue_input(typed(message))
        elif message.get("op") == "resize":
            self.resize(
                messages.number(message, "rows", ROWS), messages.number(message, "cols", COLUMNS)
            )

    def _queue_input(self, data: bytes) -> None:
        if len(self._input) + len(data) > INPUT_MAX:
            self._dropped += len(data)
        else:
            self._input += data

    def _write(self) -> None:
        try:
            while self._input:
                self._input = self._input[os.write(self._master, self._input[:CHUNK]) :]
        except BlockingIOError:
            pass
        except OSError:  # EIO: no process has the other side open
            self._input = b""

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the window."""
        set_window(self._master, rows & 0xFFFF, columns & 0xFFFF)

    def _hang_up(self) -> None:
        """Close the master and the socket. The kernel sends SIGHUP to the shell and, when the shell
        ends, to its foreground process group."""
        self._hung_up_at = time.monotonic()
        self._unregister(self._master, self._link)
        os.close(self._master)
        self._link.close()


def open_pair() -> tuple[int, int, str]:
    """A new pseudo-terminal: its master, its other side, and the name of that side in the jail.
    Raises StageError."""
    with stage("terminal"):
        master, slave = os.openpty()
        path = os.ttyname(slave)
        _verify(slave, path)
        set_window(master, ROWS, COLUMNS)
    return master, slave, path


def set_window(master: int, rows: int, columns: int) -> None:
    """Set the size of the window; programs get SIGWINCH."""
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _verify(slave: int, path: str) -> None:
    """Check that the terminal is in the devpts of this run and belongs to this uid."""
    status = os.fstat(slave)
    expect("terminal", "directory", os.path.dirname(path), PTS)
    expect("terminal", "file system", status.st_dev, os.stat(PTS).st_dev)
    expect("terminal", "owner", status.st_uid, os.getuid())


def _configure(master: int) -> None:
    """Set IUTF8, so that an erase removes a whole character."""
    os.set_blocking(master, False)
    attributes = termios.tcgetattr(master)
    attributes[0] |= IUTF8
    termios.tcsetattr(master, termios.TCSANOW, attributes)


def typed(message: Mapping[str, Any]) -> bytes:
    """The typed characters of a message; none if they are not in base64."""
    try:
        return base64.b64decode(str(message.get("chars", "")))
    except ValueError:
        return b""
