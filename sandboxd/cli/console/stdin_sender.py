"""The sender of standard input: a thread that streams a file, a pipe or a terminal into a run.

The program gets the bytes as they come, at its own speed. A regular file is read by position, so
the daemon can go on anywhere in it after a restart, and a shell that has the same file open finds
its place unchanged. Of other input, the last KEEP bytes are stored, which is more than can be under
way when the daemon is killed.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator

from ...errors import NotFound, Refused, Unavailable
from ..connection.client import Client
from ..connection.patience import Absence
from ..reporter import Reporter

CHUNK = 256 * 1024
KEEP = 16 << 20

BACKGROUND_S = 0.5
"""Seconds between two attempts to read a terminal that belongs to another job."""


class InputSource:
    """The bytes of the descriptor `fd`, from its present place; None: there are none."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._is_file = fd is not None and stat.S_ISREG(os.fstat(fd).st_mode)
        self._start = os.lseek(fd, 0, os.SEEK_CUR) if fd is not None and self._is_file else 0
        self._end = 0  # bytes that were read so far
        self._stored: deque[bytes] = deque()
        self._stored_size = 0
        if fd is not None and os.isatty(fd):
            signal.signal(signal.SIGTTIN, signal.SIG_IGN)  # reads from the background then fail

    @property
    def is_terminal(self) -> bool:
        """Whether a person types the input."""
        return self._fd is not None and os.isatty(self._fd)

    def chunks(self, offset: int) -> Iterator[bytes]:
        """The input behind `offset` bytes, to its end. Raises OSError, and LookupError when that
        input is not stored any more."""
        if self._fd is None:
            return
        if not self._is_file:
            yield from self._replay(offset)
        while data := self._read(self._fd, offset):
            offset += len(data)
            yield data

    def _replay(self, offset: int) -> Iterator[bytes]:
        position = self._end - self._stored_size
        if offset < position:
            raise LookupError
        for data in list(self._stored):
            if rest := data[max(0, offset - position) :]:
                yield rest
            position += len(data)

    def _read(self, fd: int, offset: int) -> bytes:
        if self._is_file:
            return os.pread(fd, CHUNK, self._start + offset)
        data = _read_in_foreground(fd)
        self._end += len(data)
        self._stored.append(data)
        self._stored_size += len(data)
        while self._stored_size > KEEP:
            self._stored_size -= len(self._stored.popleft())
        return data


def _read_in_foreground(fd: int) -> bytes:
    """The next bytes; of a terminal, not before it belongs to this job."""
    while True:
        try:
            return os.read(fd, CHUNK)
        except OSError as error:
            if error.errno != errno.EIO or not os.isatty(fd) or os.tcgetpgrp(fd) == os.getpgrp():
                raise
        time.sleep(BACKGROUND_S)


class StdinSender:
    """The sender for one run. Its thread ends with the input, with the run, or with the command."""

    def __init__(self, client: Client, source: InputSource, say: Reporter) -> None:
        self._client = client.another(timeout_s=None)
        self._source = source
        self._say = say
        self._stopped = False
        self._started = False

    def start(self, session: str, run_id: str) -> None:
        """Begin to send, once."""
        if not self._started:
            self._started = True
            path = f"/session/{session}/stdin?runId={run_id}"
            threading.Thread(target=self._send, args=(path,), daemon=True).start()

    def stop(self) -> None:
        """Send no more: the run is over."""
        self._stopped = True

    def _send(self, path: str) -> None:
        try:
            self._stream(path)
        except OSError as error:
            self._complain(f"standard input cannot be read: {error.strerror}")
        except LookupError:
            self._complain("standard input cannot go on after the restart of the daemon")
        except (NotFound, Unavailable):
            pass  # the run is over, or the daemon is gone: its other client says so
        except Refused as error:
            self._complain(f"standard input is not sent: {error}")
        finally:
            self._client.close()

    def _stream(self, path: str) -> None:
        offset = 0
        while not self._stopped:
            try:
                self._client.call("PUT", f"{path}&offset={offset}", content=self._chunks(offset))
                return
            except Unavailable:
                offset = self._taken(path)

    def _taken(self, path: str) -> int:
        """The count of bytes that the run has taken, once the daemon is back. Raises
        Unavailable."""
        absence = Absence(self._client)
        while True:
            try:
                answer = self._client.call("PUT", f"{path}&eof=false", content=iter(()))
                return int(answer["bytes"])
            except Unavailable:
                if self._stopped or not absence.wait():
                    raise

    def _chunks(self, offset: int) -> Iterator[bytes]:
        for data in self._source.chunks(offset):
            if self._stopped:
                return
            yield data

    def _complain(self, text: str) -> None:
        if not self._stopped:
            self._say.warning(text)
