"""The watch of a command on the CI system that has called it: the command ends with its parent.

A system that is killed says nothing to its children. A command that went on would hold its session,
and a job that no one waits for would run to its end.
"""

from __future__ import annotations

import os
import signal
import threading
import time

EVERY_S = 0.5


def end_with_parent() -> None:
    """Have this process get SIGTERM when its present parent has ended."""
    threading.Thread(target=_watch, args=(os.getppid(),), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)
