"""The host's side: canaries for attacks to find, and what is to be seen of a program from outside.

A program is found by a token in its command line. While it waits, its namespaces and its identity
are compared with ours; and its footprint is taken: uid, cgroups, and the device of its workdir.
When its session is gone, nothing of the footprint may be there. All of it is read, nothing is
changed but the canaries, which are ours.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..jail import syscalls
from .attack import Canary

GONE_S = 5.0
"""What the kernel may take to take the last of a session apart."""

NAMESPACES = ("mnt", "pid", "net", "ipc", "uts", "cgroup")
_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


@dataclass(frozen=True, slots=True)
class Footprint:
    """Where on the host something of a session could be left.

    Slots and device numbers are used again at once, by other sessions too; so there is something
    with each that is not: the pid namespace, the inode of a cgroup, the sequence of a disk.
    """

    uid: int
    processes: str
    device: int
    disk: str
    groups: tuple[tuple[str, int], ...]


class Canaries:
    """A file, services and a process of the host, made to be attacked."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sandboxd-selftest-"))
        os.chmod(folder, 0o755)  # only the file is everybody's: root removes the rest
        self._path = Path(folder, "canary")
        self._secret = secrets.token_hex(16)
        self._path.write_text(self._secret)
        self._path.chmod(0o666)
        self._tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._udp.bind(("127.0.0.1", 0))
        self._unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract = f"sandboxd-selftest-{secrets.token_hex(8)}"
        self._unix.bind(f"\0{abstract}")
        self._unix.listen()
        self._pid = _sleeper()
        stack.callback(lambda: _end(self._pid))
        self.told = Canary(
            str(self._path), self._secret, self._tcp.getsockname()[1],
            self._udp.getsockname()[1], abstract, self._pid,
        )  # fmt: skip
        self.digest = hashlib.sha256(self._secret.encode()).hexdigest()
        for sock in (self._tcp, self._udp, self._unix):
            sock.setblocking(False)

    def touched(self) -> Iterator[str]:
        """What has happened to them since the last look."""
        if self._path.read_text() != self._secret:
            yield "the canary file was written to"
            self._path.write_text(self._secret)
        for name, sock in (("TCP", self._tcp), ("abstract", self._unix)):
            with contextlib.suppress(BlockingIOError):
                sock.accept()[0].close()
                yield f"the {name} canary was reached"
        with contextlib.suppress(BlockingIOError):
            self._udp.recv(64)
            yield "the UDP canary was reached"
        if os.waitpid(self._pid, os.WNOHANG) != (0, 0):
            yield "the canary process was killed"
            self._pid = _sleeper()


def _sleeper() -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.pause()
        os._exit(0)
    return pid


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def find(token: str) -> list[int]:
    """The processes of the program with `token`, but for those that show theirs to nobody."""
    return [pid for pid in _pids() if token.encode() in _read(f"/proc/{pid}/cmdline")]


def footprint(pid: int) -> Footprint | None:
    """Of the session of the process `pid`; None when it has just ended."""
    try:
        uid = int(_status(pid)["Uid"].split()[0])
        device = os.stat(f"/proc/{pid}/root/home/work").st_dev
        groups = tuple((path, os.stat(path).st_ino) for path in sorted(_groups(pid)))
        return Footprint(uid, os.readlink(f"/proc/{pid}/ns/pid"), device, _disk(device), groups)
    except (OSError, KeyError):
        return None


def look(what: str, pid: int) -> list[str]:
    """What the process `pid` has that it must not have; `what` is the `looks` of an attack."""
    try:
        return list(_LOOKS[what](pid))
    except (OSError, KeyError):
        return ["it was gone before the host had looked"]


def left(of: Footprint) -> list[str]:
    """What is left of a session that has been deleted."""
    deadline = time.monotonic() + GONE_S
    while (found := list(_left(of))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _left(of: Footprint) -> Iterator[str]:
    if of.uid == 0:
        yield "it was root: what is left of it cannot be told from the rest"
        return
    for pid in _pids():
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/ns/pid") == of.processes:
                yield f"process {pid}"
    for path, inode in of.groups:
        with contextlib.suppress(OSError):
            if os.stat(path).st_ino == inode:
                yield f"the cgroup {path}"
    number = f"{os.major(of.device)}:{os.minor(of.device)}"
    if _disk(of.device) == of.disk:
        for pid in _pids():
            if any(line.split()[2] == number for line in _lines(f"/proc/{pid}/mountinfo")):
                yield f"a mount of its scratch, seen by process {pid}"
                break
        if os.path.exists(f"/sys/dev/block/{number}/loop"):
            yield f"the loop device {number}"
    for kind in ("shm", "sem", "msg"):
        for line in _lines(f"/proc/sysvipc/{kind}")[1:]:
            if str(of.uid) in line.split():
                yield f"a System V object ({kind})"
    for path in (*glob.glob("/dev/shm/*"), *glob.glob("/dev/mqueue/*"), *glob.glob("/tmp/*")):
        with contextlib.suppress(OSError):
            if os.lstat(path).st_uid == of.uid:
                yield path


def _namespaces(pid: int) -> Iterator[str]:
    for kind in NAMESPACES:
        if os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}"):
            yield f"it shares our {kind} namespace"
    if os.stat(f"/proc/{pid}/root").st_dev == os.stat("/").st_dev:
        yield "its root is ours"


def _identity(pid: int) -> Iterator[str]:
    status = _status(pid)
    for name in ("Uid", "Gid"):
        if "0" in status[name].split() or len(set(status[name].split())) != 1:
            yield f"{name}: {status[name]}"
    if "0" in status["Groups"].split():
        yield f"groups: {status['Groups']}"
    for name in _SETS:
        if int(status[name], 16):
            yield f"{name}: {status[name]}"
    if (status["NoNewPrivs"], status["Seccomp"]) != ("1", "2"):
        yield f"no_new_privs {status['NoNewPrivs']}, seccomp {status['Seccomp']}"


def _nothing(_: int) -> Iterator[str]:
    yield from ()


_LOOKS = {"namespaces": _namespaces, "identity": _identity, "nothing": _nothing}


def _groups(pid: int) -> Iterator[str]:
    """The directories of its cgroups."""
    for line in _lines(f"/proc/{pid}/cgroup"):
        _, controllers, path = line.split(":", 2)
        for place in (controllers.removeprefix("name="), *controllers.split(","), "", "unified"):
            directory = f"/sys/fs/cgroup/{place}{path}".replace("//", "/")
            if path != "/" and os.path.isdir(directory) and str(pid) in _lines(
                f"{directory}/cgroup.procs"
            ):  # fmt: skip
                yield directory


def _disk(device: int) -> str:
    """What tells a loop device from the next one of its number: it is counted (Linux 5.15)."""
    path = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"
    lines = _lines(f"{path}/diskseq") or _lines(f"{path}/loop/backing_file")
    return lines[0] if lines else ""


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _status(pid: int) -> dict[str, str]:
    pairs = (line.partition(":") for line in _lines(f"/proc/{pid}/status"))
    return {name: value.strip() for name, _, value in pairs}


def _lines(path: str) -> list[str]:
    return _read(path).decode(errors="replace").splitlines()


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
