"""The process of a shim: it begins as root, gives that up, and ends with its run.

What it needs root for comes first: the cgroup, the run's init (launch.py), descriptors of what
the run can fill up. Then it becomes the slot's uid, in the jail's root, with no more descriptors
than it uses, and goes through the steps (run.py). A failure of ours is the run's last event.
"""

from __future__ import annotations

import os
import resource
import signal
from typing import NoReturn

from ..errors import StageError
from ..jail import identity, syscalls
from ..jail.enter import JailSession
from ..jail.stage import stage
from ..model import most
from ..spool import ConsoleWriter, append_event
from . import shared_memory
from .control import READERS_MAX
from .denied_calls import DeniedCalls
from .init import only_keep
from .launch import Init, claim, prepare
from .run import RunExecution
from .run_spec import RunSpec
from .storage import SCRATCH, SHM, Storage


def main(order: RunSpec) -> NoReturn:
    """Be the shim of `order` until its run is over; never returns."""
    os.setsid()  # a signal to the daemon's terminal is not for us
    # Bounds the descriptors in flight of the whole uid as well, when it is we who send some.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    syscalls.set_process_title(f"sandboxd: shim slot {order.slot} run {order.run}")
    made = None
    try:
        order.jail.group.join_shims()
        order.jail.group.open()
        order.jail.group.limit(order.steps[0].limits)
        made = prepare(order.jail)
        limits = most(step.limits for step in order.steps)
        directories = order.workdir, order.tmp, order.folders
        session = JailSession(order.uid, order.gid, limits, *directories)
        storage = _storage(order)
        denied = claim(made, session, order.jail.filter.refused)
        storage.add(SHM, shared_memory.SHM)
        _give_up_root(order, made, denied, storage)
        RunExecution(order, made, denied, storage).steps()
    except StageError as error:
        _fault(order, error.stage, error.errno, error.message)
    except Exception as error:  # a bug of ours must not pass for the program's end
        number = error.errno if isinstance(error, OSError) else None
        _fault(order, "shim", number or 0, f"{type(error).__name__}: {error}")
    finally:
        if made:
            made.kill()
        os._exit(0)


def _storage(order: RunSpec) -> Storage:
    """What the run can fill up, by the mounts that are about to be given to its init."""
    with stage("storage"):
        folders = {f"folder {folder.name}": os.dup(folder.source) for folder in order.folders}
        return Storage({SCRATCH: os.dup(order.workdir)} | folders, order.console)


def _give_up_root(order: RunSpec, made: Init, denied: DeniedCalls, storage: Storage) -> None:
    """Become the slot's uid too: from here on the shim can do no more than the payload.

    init has pivoted the mount namespace that both share, so this root is the jail's already.
    """
    identity.apply(order.uid, order.gid)
    identity.verify(order.uid, order.gid)
    # The kernel tells who connects which process has called listen last, and as whom (SO_PEERCRED,
    # unix(7)): so does a warden know us that is not our parent.
    order.listener.listen(READERS_MAX)
    if order.tied:  # only now: a change of credentials clears it (prctl(2))
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    files = [fd for fd in (order.console, order.journal, order.stdin) if fd is not None]
    ends = made.sock.fileno(), order.listener.fileno(), denied.fileno()
    only_keep(*ends, *files, *storage.descriptors(), *order.jail.group.descriptors())


def _fault(order: RunSpec, stage: str, errno: int, message: str) -> None:
    """Our own failure, as the run's last event."""
    position = ConsoleWriter(order.console, order.keep.head, order.keep.tail).position
    event = {"event": "fault", "stage": stage, "errno": errno, "message": message}
    append_event(order.journal, event | {"console": position})
