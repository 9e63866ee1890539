"""The fork of the warden's children: workers and background jobs.

It forks without exec, since a fresh interpreter would cost 20 times as much. The warden therefore
controls all that a child inherits: its heap holds no secret and no client data, and the child
closes every descriptor that is not its own before it does anything else.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable

from ..jail.descriptors import close_others
from ..jail.stage import stage


def fork(keep: list[int], child: Callable[[], None]) -> int:
    """Fork; of all descriptors the child has `keep` and standard error."""
    with stage("fork"):
        pid = os.fork()
    if pid:
        return pid
    try:
        # The parent's garbage must not be collected here: that would close descriptors by numbers
        # that are the child's own by then.
        gc.freeze()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        close_others(keep, to_null=(0, 1))
        # No module is loaded from here on: the files may be those of another version soon.
        sys.meta_path.clear()
        child()
    finally:
        os._exit(1)
