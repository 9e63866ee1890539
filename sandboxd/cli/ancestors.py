"""The ancestors of this process, up to the system that has called it."""

from __future__ import annotations

import os
from collections.abc import Mapping

ANCESTORS = 64
"""Shells and other processes of a job between the system and the command, at most."""


def first_process(environ: Mapping[str, str], mark: str) -> int:
    """The outermost process of a step: the last ancestor in a row, or this process, that has the
    variable `mark` with the value of `environ`, as far as this user may look."""
    pid = os.getpid()
    for _ in range(ANCESTORS):
        try:
            parent = parent_of(pid)
            if environment_of(parent).get(mark) != environ[mark]:
                break
        except OSError:
            break
        pid = parent
    return pid


def environment_of(pid: int) -> dict[str, str]:
    """The environment with which a process has begun. Raises OSError."""
    with open(f"/proc/{pid}/environ", "rb") as file:
        texts = os.fsdecode(file.read()).split("\0")
    return dict(text.split("=", 1) for text in texts if "=" in text)


def parent_of(pid: int) -> int:
    """The parent of a process. Raises OSError."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])
