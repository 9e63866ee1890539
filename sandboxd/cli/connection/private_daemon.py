"""A private daemon: it serves one command where no daemon runs, and leaves nothing behind.

The command sends SIGTERM at its end; the kernel sends it if the command is killed. The daemon then
removes its processes, cgroups, mounts and its directory. If the daemon is killed, the command
cleans up; if both are killed, the next command does (warden/private_cleanup.py).

The exception is a session with results that could not be fetched. Its directory is preserved for a
day, and `sandboxd get --state DIR` starts a private daemon in it again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from ...errors import ConfigError, Unavailable
from ...jail import syscalls
from ...warden import private_cleanup

STOP_S = 20
PREFIX = "sandboxd-"


class PrivateDaemon:
    """A private daemon in the directory `folder`."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.socket = f"{folder}/api.sock"

    def preserve(self) -> None:
        """Let the directory outlive the daemon for a day. Raises OSError."""
        private_cleanup.preserve(self.folder)

    def forget(self) -> None:
        """Let the directory go with the daemon."""
        private_cleanup.forget(self.folder)


@contextlib.contextmanager
def private_daemon(preserved: str | None = None) -> Iterator[PrivateDaemon]:
    """Start a private daemon, in the `preserved` directory of an earlier one or in a new one.

    Raises Unavailable, and ConfigError for a directory that is not such a one.
    """
    private_cleanup.clear_old(tempfile.gettempdir(), PREFIX)
    if preserved is None:
        folder = tempfile.mkdtemp(prefix=PREFIX)
        os.chmod(folder, 0o711)  # the unprivileged api reaches its state in there
    else:
        folder = os.path.abspath(preserved)
        if not private_cleanup.is_preserved(folder):
            raise ConfigError(f"--state {preserved}: no results are stored there any more")
    package = os.path.abspath(f"{__file__}/../../../..")
    paths = [package, os.environ.get("PYTHONPATH")]
    daemon = subprocess.Popen(
        [sys.executable, "-P", "-X", "utf8", "-m", "sandboxd", "serve", "--private", folder],
        env=os.environ | {"PYTHONPATH": ":".join(filter(None, paths))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches the command only, which then ends the daemon
        preexec_fn=_die_with_parent,
    )
    try:
        assert daemon.stdout is not None
        if not daemon.stdout.readline():
            raise Unavailable("the private daemon did not start; its message is above")
        yield PrivateDaemon(folder)
    finally:
        _stop(daemon)
        if os.path.isdir(folder):
            private_cleanup.clear(folder)
            if not private_cleanup.is_preserved(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _die_with_parent() -> None:
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(STOP_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
    if daemon.stdout:
        daemon.stdout.close()
