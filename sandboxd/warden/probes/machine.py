"""What else of this machine the daemon counts on."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ...errors import StageError
from ...model import GIB, MIB
from .. import checks
from . import Host


def uids(host: Host) -> str:
    """The uids of the slots are nobody's."""
    checks.uids_free(host.config.slots)
    slots = host.config.slots
    return f"{slots.first_uid} to {slots.first_uid + slots.count - 1}"


def interpreter(host: Host) -> str:
    """The unprivileged half can read Python and our code."""
    checks.readable(host.uid)
    return f"by uid {host.uid}"


def clock(_: Host) -> str:
    """Not before our own files: signatures of clients are checked against it."""
    made = os.stat(__file__).st_mtime
    now = time.time()
    text = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    if now < made:
        raise StageError("clock", f"it is not {text}: that is before sandboxd was installed")
    return text


def disk(host: Host) -> str:
    """Room for a session that fills its scratch."""
    found = os.statvfs(os.path.dirname(host.directory))
    free, wanted = found.f_bavail * found.f_frsize, host.config.scratch.size
    text = f"{free / GIB:.1f} GiB free beside the state directory"
    if free < wanted:
        raise StageError("disk", f"{text}, and one session may fill {wanted / GIB:.1f} GiB")
    return text


def memory(host: Host) -> str:
    """Room for a step that uses its memory."""
    words = Path("/proc/meminfo").read_text().split()
    free = int(words[words.index("MemAvailable:") + 1]) * 1024
    wanted = host.config.limits.exec.memory
    text = f"{free / GIB:.1f} GiB available"
    if free < wanted:
        raise StageError("memory", f"{text}, and one run may use {wanted / MIB:.0f} MiB")
    return text


def delegation(host: Host) -> str:
    """Under systemd the cgroup is ours: else systemd may change it, or end it, at any time."""
    if isinstance(host.hierarchy, str):
        raise StageError("cgroup", host.hierarchy)
    where = ", ".join(dict.fromkeys(host.hierarchy.base.values()))
    if os.path.isdir("/run/systemd/system") and "INVOCATION_ID" in os.environ:
        if not host.hierarchy.delegated:
            raise StageError("cgroup", "systemd has not delegated the cgroup of this service")
        return f"delegated by systemd: {where}"
    return f"no service of systemd; groups go to {os.path.dirname(where.split(', ')[0])}"
