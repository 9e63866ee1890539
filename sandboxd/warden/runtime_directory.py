"""The directory in /run that all daemons of a host share, and its parts, which are root's alone.

A unit of systemd makes the parts before the daemon starts, since the daemon's own view of the host
is read-only. Elsewhere the first daemon makes them. A part that others could enter is refused: they
could hold the locks in it.
"""

from __future__ import annotations

import contextlib
import os
import stat

from ..errors import ConfigError

RUNTIME = "/run/sandboxd"


def make(name: str, top: str = "") -> str:
    """Make the part `name` of the directory `top`, or of that in /run, where it is not there yet;
    its path. Raises ConfigError."""
    top = top or RUNTIME
    path = f"{top}/{name}"
    try:
        _make(top, 0o755)  # in a directory of all users, a name of another user can be there
        _expect(top, 0o022, "others than root can change it", "chown root: and chmod go-w it")
        _make(path, 0o700)
        remedy = "stop every sandboxd of this host and remove it (rm -r)"
        _expect(path, 0o077, "others than root can enter it", remedy)
    except OSError as error:
        raise ConfigError(
            f"{error.filename}: {error.strerror}; root must be able to make directories there"
        ) from None
    return path


def _make(path: str, mode: int) -> None:
    """Make the directory `path`, where it is not there yet."""
    if os.path.lexists(path):
        return
    with contextlib.suppress(FileExistsError):  # another daemon was faster
        os.mkdir(path, 0o700)
        os.chmod(path, mode)  # for any umask


def _expect(path: str, others: int, text: str, remedy: str) -> None:
    """The directory `path` is root's and gives none of the rights `others`. Raises ConfigError."""
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0 or mode & others:
        now = f"uid {status.st_uid}, mode {mode:o}"
        raise ConfigError(f"{path}: {text} ({now}); {remedy}")
