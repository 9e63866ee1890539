"""The init of a run, PID 1 of its namespace: it enters the jail, then starts and reaps the steps.

The shim forks init and speaks with it over one SOCK_SEQPACKET socket:

    init -> shim   {"prepared"} or {"stage", "errno", "message"}
                                                               all is done that needs no run
    shim -> init   {"uid", "gid", "group", "runtime", "limits", "folders"} + descriptors of workdir,
                   tmp and each of the folders [parent, name, attributes, host]
                                                               claim: take the run's identity
    init -> shim   {"listener"} + the seccomp listener         the shim answers refused calls
    init -> shim   {"ready"} or {"stage", "errno", "message"}  the jail is complete, or failed
    shim -> init   {"argv", "words", "environ", "terminal", "rlimits"} + stdin, stdout, stderr
                                                               start a step; with the name of a
                                                               terminal: on it, with no descriptor
                                                               or with stderr alone
    init -> shim   {"exit": wait status, "resident", "inherited"}
                                                               the step and all its processes ended;
                                                               see peaks.MemorySeen
    shim -> init   {"signal": number, "all"}                   signal the step's process group, or
                                                               all processes of the run

A step is over when its first process has ended. Init then kills all other processes of the step
(kill(2) with pid -1 reaches every process of the namespace except its init), so that steps do not
disturb each other and their pipes are closed. Init ends when the shim ends, and the pid namespace
with all its processes ends with init (pid_namespaces(7)).

All restrictions are on init itself and inherited. A step therefore needs no code between spawn and
exec, and posix_spawn, the cheapest way to start a process, is enough.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NoReturn

from .. import crash
from ..errors import StageError
from ..host.descriptors import close_others, readable
from ..jail import rlimits, syscalls
from ..jail.cgroup import Group
from ..jail.enter import Jail, JailSession, claim, prepare
from ..jail.stage import stage
from ..model import HOME, Limits
from ..wire import messages
from . import plain_command
from .run_spec import unpacked_folders

LINGER_S = 1.0
"""Seconds in which programs can save their work after their terminal and shell have gone."""

CANNOT_START = 126
"""Exit code of a step whose shell could not be executed, the same as in a shell."""

_ALL_SIGNALS = [int(s) for s in signal.valid_signals() if s not in (signal.SIGKILL, signal.SIGSTOP)]


def main(sock: socket.socket, jail: Jail) -> NoReturn:
    """Be the init of a run until the shim closes `sock`."""
    try:
        syscalls.set_process_title("sandboxd: prepared")
        # A program of the run can send its PID 1 those signals that PID 1 has handlers for, and
        # no others (pid_namespaces(7)). The shim has none for other signals.
        crash.forget()
        close_others([sock.fileno()], to_null=())  # the shim's, of its warden or its run
        # Opened in the /proc of the host, before the jail: the /proc of the jail is read-only.
        oom = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        _enter(sock, jail, oom)
        messages.send(sock, {"ready": True})
        _serve(sock, oom)
    except StageError as error:
        answer = {"stage": error.stage, "errno": error.errno, "message": error.message}
        messages.send(sock, answer)
    except (MemoryError, messages.WireError) as error:  # its own limits are too low for a message
        messages.send(sock, {"stage": "spawn", "errno": 0, "message": f"init: {error!r}"})
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ECONNRESET):  # the shim has gone: init ends too
            messages.send(sock, {"stage": "init", "errno": error.errno, "message": str(error)})
    finally:
        os._exit(1)


def _enter(sock: socket.socket, jail: Jail, oom: int) -> None:
    tree = prepare(jail)
    messages.send(sock, {"prepared": True})
    message, fds = messages.receive(sock)
    if message is None:
        os._exit(0)  # the shim has gone, and no run has come
    syscalls.set_process_title("sandboxd: init")
    limits = Limits(**message["limits"])
    folders = unpacked_folders(message["folders"], fds[2:])
    group, runtime = Group(message["group"]), str(message["runtime"])
    session = JailSession(
        message["uid"], message["gid"], group, runtime, limits, fds[0], fds[1], folders
    )
    claim(jail, tree, session, lambda listener: _send_listener(sock, listener))
    # After the change of credentials, which clears this setting (prctl(2), PR_SET_PDEATHSIG). If
    # the shim died before, the socket is at its end and _serve returns at once.
    with stage("init"):
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        close_others([sock.fileno(), oom])


def _send_listener(sock: socket.socket, listener: int) -> None:
    """Pass the seccomp listener to the shim. A program that got hold of a copy of it here could
    answer its own refused calls, so no copy stays."""
    with stage("seccomp"):
        messages.send(sock, {"listener": True}, [listener])
        os.close(listener)


def _serve(sock: socket.socket, oom: int) -> None:
    """Carry out the shim's messages and report the end of each step, until the shim has gone."""
    wake, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    step, terminal = 0, False
    children = Children()
    while True:
        ready = readable(sock.fileno(), wake)
        if wake in ready:
            os.read(wake, 4096)
            status = children.reap(step)
            if status is not None:
                step = 0
                if terminal and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGHUP:
                    children.reap_for(LINGER_S)
                children.kill_all()
                inherited = _resident(resource.getrusage(resource.RUSAGE_SELF))
                sizes = {"resident": children.resident, "inherited": inherited}
                messages.send(sock, {"exit": status} | sizes)
                children = Children()
        if sock.fileno() in ready:
            message, fds = messages.receive(sock)
            if message is None:
                return
            if "argv" in message:
                step, terminal = _spawn(message, fds, oom), bool(message["terminal"])
            elif "signal" in message and step:
                _signal(-1 if message["all"] else -step, message["signal"])


