"""The reader of /proc (proc(5)). The fields and files of a process that has ended are empty."""

from __future__ import annotations

import os
import re
from pathlib import Path


def pids() -> list[int]:
    """The processes of this moment."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def status(pid: int | str, *names: str) -> list[str]:
    """The values of these fields of /proc/PID/status, "" for one that is not there.

    A field is looked for where a line begins: the first line is a name that the process chooses.
    """
    content = text(f"/proc/{pid}/status")
    return [content.partition(f"\n{name}:")[2].partition("\n")[0].strip() for name in names]


def start_and_state(pid: int) -> tuple[int, str] | None:
    """The start time in clock ticks since boot, and the letter of the state (R, S, Z ...)."""
    fields = text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[19]), fields[0]) if len(fields) > 19 else None


def lines(path: str) -> list[str]:
    """The lines of a file of /proc or /sys; none when it cannot be read."""
    return text(path).splitlines()


def text(path: str, limit: int = -1) -> str:
    """The first `limit` bytes of a file of /proc or /sys; "" when it cannot be read."""
    try:
        with Path(path).open("rb", buffering=0) as file:
            data = file.read(limit) if limit >= 0 else file.readall()
    except OSError:
        return ""
    return (data or b"").decode("utf-8", "replace")


def unescaped(point: str) -> str:
    """A path of mountinfo (proc(5)) as it is; there, a space and the like are octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), point)
