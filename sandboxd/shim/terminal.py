"""The terminal of a run: a pseudo-terminal of the jail's own, and the socket of who sits at it.

It is opened when the shim has lost root and stands in the jail, so it is one of the run's own
devpts, in which nothing of the host is. The shim alone has the master, and no program can come
by it: the shim is in no pid namespace that they see, and is not dumpable. The shell opens the
other side by its name, as the leader of a new session, and so makes it its controlling terminal
(init.py).

    output  is read only when the socket has taken what came before: a slow reader holds the
            program back, and one chunk is all that is kept. A flood is held to RATE.
    input   waits for the program, up to INPUT_MAX bytes; what is over is dropped, and told.
    end     of the socket: the master is closed, the kernel hangs up (SIGHUP), and what has not
            ended after HANGUP_S is killed.

The messages are at the top of wire.py.
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
from typing import Any

from .. import wire
from ..jail.stage import expect, stage
from .output_rate import OutputRate

PTS = "/dev/pts"
ROWS, COLUMNS = 24, 80

CHUNK = 32 * 1024
FREE = 4 << 20
RATE = 2 << 20
LEAST = 2 * 1024
"""Bytes of output at once and a second: turning them into messages costs the daemon's CPU, and no
person reads faster. A message counts for LEAST at least: 1000 a second."""

INPUT_MAX = 1 << 20
HANGUP_S = 3.0
DRAIN_S = 10.0
"""How long the last output may take: for a reader who takes none."""

_IUTF8 = 0x4000  # asm-generic/termbits.h; Python has no name for it before 3.14


class PseudoTerminal:
    """A terminal whose user is at the other end of the socket `link`, which is its own.

    path   its name in the jail
    shown  bytes of output so far
    """

    def __init__(self, selector: selectors.BaseSelector, link: int) -> None:
        with stage("terminal"):
            self._master, self._slave = os.openpty()
            self.path = os.ttyname(self._slave)
            _verify(self._slave, self.path)
            _set_up(self._master)
        self._selector = selector
        self._link = socket.socket(fileno=link)
        self._link.setblocking(False)
        self._message: dict[str, Any] | None = None
        self._input = b""
        self._dropped = 0
        self.shown = 0
        self._rate = OutputRate(FREE, RATE, LEAST)
        self._resume: float | None = None
        self._left: float | None = None
        self._watch()

    def next(self, now: float) -> float | None:
        """When something is due without anybody's doing, None: never. Call it after each wait."""
        if self._resume is not None and now >= self._resume:
            self._resume = None
            self._watch()
        due = [at for at in (self._resume, self._deadline()) if at is not None]
        return min(due, default=None)

    @property
    def left(self) -> bool:
        """Its user has gone; the kernel has hung up."""
        return self._left is not None

    def abandoned(self, now: float) -> bool:
        """Its user has gone, and the time that programs have to end for it is over."""
        deadline = self._deadline()
        return deadline is not None and now >= deadline

    def _deadline(self) -> float | None:
        return None if self._left is None else self._left + HANGUP_S

    def finish(self) -> None:
        """The last process has gone: pass on what there is still to see, and close everything."""
        os.close(self._slave)  # ours was the last: the master's end is its output's end
        if self._left is None:
            self._forget(self._master, self._link)
            # A program that sent its descriptor to another run of the session may write for ever.
            until = time.monotonic() + DRAIN_S
            try:
                while (left := until - time.monotonic()) > 0 and (self._message or self._take()):
                    self._link.settimeout(left)
                    wire.send(self._link, self._message or {})
                    self._message = None
            except OSError:
                pass  # nobody takes it
            os.close(self._master)
            self._link.close()

    def _move(self, _: int) -> None:
        """Something is ready: move what can be moved."""
        if self._left is None:
            self._receive()
        if self._left is None:
            self._write()
            self._send()
            self._watch()

    def _watch(self) -> None:
        """Wait for exactly what there is a use for."""
        full = self._message is not None
        read, write = selectors.EVENT_READ, selectors.EVENT_WRITE
        self._wait_for(self._link, read | (write if full else 0))
        takes = 0 if full or self._resume is not None else read
        self._wait_for(self._master, takes | (write if self._input else 0))

    def _wait_for(self, file: int | socket.socket, events: int) -> None:
        self._forget(file)
        if events:
            self._selector.register(file, events, self._move)

    def _forget(self, *files: int | socket.socket) -> None:
        for file in files:
            if file in self._selector.get_map():
                self._selector.unregister(file)

    # -- output

    def _send(self) -> None:
        """Output for the socket, as much as it takes and the rate allows."""
        while self._message or (self._resume is None and self._take()):
            try:
                wire.send(self._link, self._message or {})
            except BlockingIOError:
                return
            except OSError:
                return  # its end is seen when it is read
            self._message = None

    def _take(self) -> bool:
        """Make the next message, if there is anything to tell."""
        if self._dropped:
            self._message, self._dropped = {"dropped": self._dropped}, 0
            return True
        data = self._read()
        if data:
            self._message = {"out": base64.b64encode(data).decode()}
            self.shown += len(data)
            now = time.monotonic()
            if pause := self._rate.pause(len(data), now):
                self._resume = now + pause
        return bool(data)

    def _read(self) -> bytes:
        """What the terminal has; the kernel gives no more than a page at a time."""
        data = b""
        try:
            while len(data) < CHUNK:
                data += os.read(self._master, CHUNK - len(data))
        except OSError:  # EAGAIN: no more for now; EIO: nobody has the other side any more
            pass
        return data

    # -- input

    def _receive(self) -> None:
        """The next message of the user, or his end."""
        try:
            message = wire.receive_plain(self._link)
        except BlockingIOError:
            return
        if message is None:
            self._hang_up()
        elif message.get("op") == "stdin":
            self._take_input(base64.b64decode(str(message.get("chars", ""))))
        elif message.get("op") == "resize":
            self.resize(int(message.get("rows", ROWS)), int(message.get("cols", COLUMNS)))

    def _take_input(self, data: bytes) -> None:
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
        except OSError:  # EIO: there is nobody to type for
            self._input = b""

    def resize(self, rows: int, columns: int) -> None:
        """Set the size; programs get SIGWINCH."""
        size = struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def _hang_up(self) -> None:
        """The user has gone: SIGHUP to the shell, and, when that ends, to its foreground."""
        self._left = time.monotonic()
        self._forget(self._master, self._link)
        os.close(self._master)
        self._link.close()


def _verify(slave: int, path: str) -> None:
    """It is one of the devpts that only this run has, and ours."""
    status = os.fstat(slave)
    expect("terminal", "directory", os.path.dirname(path), PTS)
    expect("terminal", "file system", status.st_dev, os.stat(PTS).st_dev)
    expect("terminal", "owner", status.st_uid, os.getuid())


def _set_up(master: int) -> None:
    """What a shell expects to find: a size, and that an erase takes a whole character."""
    os.set_blocking(master, False)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    attributes = termios.tcgetattr(master)
    attributes[0] |= _IUTF8
    termios.tcsetattr(master, termios.TCSANOW, attributes)
