"""The process of a shim: it starts as root, waits for the order of its run, drops root, and ends
with its run.

A shim, with its init, is an *entry* to the jail. Its states, and the messages that change them:

    prepared  The shim has forked an init (launch.py), and both have done all that needs no run. A
              spawner makes entries ahead (warden/runs/spawner.py). One that is made for an order
              that waits already is claimed before it is prepared.
    claimed   The warden has sent an order (run_spec.py), and the shim has acknowledged it. From
              then on the run goes on whatever becomes of the warden.
    warm      The run has ended by itself, and the next order may be of the same session (warm.py).

    shim -> warden   {"prepared": pid} + a pidfd of the shim, if no order has come before
    warden -> shim   an order; the next one only when the shim is warm
    shim -> warden   {"claimed": pid} + a pidfd of the shim

An entry that is not claimed ends when the warden closes the socket. The warden may kill an entry
that does not acknowledge its order, and give the order to another one: nothing of the run has begun
before the acknowledgement.

Then come the tasks that need root: the cgroup, the claim of the init, descriptors of the places
that the run can fill up. At last the shim takes the slot's uid, in the jail's root, keeps only the
descriptors that it uses, and runs the steps (run.py). A failure of the shim itself becomes the last
event of the run.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import NoReturn

from ..errors import StageError
from ..host.descriptors import allow_most, close_others, readable
from ..jail import identity, syscalls
from ..jail.enter import Jail, JailSession
from ..jail.mounts import FolderMount
from ..jail.stage import stage
from ..model import most
from ..spool import ConsoleWriter, append_event
from ..wire import messages
from . import ipc
from .broker_socket import BrokerSocket
from .control import READERS_MAX
from .denied_calls import DeniedCalls
from .facts import WORKSPACE
from .launch import Init, await_claim, await_prepared, prepare, send_claim
from .run import RunExecution
from .run_spec import DESCRIPTORS_MAX, ORDER, RunSpec
from .sockets import Sockets
from .storage import SCRATCH, SHM, Storage
from .warm import await_next_run


def main(sock: socket.socket, jail: Jail) -> NoReturn:
    """Be an entry: wait on `sock` for the order of a run, and be its shim until it is over."""
    # Before anything else: what the shim writes to in memory before the fork is copied twice.
    init = _prepare(jail)
    try:
        os.setsid()  # the shim gets no signals from the daemon's terminal, and a PID 1 none at all
        # The soft limit also bounds the descriptors in flight of the whole uid when the shim sends
        # one.
        allow_most()
        syscalls.set_process_title("sandboxd: prepared")
        if not readable(sock.fileno(), wait_s=0):
            if isinstance(init, StageError):
                raise EOFError
            await_prepared(init)
            _send(sock, "prepared")
            _wait(sock, init)
        _execute(_order(sock), jail, init, sock)
    except EOFError:  # the warden has gone, or does not want this entry any more
        pass
    finally:
        _kill(init)
        os._exit(0)


def _prepare(jail: Jail) -> Init | StageError:
    """An init, or the reason why there is none, for the journal of the run."""
    try:
        return prepare(jail)
    except StageError as error:
        return error


def _kill(init: Init | StageError) -> None:
    if isinstance(init, Init):
        init.kill()


def _wait(sock: socket.socket, init: Init) -> None:
    """Wait for an order. Raises EOFError when the init ends first."""
    if init.sock.fileno() in readable(sock.fileno(), init.sock.fileno()):
        raise EOFError


def _order(sock: socket.socket) -> RunSpec:
    """Take the order, and acknowledge it. Raises EOFError when none will come."""
    message, fds = messages.receive(sock, ORDER, DESCRIPTORS_MAX)
    if message is None:
        raise EOFError
    # A spawner's death does not end a run.
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, 0)
    _send(sock, "claimed")  # the warden waits for it
    spec = RunSpec.of_order(message, fds)
    if not spec.stays:
        sock.close()
    return spec


def _send(sock: socket.socket, state: str) -> None:
    """Send the state of this entry to the warden. Raises EOFError when the warden has gone."""
    pidfd = os.pidfd_open(os.getpid())
    try:
        messages.send(sock, {state: os.getpid()}, [pidfd])
    except (BrokenPipeError, ConnectionResetError):
        raise EOFError from None
    finally:
        os.close(pidfd)


def _execute(
    spec: RunSpec, jail: Jail, init: Init | StageError, sock: socket.socket
) -> NoReturn:  # fmt: skip
    """Be the shim of the run `spec` until the run is over, and of the runs that follow it."""
    syscalls.set_process_title(f"sandboxd: shim slot {spec.slot} run {spec.run}")
    try:
        if isinstance(init, StageError):
            raise init
        limits = most(step.limits for step in spec.steps)
        directories = spec.workdir, spec.tmp, spec.folders
        session = JailSession(spec.uid, spec.gid, spec.group, spec.runtime, limits, *directories)
        storage, sockets = _open_storage(spec), Sockets()
        spec.group.join_shims()
        spec.group.hold()
        send_claim(init, session)
        # While init completes the jail:
        spec.group.open()
        execution = RunExecution(spec, init, storage)
        denied = await_claim(init, jail.filter(spec.runtime, spec.folders).refused, sockets.opened)
        storage.add(SHM, ipc.SHM)
        broker = BrokerSocket() if spec.network else None
        _drop_root(spec, init, sock, denied, storage, broker, sockets)
        sockets.begin()
        execution.execute(denied, broker)
        while following := await_next_run(sock, execution, sockets):
            spec = following
            storage = storage.of_next_run(spec.console)
            execution = RunExecution(spec, init, storage)
            execution.execute(denied, broker)
    except StageError as error:
        _record_fault(spec, error.stage, error.errno, error.message)
    except Exception as error:  # a bug of the shim must not look like an end of the program
        number = error.errno if isinstance(error, OSError) else None
        _record_fault(spec, "shim", number or 0, f"{type(error).__name__}: {error}")
    finally:
        _kill(init)
        os._exit(0)


def _open_storage(spec: RunSpec) -> Storage:
    """The places that the run can fill up: copies of the descriptors that init will mount."""
    with stage("storage"):
        folders = {_place(folder): os.dup(folder.source) for folder in spec.folders}
        return Storage({SCRATCH: os.dup(spec.workdir)} | folders, spec.console)


def _place(folder: FolderMount) -> str:
    return WORKSPACE if folder.host else f"folder {folder.name}"


def _drop_root(
    spec: RunSpec, init: Init, sock: socket.socket, denied: DeniedCalls, storage: Storage,
    broker: BrokerSocket | None, sockets: Sockets,
) -> None:  # fmt: skip
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
    ends = [one.fileno() for one in (init.sock, spec.listener, spec.reader, denied, sockets)]
    ends += [sock.fileno()] if spec.stays else []
    ends += [broker.fileno()] if broker else []
    close_others([*ends, *files, *storage.descriptors(), *spec.group.descriptors()])


def _record_fault(spec: RunSpec, stage: str, errno: int, message: str) -> None:
    """Append a failure of the shim itself to the journal, as the last event of the run."""
    position = ConsoleWriter(spec.console, spec.bounds.head, spec.bounds.tail).position
    event = {"event": "fault", "stage": stage, "errno": errno, "message": message}
    append_event(spec.journal, event | {"console": position})
