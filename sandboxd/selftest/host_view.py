"""The host's view of the self-test: canaries that attacks try to reach, and the attacks' processes.

A program is found by a token in its command line. While it waits, its namespaces and its identity
are compared with those of this process, and its footprint is taken: uid, pid namespace, cgroups,
and the device of its workdir. When its session is gone, nothing of the footprint may be there. All
of this only reads; the canaries alone are changed, and they belong to the self-test. Shared files
are locked for a moment, to see whether a program has locked them.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import secrets
import signal
import socket
import stat
import struct
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import Unavailable
from ..host import cgroup_places, cgroupfs, mountinfo, procfs
from ..jail import syscalls
from .attack import Canary

GONE_S = 5.0
"""Time for the kernel to take the last of a session apart."""

NAMESPACES = ("mnt", "pid", "net", "ipc", "uts", "cgroup")
SHARED = ("/usr/bin", "/usr/bin/env", "/usr/lib", "/etc/ld.so.cache")
"""Files of the host that every session sees."""

_FLOCK = "hhqqi"  # struct flock of fcntl(2)
_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


@dataclass(frozen=True, slots=True)
class Footprint:
    """The places on the host where something of a session could remain.

    Slots and device numbers are used again at once, by other sessions too. So each place has
    something that is never used again: the pid namespace, the inode of a cgroup, the sequence
    number of a disk.
    """

    uid: int
    processes: str
    device: int
    disk: str
    groups: tuple[tuple[str, int], ...]


class Canaries:
    """A file, services and a process of the host that attacks may reach without harm."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sandboxd-selftest-"))
        os.chmod(folder, 0o755)  # everybody may write to the file, and only root to the directory
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
        self.canary = Canary(
            str(self._path), self._secret, self._tcp.getsockname()[1],
            self._udp.getsockname()[1], abstract, self._pid,
        )  # fmt: skip
        self.digest = hashlib.sha256(self._secret.encode()).hexdigest()
        for sock in (self._tcp, self._udp, self._unix):
            sock.setblocking(False)

    def touched(self) -> Iterator[str]:
        """The attacks that have reached a canary since the last call."""
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
    """The processes of the program with `token` whose command line can be read."""
    return [pid for pid in procfs.pids() if token in procfs.text(f"/proc/{pid}/cmdline")]


def footprint(pid: int) -> Footprint | None:
    """The footprint of the session of the process `pid`; None when it has just ended."""
    try:
        uid = int(_status(pid, "Uid")[0].split()[0])
        device = os.stat(f"/proc/{pid}/root/home/work").st_dev
        directories = sorted(_cgroups(pid))
        groups = tuple((path, os.stat(path).st_ino) for path in directories)
        return Footprint(uid, os.readlink(f"/proc/{pid}/ns/pid"), device, _disk(device), groups)
    except (OSError, IndexError):
        return None


def _cgroups(pid: int) -> set[str]:
    """The directories of the process's groups, the roots left out. Raises OSError."""
    points, paths = cgroup_places.mounts(), cgroup_places.paths_of(pid)
    places = {points[c] + path for c, path in paths.items() if c in points and path != "/"}
    return {place for place in places if pid in cgroupfs.members(place)}


def look(what: str, pid: int) -> list[str]:
    """The breaches to be seen on the process `pid`; `what` is the `looks` of an attack.

    Raises Unavailable when the process ended before it was looked at.
    """
    try:
        return list(_LOOKS[what](pid))
    except (OSError, ValueError) as error:
        raise Unavailable(f"process {pid} ended before the host looked at it") from error


def set_id_files(directory: str) -> Iterator[str]:
    """The set-user-ID and set-group-ID files below a workspace."""
    for top, _, names in os.walk(directory):
        for name in names:
            mode = os.lstat(f"{top}/{name}").st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                yield f"{name} is a set-user-ID file of the workspace"


