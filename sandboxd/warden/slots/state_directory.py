"""The state directory and who may use it; made by the daemon, or before it by `keypair create`.

    STATE/       root's, may be passed through: the api has to reach its own directory
    STATE/api/   the api's alone; its database has the secrets of the keypairs

The api's uid may change, when an operator makes the user `sandboxd` or moves the slots. What
the old one owned in STATE/api then goes to the new one, by descriptor, since the old one could
have put links there.
"""

from __future__ import annotations

import fcntl
import glob
import os
import stat
import time

from ...config import Config
from ...errors import ConfigError
from ..code_view import first_closed
from ..doctor.checks import api_uid

ENDING_S = 5.0
"""How long the rest of a daemon of which one half was killed may take to end."""


def database_path(config: Config) -> str:
    """The path of the api's SQLite file."""
    return f"{config.state_dir}/api/sandboxd.sqlite"


def owner(config: Config) -> int:
    """The uid that the api's directory belongs to; the api's, when there is none yet.

    The command line asks here rather than for the api's uid: a daemon may run with another
    configuration than it was told of.
    """
    try:
        found = os.stat(os.path.dirname(database_path(config))).st_uid
    except OSError:
        found = 0
    return found or api_uid(config)


def make(config: Config, uid: int) -> str:
    """Make the directories, closed to all but root and `uid`; the path of the api's database.

    Raises ConfigError when that cannot be, or when `uid` could not get there.
    """
    database = database_path(config)
    api = os.path.dirname(database)
    try:
        if not os.path.isdir(config.state_dir):
            os.makedirs(config.state_dir)
            os.chmod(config.state_dir, 0o711)  # whatever the umask
        if foreign := first_foreign(config.state_dir):
            raise ConfigError(
                f"--state-dir {config.state_dir}: {foreign} is in the hands of others than root, "
                "who could put links there for root to follow; choose another directory, or chown "
                "it to root and chmod go-w"
            )
        os.makedirs(api, mode=0o700, exist_ok=True)
        _hand_over(api, uid)
    except OSError as error:
        raise ConfigError(f"--state-dir {config.state_dir}: {error.strerror}") from None
    if closed := first_closed(config.state_dir, uid):
        raise ConfigError(
            f"--state-dir {config.state_dir}: {closed} is closed to the unprivileged api; "
            "choose a directory that others may pass through (chmod o+x)"
        )
    return database


def first_foreign(path: str) -> str | None:
    """The first directory or link on the way to `path` that is not root's, or `path` itself if
    others may write in it."""
    for whole in (os.path.abspath(path), os.path.realpath(path)):
        current = ""
        for part in whole.split("/")[1:]:
            current += f"/{part}"
            if os.lstat(current).st_uid != 0:
                return current
    return path if os.stat(path).st_mode & 0o022 else None


def lock(config: Config) -> int:
    """Take the state directory for this daemon; a descriptor that holds it while it is open.

    Both halves hold it, so that one that is still ending is waited for. Raises ConfigError when
    another daemon has it: two would remove each other's sessions.
    """
    try:
        fd = os.open(f"{config.state_dir}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:  # a file system that is mounted read-only
        raise ConfigError(f"--state-dir {config.state_dir}: {error.strerror}") from None
    deadline = time.monotonic() + ENDING_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
    os.close(fd)
    raise ConfigError(
        f"--state-dir {config.state_dir}: another sandboxd uses it; stop that one, or choose "
        "another directory"
    )


def expect_database(config: Config) -> None:
    """Raises ConfigError when there are files of sessions and no database that knows them: all
    would be taken for strays, and removed. To be called with the `lock`."""
    path, slots = database_path(config), f"{config.state_dir}/slots"
    if os.path.exists(path) and os.path.getsize(path):
        return
    kept = glob.glob(f"{slots}/*/session")
    if kept:
        raise ConfigError(
            f"{path} is {'empty' if os.path.exists(path) else 'missing'}, and {slots} has the "
            f"files of {len(kept)} sessions; put back a copy of it, or move {slots} away to begin "
            "without them"
        )


def _hand_over(path: str, uid: int) -> None:
    """Give the directory, and what its owner has in it, to `uid`; and what is root's there: an
    operator has put a copy back. Nobody else can have put it there: links to a file count."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        before = os.fstat(folder).st_uid
        for name in os.listdir(folder):
            try:  # not followed, and a FIFO does not block
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            except OSError:  # a link, say
                if before == uid:  # its own: whoever needs it will say what is wrong
                    continue
                raise
            try:
                found = os.fstat(fd)
                single = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
                if single and found.st_uid in (before, 0) and found.st_uid != uid:
                    os.fchown(fd, uid, uid)
            finally:
                os.close(fd)
        if before != uid:
            os.fchown(folder, uid, uid)  # last: if this is interrupted, it is done again
    finally:
        os.close(folder)
