"""PID 1 of a run: enters the jail, then starts and reaps the steps' processes.

It is forked by the shim and speaks with it over one SOCK_SEQPACKET socket:

    shim -> init   {"limits", "uid", "gid", "folders"} + workdir, tmp and a descriptor for each
                   of the folders [name, attributes]              claim: become the session's
    init -> shim   {"listener"} + the seccomp listener             refused calls are the shim's
    init -> shim   {"ready"} or {"stage", "errno", "message"}      ... or say where it failed
    shim -> init   {"argv", "environ", "terminal"} + stdin, stdout, stderr   start a step; with
                   the name of a terminal instead of descriptors: on that
    init -> shim   {"exit": wait status}                           it is over, all of it
    shim -> init   {"signal": number}                              to the step's process group

A step is over when its first process has ended; whatever else it left running is killed then
(kill(2) with pid -1 reaches everything in the namespace but its init), so that steps do not
disturb each other and their pipes are closed. Init ends when the shim does, and the pid
namespace, with all processes in it, ends with init (pid_namespaces(7)).

All restrictions are on init itself, so a step needs nothing between spawn and exec, and plain
posix_spawn serves, which is the cheapest way to start a process.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import time
from typing import Any, NoReturn

from .. import crash, wire
from ..errors import StageError
from ..jail import rlimits, syscalls
from ..jail.enter import Jail, Session, claim, prepare
from ..jail.mounts import Folder
from ..jail.stage import stage
from ..model import HOME, Limits

LINGER_S = 1.0
"""What programs have to save their work when their terminal is gone and with it their shell."""

CANNOT_START = 126
"""Exit code of a step whose shell could not be executed, as shells have it."""

_ALL_SIGNALS = [s for s in signal.valid_signals() if s not in (signal.SIGKILL, signal.SIGSTOP)]


def main(sock: socket.socket, jail: Jail) -> NoReturn:
    """Be the init of a run until the shim closes `sock`."""
    try:
        syscalls.set_process_title("sandboxd: init")
        # A program of the run can send its PID 1 those signals that PID 1 has handlers for, and
        # no others (pid_namespaces(7)).
        crash.forget()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)  # for a PID 1 the default is to ignore
        # The host's /proc, while it is there: the jail's own is read-only.
        oom = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        _enter(sock, jail, oom)
        wire.send(sock, {"ready": True})
        _serve(sock, oom)
    except StageError as error:
        answer = {"stage": error.stage, "errno": error.errno, "message": error.message}
        wire.send(sock, answer)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ECONNRESET):  # the shim is gone: so are we
            wire.send(sock, {"stage": "init", "errno": error.errno, "message": str(error)})
    finally:
        os._exit(1)


def _enter(sock: socket.socket, jail: Jail, oom: int) -> None:
    tree = prepare(jail)
    message, fds = wire.receive(sock)
    if message is None:
        raise StageError("claim", "the shim is gone")
    limits = Limits(**message["limits"])
    folders = tuple(
        Folder(HOME, name, fd, attributes)
        for (name, attributes), fd in zip(message["folders"], fds[2:], strict=True)
    )
    session = Session(message["uid"], message["gid"], limits, fds[0], fds[1], folders)
    claim(jail, tree, session, lambda listener: _hand_over(sock, listener))
    # Only now: a change of credentials clears it (prctl(2), PR_SET_PDEATHSIG). If the shim died
    # before, the socket is at its end and _serve returns at once.
    with stage("init"):
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        only_keep(sock.fileno(), oom)


def _hand_over(sock: socket.socket, listener: int) -> None:
    """Give the seccomp listener to the shim; who had it here could answer for himself."""
    with stage("seccomp"):
        wire.send(sock, {"listener": True}, [listener])
        os.close(listener)


def only_keep(*keep: int) -> None:
    """Close every descriptor but `keep`; 0, 1 and 2 become the jail's own /dev/null."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    low = 3
    for fd in sorted(fd for fd in keep if fd > 2):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _serve(sock: socket.socket, oom: int) -> None:
    """Start what the shim says and tell it what became of it, until it is gone."""
    wake, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    step, terminal = 0, False
    while True:
        ready, _, _ = select.select([sock.fileno(), wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            status = _reap(step)
            if status is not None:
                step = 0
                if terminal and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGHUP:
                    _wait_for_rest(LINGER_S)
                _kill_rest()
                wire.send(sock, {"exit": status})
        if sock.fileno() in ready:
            message, fds = wire.receive(sock)
            if message is None:
                return
            if "argv" in message:
                step, terminal = _spawn(message, fds, oom), bool(message["terminal"])
            elif "signal" in message and step:
                _signal_group(step, message["signal"])


def _spawn(message: dict[str, Any], fds: list[int], oom: int) -> int:
    """Start a step in a session of its own, with exactly three descriptors; its pid.

    A terminal that the leader of a session opens becomes its controlling terminal (tty(4)), and
    the session is made before anything is opened.

    The step is born as the out-of-memory killer's first choice, else a flood of small processes
    would have it take init, which is larger than each of them.
    """
    with stage("spawn"):
        argv = message["argv"]
        files: list[Any] = [(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate(fds)]
        if name := message["terminal"]:
            files = [(os.POSIX_SPAWN_OPEN, 0, name, os.O_RDWR, 0)]
            files += [(os.POSIX_SPAWN_DUP2, 0, n) for n in (1, 2)]
        os.chdir(HOME)
        os.pwrite(oom, b"1000", 0)
        if message["rlimits"]:
            pid = _fork(message, fds)
        else:
            pid = os.posix_spawn(
                argv[0],
                argv,
                message["environ"],
                file_actions=files,
                setsid=True,
                setsigmask=(),
                setsigdef=_ALL_SIGNALS,
            )
        os.pwrite(oom, b"0", 0)
    wire.close_all(fds)
    return pid


def _fork(message: dict[str, Any], fds: list[int]) -> int:
    """The same for a step with rlimits of its own: posix_spawn has no place for them. 1 ms more."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        if name := message["terminal"]:
            fds = [os.open(name, os.O_RDWR)] * 3
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
        rlimits.apply(dict(message["rlimits"]))
        for number in _ALL_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.execve(message["argv"][0], message["argv"], message["environ"])
    finally:
        os._exit(CANNOT_START)


def _reap(step: int) -> int | None:
    """Collect every child that has ended; the wait status of `step` if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == step:
            found = status


def _wait_for_rest(seconds: float) -> None:
    """Collect what ends by itself within `seconds`."""
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.02)
    except ChildProcessError:
        pass


def _kill_rest() -> None:
    """Kill and collect all that the step left behind.

    kill(-1) signals every process there is at that moment, and a fork that is under way fails
    in a process that is being killed, so one more round finds what one round left.
    """
    while True:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _signal_group(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        pass  # it has just ended