def remains(of: Footprint) -> list[str]:
    """The remains of a session that has been deleted."""
    deadline = time.monotonic() + GONE_S
    while (present := list(_remains(of))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return present


def _remains(of: Footprint) -> Iterator[str]:
    if of.uid == 0:
        yield "its uid was root's, so its remains cannot be recognized"
        return
    yield from (f"process {pid}" for pid in procfs.pids() if _is_of(pid, of))
    for path, inode in of.groups:
        with contextlib.suppress(OSError):
            if os.stat(path).st_ino == inode:
                yield f"the cgroup {path}"
    number = f"{os.major(of.device)}:{os.minor(of.device)}"
    if _disk(of.device) == of.disk:
        for pid in procfs.pids():
            mounts = mountinfo.parse(procfs.text(f"/proc/{pid}/mountinfo"))
            if any(mount.device == number for mount in mounts):
                yield f"a mount of its scratch, seen by process {pid}"
                break
        if os.path.exists(f"/sys/dev/block/{number}/loop"):
            yield f"the loop device {number}"
    for kind in ("shm", "sem", "msg"):
        for line in procfs.lines(f"/proc/sysvipc/{kind}")[1:]:
            if str(of.uid) in line.split():
                yield f"a System V object ({kind})"
    for path in (*glob.glob("/dev/shm/*"), *glob.glob("/dev/mqueue/*"), *glob.glob("/tmp/*")):
        with contextlib.suppress(OSError):
            if os.lstat(path).st_uid == of.uid:
                yield path


def _is_of(pid: int, session: Footprint) -> bool:
    """The process is one of the session. Its pid namespace alone does not say so: the kernel may
    have given the number of the namespace to that of another jail by now."""
    try:
        is_there = os.readlink(f"/proc/{pid}/ns/pid") == session.processes
    except OSError:  # the process has ended
        return False
    return is_there and str(session.uid) in procfs.status(pid, "Uid")[0].split()


def _namespaces(pid: int) -> Iterator[str]:
    for kind in NAMESPACES:
        if os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}"):
            yield f"it shares the host's {kind} namespace"
    if os.stat(f"/proc/{pid}/root").st_dev == os.stat("/").st_dev:
        yield "its root is the host's"


def _identity(pid: int) -> Iterator[str]:
    uids, gids, groups, no_new_privs, seccomp, *sets = _status(
        pid, "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", *_SETS
    )
    for name, ids in (("Uid", uids), ("Gid", gids)):
        if "0" in ids.split() or len(set(ids.split())) != 1:
            yield f"{name}: {ids}"
    if "0" in groups.split():
        yield f"groups: {groups}"
    for name, mask in zip(_SETS, sets, strict=True):
        if int(mask, 16):
            yield f"{name}: {mask}"
    if (no_new_privs, seccomp) != ("1", "2"):
        yield f"no_new_privs {no_new_privs}, seccomp {seccomp}"


def _nothing(_: int) -> Iterator[str]:
    yield from ()


def _shared_files(_: int) -> Iterator[str]:
    """Use the system's files as any program of the host does, and find the program's locks."""
    for path in SHARED:
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if os.path.isdir(path):
                    os.listdir(fd)
                else:
                    os.read(fd, 1)
                yield from _locks(path, fd)
            finally:
                os.close(fd)


def _locks(path: str, fd: int) -> Iterator[str]:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield f"its lock on {path} (flock) locks the host's file"
    wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    lock, *_ = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, wanted))
    if lock != fcntl.F_UNLCK:
        yield f"its lock on {path} (fcntl) locks the host's file"


_LOOKS = {
    "namespaces": _namespaces, "identity": _identity, "shared-files": _shared_files,
    "nothing": _nothing,
}  # fmt: skip


def _disk(device: int) -> str:
    """The sequence number of a loop device (Linux 5.15), or its file: the next device of the same
    number has another."""
    path = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"
    lines = procfs.lines(f"{path}/diskseq") or procfs.lines(f"{path}/loop/backing_file")
    return lines[0] if lines else ""


def _status(pid: int, *names: str) -> list[str]:
    """Fields of /proc/PID/status. Raises OSError when the process is gone."""
    os.stat(f"/proc/{pid}")
    return procfs.status(pid, *names)
