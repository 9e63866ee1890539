"""Pools of threads that are all started at once.

A pool of Python starts a thread when work arrives. On a host without a free task that fails, with a
RuntimeError that no caller expects. A pool of started threads works on.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor


def start_all(pool: ThreadPoolExecutor, count: int) -> ThreadPoolExecutor:
    """Start the `count` threads of a pool; the pool. Raises RuntimeError when the host has none."""
    together = threading.Barrier(count + 1)  # so that no thread takes two of the calls
    for _ in range(count):
        pool.submit(together.wait)
    together.wait()
    return pool
