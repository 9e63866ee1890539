"""A daemon for one command, when none is running: made in a directory of its own, gone after.

It gets SIGTERM when the command ends, and from the kernel if the command is killed; then it
takes everything with it: processes, cgroups, mounts, and the directory. If it is killed itself, the
command does that; if both are, the next command.
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

from ..errors import Unavailable
from ..jail import syscalls
from ..warden import private_cleanup

STOP_S = 20
PREFIX = "sandboxd-"


@contextlib.contextmanager
def private_daemon() -> Iterator[str]:
    """Start one; the path of its socket. Raises Unavailable with what it said."""
    private_cleanup.clear_old(tempfile.gettempdir(), PREFIX)
    folder = tempfile.mkdtemp(prefix=PREFIX)
    os.chmod(folder, 0o711)  # the unprivileged api has to reach its state in there
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = [package, os.environ.get("PYTHONPATH")]
    daemon = subprocess.Popen(
        [sys.executable, "-P", "-X", "utf8", "-m", "sandboxd", "serve", "--private", folder],
        env=os.environ | {"PYTHONPATH": ":".join(filter(None, paths))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the command, which ends the daemon in order
        preexec_fn=_die_with_parent,
    )
    try:
        assert daemon.stdout is not None
        if not daemon.stdout.readline():
            raise Unavailable("the private daemon did not start; its message is above")
        yield f"{folder}/api.sock"
    finally:
        _stop(daemon)
        if os.path.isdir(folder):
            private_cleanup.clear(folder)
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
