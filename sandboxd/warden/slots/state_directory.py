"""The state directory and its permissions. The daemon makes it, or `keypair create` before that.

    STATE/       root's, may be passed through: the api has to reach its own directory
    STATE/api/   the api's alone; its database has the secrets of the keypairs

The api's uid may change, when an operator makes the user `sandboxd` or moves the slots. The files
of the old uid in STATE/api then go to the new one, by descriptor, since the old uid could have put
links there. After that each path is held to its owner and mode (state_files.py).
"""

from __future__ import annotations

import fcntl
import glob
import os
import stat
import time
from pathlib import Path

from ...config.settings import Config
from ...errors import ConfigError
from ..code_view import first_closed
from ..doctor.checks import api_uid
from . import state_files

ENDING_S = 5.0
"""How long the other half of a daemon may take to end when one half was killed."""


def database_path(config: Config) -> str:
    """The path of the api's SQLite file."""
    return f"{config.state_dir}/api/sandboxd.sqlite"


def owner(config: Config) -> int:
    """The uid that owns the api's directory; the api's uid when there is no directory yet.

    The command line needs this one: a daemon may run with a configuration that the command line
    does not know.
    """
    try:
        uid = os.stat(os.path.dirname(database_path(config))).st_uid
    except OSError:
        uid = 0
    return uid or api_uid(config)


def make(config: Config, uid: int) -> str:
    """Make the directories, closed to all but root and `uid`; the path of the api's database.

    Raises ConfigError when they cannot be made, or when `uid` could not reach them.
    """
    database = database_path(config)
    api = os.path.dirname(database)
    try:
        if not os.path.isdir(config.state_dir):
            os.makedirs(config.state_dir)
            os.chmod(config.state_dir, 0o711)  # for any umask
        if foreign := first_foreign(config.state_dir):
            raise ConfigError(
                f"--state-dir {config.state_dir}: others than root can change {foreign} and "
                "could put links there for root to follow; choose another directory, or chown it "
                "to root and chmod go-w"
            )
        if not os.path.lexists(api):
            os.mkdir(api, mode=0o700)
        _hand_over(api, uid)
        state_files.hold(config.state_dir, uid)
    except OSError as error:
        remedy = "name a directory that root can make and change"
        text = f"--state-dir {config.state_dir}: {error.strerror}; {remedy}"
        raise ConfigError(text) from None
    if closed := first_closed(config.state_dir, uid):
        raise ConfigError(
            f"--state-dir {config.state_dir}: {closed} is closed to the unprivileged api; "
            "choose a directory that others may pass through (chmod o+x)"
        )
    return database


def first_foreign(path: str) -> str | None:
    """The first directory or link on the way to `path` that is not root's, or `path` itself if
    other users may write in it."""
    for whole in (os.path.abspath(path), os.path.realpath(path)):
        current = ""
        for part in whole.split("/")[1:]:
            current += f"/{part}"
            if os.lstat(current).st_uid != 0:
                return current
    return path if os.stat(path).st_mode & 0o022 else None


def lock(config: Config) -> int:
    """Take the state directory for this daemon; a descriptor that holds it while it is open.

    Both halves of a daemon hold it, so a half that has not ended yet is waited for. Raises
    ConfigError when another daemon has it: two would remove each other's sessions.
    """
    try:
        fd = os.open(f"{config.state_dir}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:  # a file system that is mounted read-only
        remedy = "name a directory that root can make and change"
        text = f"--state-dir {config.state_dir}: {error.strerror}; {remedy}"
        raise ConfigError(text) from None
    if lock_soon(fd, ENDING_S):
        return fd
    os.close(fd)
    raise ConfigError(
        f"--state-dir {config.state_dir}: another sandboxd uses it; stop that one, or choose "
        "another directory"
    )


def lock_soon(fd: int, wait_s: float) -> bool:
    """Lock the open file `fd`; False when another process still has the lock after `wait_s`."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)


def expect_database(config: Config) -> None:
    """Raise ConfigError when there are files of sessions and no database that knows them: all would
    count as leaks and be removed. Call it with the `lock` held."""
    path, slots = database_path(config), f"{config.state_dir}/slots"
    if os.path.exists(path) and os.path.getsize(path):
        return
    sessions = [one for one in glob.glob(f"{slots}/*/session") if Path(one).read_text().strip()]
    if sessions:
        raise ConfigError(
            f"{path} is {'empty' if os.path.exists(path) else 'missing'}, and {slots} has the "
            f"files of {len(sessions)} sessions; put back a copy of it, or move {slots} away to "
            "begin without them"
        )


def _hand_over(path: str, uid: int) -> None:
    """Give the directory and the files of its owner in it to `uid`. Files of root go along: an
    operator has put a copy back. A file with a second link stays, since that link may have been
    made to a file elsewhere."""
    state_files.expect_directory(path)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        before = os.fstat(folder).st_uid
        for name in os.listdir(folder):
            try:  # not followed, and a FIFO does not block
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            except OSError:  # a link, say
                if before == uid:  # the api's own, and the api fails if it needs the file
                    continue
                raise
            try:
                status = os.fstat(fd)
                single = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
                if single and status.st_uid in (before, 0) and status.st_uid != uid:
                    os.fchown(fd, uid, uid)
            finally:
                os.close(fd)
        if before != uid:
            os.fchown(folder, uid, uid)  # last: after an interruption all is done again
    finally:
        os.close(folder)
