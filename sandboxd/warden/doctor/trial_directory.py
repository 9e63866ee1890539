"""The trial directory of a start or a `sandboxd doctor`, on the file system of the state directory.

Each start and each doctor has a directory of its own, and holds a lock on it. A directory without a
lock is left from a killed one: the next start or doctor removes it, and so does the sweep of a
daemon that has it in its state directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator

from ...errors import ConfigError

PREFIX = "sandboxd-probe-"

STALE_S = 60.0
"""Age in seconds at which a directory in use has long been locked."""


@contextlib.contextmanager
def directory(state_dir: str) -> Iterator[str]:
    """A directory of our own on the file system of the state directory, which need not exist.

    It is locked while it is used. Those without a lock are removed as well.
    """
    base = state_dir
    while not os.path.isdir(base):
        base = os.path.dirname(base)
    with contextlib.ExitStack() as stack:
        try:
            path = tempfile.mkdtemp(prefix=PREFIX, dir=base)
            stack.callback(shutil.rmtree, path, ignore_errors=True)
            _lock(path, stack)
        except OSError as error:
            raise ConfigError(f"--state-dir {state_dir}: {error.strerror}") from None
        for earlier in glob.glob(f"{glob.escape(base)}/{PREFIX}*"):
            with contextlib.suppress(OSError):
                status = os.lstat(earlier)  # in /tmp the name may be of another user
                own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
                if own and time.time() - status.st_mtime > STALE_S:  # not one just created
                    remove(earlier)
        yield path


def remove(path: str) -> None:
    """Remove the directory of a killed start or doctor. Raises BlockingIOError when it is used."""
    with contextlib.ExitStack() as lock:
        _lock(path, lock)
        shutil.rmtree(path)


def _lock(path: str, stack: contextlib.ExitStack) -> None:
    """Hold the directory while `stack` is open. Raises BlockingIOError when another does."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
