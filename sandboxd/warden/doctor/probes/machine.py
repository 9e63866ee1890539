"""The probes of the machine's other resources."""

from __future__ import annotations

import os
import time

from ....errors import StageError
from ....host import cgroupfs
from ....host.free_space import FreeSpace
from ....host.memory import available
from ....host.tasks import OWN_TASKS, TaskMeter
from ....model import GIB, MIB
from ...host_limits import file_max
from .. import checks
from . import ProbeContext


def uids(host: ProbeContext) -> str:
    """No account has a uid of the slots."""
    checks.uids_free(host.config.slots)
    slots = host.config.slots
    return f"{slots.first_uid} to {slots.first_uid + slots.count - 1}"


def interpreter(host: ProbeContext) -> str:
    """The unprivileged half can read Python and our code."""
    checks.readable(host.uid)
    return f"by uid {host.uid}"


def clock(_: ProbeContext) -> str:
    """Not before our own files: signatures of clients are checked against it."""
    installed = os.stat(__file__).st_mtime
    now = time.time()
    text = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    if now < installed:
        raise StageError("clock", f"it is not {text}: that is before sandboxd was installed")
    return text


def disk(host: ProbeContext) -> str:
    """Room for a session that fills its scratch."""
    free, wanted = FreeSpace.at(os.path.dirname(host.directory)).bytes, host.config.scratch.size
    text = f"{free / GIB:.1f} GiB free beside the state directory"
    if free < wanted:
        raise StageError("disk", f"{text}, and one session may fill {wanted / GIB:.1f} GiB")
    return text


def memory(host: ProbeContext) -> str:
    """Room for a step that uses its memory."""
    free, wanted = available(), host.config.limits.exec.memory
    text = f"{free / GIB:.1f} GiB available"
    if free < wanted:
        raise StageError("memory", f"{text}, and one run may use {wanted / MIB:.0f} MiB")
    return text


def tasks(host: ProbeContext) -> str:
    """Processes and threads for a step without limits of its own, beside those of the host."""
    runs = "" if isinstance(host.hierarchy, str) else host.hierarchy.tasks
    meter = TaskMeter.of_daemon(host.config.cgroup, runs)
    bounds = meter.measure()
    meter.close()
    share, wanted = host.config.admission.tasks, host.config.limits.exec.pids + OWN_TASKS
    promised = int(share * bounds.free)
    text = f"{promised} are promised to runs at one time: {bounds.tightest}"
    if promised < wanted:
        raise StageError("tasks", f"{text}; one run may need {wanted}")
    return text


def open_files(host: ProbeContext) -> str:
    """Open files for the runs that may go on at one time, and as many for the rest of the host."""
    most, runs = file_max(), host.config.admission.runs
    wanted = 2 * runs * host.config.limits.exec.nofile
    text = f"fs.file-max is {most}; {runs} runs with nofile {host.config.limits.exec.nofile}"
    if most < wanted:
        remedy = f"sysctl fs.file-max={wanted}, and the same in /etc/sysctl.d"
        raise StageError("files", f"{text} and the host may need {wanted}", remedy=remedy)
    return text


def delegation(host: ProbeContext) -> str:
    """The delegation of the groups by systemd, which may change other groups at any time."""
    if isinstance(host.hierarchy, str):
        raise StageError("cgroup", host.hierarchy)
    if not os.path.isdir("/run/systemd/system"):
        return "no systemd here"
    for base in host.hierarchy.base.values():
        for path in (base, f"{cgroupfs.ROOT}/{host.config.cgroup}"):
            if cgroupfs.is_delegated(path):
                return f"systemd has delegated {path}"
    raise StageError("cgroup", "systemd runs this host, and has delegated no group")