def _spawn(message: dict[str, Any], fds: list[int], oom: int) -> int:
    """Start a step in a new process session, with exactly three descriptors. Returns its pid.

    posix_spawn makes the process session before it opens a file. A terminal that the leader of a
    process session opens becomes its controlling terminal (tty(4)).

    The step starts as the first choice of the out-of-memory killer. Otherwise a flood of small
    processes would make the killer choose init, which is larger than each of them.
    """
    with stage("spawn"):
        files: list[Any] = [(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate(fds)]
        if name := message["terminal"]:
            files = [(os.POSIX_SPAWN_OPEN, 0, name, os.O_RDWR, 0)]
            files += [(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in _beside_terminal(fds)]
        os.chdir(HOME)
        os.pwrite(oom, b"1000", 0)
        if message["rlimits"]:
            pid = _fork(message, fds)
        else:
            pid = _execute(
                message,
                functools.partial(
                    os.posix_spawn,
                    file_actions=files,
                    setsid=True,
                    setsigmask=(),
                    setsigdef=_ALL_SIGNALS,
                ),
            )
        os.pwrite(oom, b"0", 0)
    messages.close_all(fds)
    return pid


def _beside_terminal(fds: list[int]) -> list[tuple[int, int]]:
    """Standard output and standard error of a step with a terminal as descriptor 0: copies of it,
    or standard error is the one descriptor in `fds`."""
    return [(1, 0), (2, fds[0] if fds else 0)]


def _fork(message: dict[str, Any], fds: list[int]) -> int:
    """Start a step with its own rlimits, which posix_spawn cannot set. This costs 1 ms more."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        if name := message["terminal"]:
            os.dup2(os.open(name, os.O_RDWR), 0)
        for number, fd in _beside_terminal(fds) if name else enumerate(fds):
            os.dup2(fd, number)
        rlimits.apply(dict(message["rlimits"]))
        for number in _ALL_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        _execute(message, os.execve)
    finally:
        os._exit(CANNOT_START)


def _execute(message: dict[str, Any], start: Callable[..., int]) -> int:
    """The result of `start` for the program of a step, or for the shell if there is no such program
    or the kernel cannot execute it. The shell then says why, or runs a script."""
    environ, words = message["environ"], message["words"]
    if words and (path := plain_command.executable(words[0], environ)):
        with contextlib.suppress(OSError):
            return start(path, words, environ | plain_command.variables(path))
    return start(message["argv"][0], message["argv"], environ)


class Children:
    """The children of init during one step: the step's first process, and all whose own parent has
    ended. `resident` is the largest resident set of one that was reaped, in bytes."""

    def __init__(self) -> None:
        self.resident = 0

    def reap(self, step: int) -> int | None:
        """Reap every child that has ended. Returns the wait status of `step` if it has ended."""
        step_status = None
        try:
            while True:
                pid, status = self._wait(os.WNOHANG)
                if pid == 0:
                    return step_status
                if pid == step:
                    step_status = status
        except ChildProcessError:
            return step_status

    def reap_for(self, seconds: float) -> None:
        """Reap the processes that end by themselves within `seconds`."""
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                if self._wait(os.WNOHANG)[0] == 0:
                    time.sleep(0.02)
        except ChildProcessError:
            pass

    def kill_all(self) -> None:
        """Kill and reap all processes of the namespace except init.

        kill(-1) signals every process that exists at that moment. A fork that is under way fails
        in a process that is being killed. The loop ends when there is no child left.
        """
        while True:
            try:
                os.kill(-1, signal.SIGKILL)
            except ProcessLookupError:
                pass
            try:
                self._wait(0)
            except ChildProcessError:
                return

    def _wait(self, options: int) -> tuple[int, int]:
        """waitpid(2) for any child. Its usage contains that of the children that it reaped."""
        pid, status, usage = os.wait4(-1, options)
        if pid:
            self.resident = max(self.resident, _resident(usage))
        return pid, status


def _resident(usage: resource.struct_rusage) -> int:
    """The largest resident set in bytes; the kernel counts KiB (getrusage(2))."""
    return usage.ru_maxrss * 1024


def _signal(target: int, number: int) -> None:
    """Signal a process group, or with -1 all processes of the namespace except init (kill(2))."""
    try:
        os.kill(target, number)
    except ProcessLookupError:
        pass  # the step has just ended
