"""The process of a shim: it starts as root, drops root, and ends with its run.

The tasks that need root come first: the cgroup, the run's init (launch.py), descriptors of the
places that the run can fill up. Then the shim takes the slot's uid, in the jail's root, keeps only
the descriptors that it uses, and runs the steps (run.py). A failure of the shim itself becomes the
last event of the run.
"""

from __future__ import annotations

import os
import resource
import signal
from typing import NoReturn

from ..errors import StageError
from ..jail import identity, syscalls
from ..jail.descriptors import close_others
from ..jail.enter import JailSession
from ..jail.stage import stage
from ..model import most
from ..spool import ConsoleWriter, append_event
from . import ipc
from .control import READERS_MAX
from .denied_calls import DeniedCalls
from .launch import Init, claim, prepare
from .run import RunExecution
from .run_spec import RunSpec
from .storage import SCRATCH, SHM, Storage


def main(spec: RunSpec) -> NoReturn:
    """Be the shim of the run `spec` until the run is over."""
    os.setsid()  # the shim gets no signals from the daemon's terminal
    # The soft limit also bounds the descriptors in flight of the whole uid when the shim sends one.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    syscalls.set_process_title(f"sandboxd: shim slot {spec.slot} run {spec.run}")
    init = None
    try:
        spec.jail.group.join_shims()
        spec.jail.group.open()
        spec.jail.group.limit(spec.steps[0].limits)
        init = prepare(spec.jail)
        limits = most(step.limits for step in spec.steps)
        directories = spec.workdir, spec.tmp, spec.folders
        session = JailSession(spec.uid, spec.gid, limits, *directories)
        storage = _open_storage(spec)
        denied = claim(init, session, spec.jail.filter.refused)
        storage.add(SHM, ipc.SHM)
        _drop_root(spec, init, denied, storage)
        RunExecution(spec, init, denied, storage).execute()
    except StageError as error:
        _record_fault(spec, error.stage, error.errno, error.message)
    except Exception as error:  # a bug of the shim must not look like an end of the program
        number = error.errno if isinstance(error, OSError) else None
        _record_fault(spec, "shim", number or 0, f"{type(error).__name__}: {error}")
    finally:
        if init:
            init.kill()
        os._exit(0)


def _open_storage(spec: RunSpec) -> Storage:
    """The places that the run can fill up: copies of the descriptors that init will mount."""
    with stage("storage"):
        folders = {f"folder {folder.name}": os.dup(folder.source) for folder in spec.folders}
        return Storage({SCRATCH: os.dup(spec.workdir)} | folders, spec.console)


def _drop_root(spec: RunSpec, init: Init, denied: DeniedCalls, storage: Storage) -> None:
    """Take the slot's uid: from now on the shim has no more rights than the program.

    Shim and init share a mount namespace. Init has pivoted its root, so the shim's root is the
    jail's already.
    """
    identity.apply(spec.uid, spec.gid)
    identity.verify(spec.uid, spec.gid)
    # SO_PEERCRED of a connection names the process that called listen last, and its uid (unix(7)).
    # A later warden, which is not the shim's parent, identifies the shim by them.
    spec.listener.listen(READERS_MAX)
    if spec.tied:  # after the change of credentials, which clears this setting (prctl(2))
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    files = [fd for fd in (spec.console, spec.journal, spec.stdin) if fd is not None]
    ends = init.sock.fileno(), spec.listener.fileno(), denied.fileno()
    close_others([*ends, *files, *storage.descriptors(), *spec.jail.group.descriptors()])


def _record_fault(spec: RunSpec, stage: str, errno: int, message: str) -> None:
    """Append a failure of the shim itself to the journal, as the last event of the run."""
    position = ConsoleWriter(spec.console, spec.bounds.head, spec.bounds.tail).position
    event = {"event": "fault", "stage": stage, "errno": errno, "message": message}
    append_event(spec.journal, event | {"console": position})
