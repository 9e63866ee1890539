"""Where a start and `sandboxd doctor` try things (guarantees.py), on the state's own file system.

Each has a directory of its own and holds a lock on it. One that nobody holds is of one who was
killed: the next removes it, and so does the sweep of a daemon that finds it in its state directory.
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
from ..leaks.rule import STALE_S

PREFIX = "sandboxd-probe-"


@contextlib.contextmanager
def directory(state_dir: str) -> Iterator[str]:
    """A directory of our own on the file system of the state directory, which need not exist.

    It is locked while it is used; those that are not are of one who was killed, and go as well.
    """
    base = state_dir
    while not os.path.isdir(base):
        base = os.path.dirname(base)
    with contextlib.ExitStack() as stack:
        try:
            made = tempfile.mkdtemp(prefix=PREFIX, dir=base)
            stack.callback(shutil.rmtree, made, ignore_errors=True)
            _locked(made, stack)
        except OSError as error:
            raise ConfigError(f"--state-dir {state_dir}: {error.strerror}") from None
        for stray in glob.glob(f"{glob.escape(base)}/{PREFIX}*"):
            with contextlib.suppress(OSError):
                found = os.lstat(stray)  # in /tmp the name may be somebody else's
                mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
                if mine and time.time() - found.st_mtime > STALE_S:  # and not one just made
                    remove(stray)
        yield made


def remove(path: str) -> None:
    """Remove the directory of one who was killed. Raises BlockingIOError when it is used."""
    with contextlib.ExitStack() as lock:
        _locked(path, lock)
        shutil.rmtree(path)


def _locked(path: str, stack: contextlib.ExitStack) -> None:
    """Hold the directory while `stack` is open. Raises BlockingIOError when another does."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
