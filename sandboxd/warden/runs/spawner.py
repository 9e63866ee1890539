"""The spawner: a light process of root that forks the shims of runs ahead of their runs.

A fork copies the page tables of its parent and makes both write copies of pages later. The heap of
the warden is large. So the spawner is an interpreter of its own, with only the modules of shims. It
makes entries to the jail (shim/main.py) and never sees a session, a request or a client's data.

    warden -> spawner   {"make"} + the entry's end of a socket
    spawner -> warden   {"ready": STAMP}               once, when it can make entries
    spawner -> warden   {"crashed": pid, "signal"}     a fault has ended an entry that it has made

Each page of memory that an entry writes to is copied for it, and Python writes to what it only
reads, too: the counts of references. So the spawner loads few modules. `logging` and `threading`,
which have something to do after each fork, are not among them.

Its mount namespace has none of the scratches and folders that the warden mounts: an entry that
waits would keep the file system of an ended session in use. The spawner ends with the warden, and
its entries end with it until they are claimed. It reads its jail once: for another one the warden
starts another spawner. It plans the root for its entries, which is as old as rootfs.PLAN_S at most.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import errno
import gc
import json
import os
import select
import signal
import socket
import sys
import zlib
from typing import Any

from ... import crash
from ...errors import StageError
from ...host import procfs
from ...host.descriptors import close_others
from ...jail import enter, namespaces, overlays, rootfs, syscalls
from ...jail.chroot import own_mounts
from ...jail.enter import Jail
from ...jail.overlays import HostView, Source
from ...jail.rootfs import RootPlan
from ...jail.seccomp import Filter
from ...shim import main as shim
from ...wire import messages
from .. import inherited
from ..fork import be_child


@dataclasses.dataclass(frozen=True, slots=True)
class SpawnerSpec:
    """The values of one spawner.

    mounted  directories below which the warden mounts the file systems of sessions
    """

    jail: Jail
    mounted: tuple[str, ...]

    def write(self) -> int:
        """A file with these values, for a new spawner."""
        fd = os.memfd_create("sandboxd-spawner", os.MFD_CLOEXEC)
        with open(fd, "w", encoding="utf-8", closefd=False) as file:
            json.dump(dataclasses.asdict(self), file, default=_text)
        return fd

    @classmethod
    def read(cls, fd: int) -> SpawnerSpec:
        """The values in the file `fd`."""
        with open(fd, encoding="utf-8") as file:
            values = json.loads(os.pread(file.fileno(), os.fstat(fd).st_size, 0))
        return cls(_jail(values["jail"]), tuple(values["mounted"]))


def _stamp() -> str:
    """A value that changes when the code on the disk is replaced: by the names, times and sizes of
    its files."""
    package = os.path.dirname(os.path.abspath(f"{__file__}/../.."))
    facts = []
    for part in ("", "/jail", "/shim", "/warden/runs"):
        for file in os.scandir(package + part):
            if file.name.endswith(".py"):
                status = file.stat()
                facts.append((file.path, status.st_mtime_ns, status.st_size))
    facts.sort()
    return f"{zlib.crc32(repr(facts).encode()):08x}"


STAMP = _stamp()
"""The code of this process."""


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _jail(values: dict[str, Any]) -> Jail:
    view = values["view"]
    sources = tuple(Source(**source) for source in view["sources"])
    return Jail(
        values["root"],
        tuple(values["paths"]),
        HostView(view["directory"], tuple(view["files"]), tuple(view["lowers"]), sources),
        tuple(values["outside"]),
        _filters(values["filters"]),
        _filters(values["workspace_filters"]),
    )


def _filters(values: dict[str, Any]) -> dict[str, Filter]:
    return {
        name: Filter(
            base64.b64decode(one["program"]),
            {int(number): call for number, call in one["refused"].items()},
        )
        for name, one in values.items()
    }


def main() -> None:
    """Be a spawner until the warden closes its end of the socket."""
    sock = inherited.warden_socket()
    spec = SpawnerSpec.read(inherited.VALUES)
    close_others([inherited.SOCKET], to_null=(0, 1))
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    crash.to_stderr()
    os.umask(0o077)
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    syscalls.set_process_title("sandboxd: spawner")
    own_mounts(namespaces.OF_SPAWNER, syscalls.MS_SLAVE)
    unmount_below(spec.mounted)
    outside = (*spec.jail.outside, namespaces.current())
    _serve(sock, dataclasses.replace(spec.jail, outside=outside))


def unmount_below(directories: tuple[str, ...]) -> None:
    """Unmount all below `directories` in this mount namespace. Sessions may end meanwhile, and the
    kernel takes the mounts of their scratches away here, too."""
    points = overlays.mount_points(procfs.read("/proc/self/mountinfo"))
    for point in sorted(points, reverse=True):
        if point.startswith(tuple(f"{directory}/" for directory in directories)):
            try:
                syscalls.umount2(point, syscalls.MNT_DETACH)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EINVAL) or os.path.ismount(point):
                    raise


def _rehearse(jail: Jail) -> None:
    """Build what entries build, once, and take it away. Python notes in code and types what it has
    looked up. An entry would do so for itself, and copy pages for it."""
    if sys.version_info < (3, 13):
        # The old notes refer to names all over the heap, which are written to as they go.
        sys._clear_type_cache()
    with contextlib.suppress(StageError):  # the entries report what is wrong
        enter.prepare(jail)
    os.umask(0o077)
    os.chdir("/")
    places = [f"{jail.view.directory}/{one.target}" for one in jail.view.overlays()]
    for place in (jail.root, *places):
        with contextlib.suppress(OSError):  # it was not mounted
            syscalls.umount2(place, syscalls.MNT_DETACH)


def _serve(sock: socket.socket, jail: Jail) -> None:
    entries: dict[int, int] = {}  # pidfd -> pid; a handler of SIGCHLD would be one of each entry
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    rootfs.host_cpuinfo()
    rootfs.host_possible_cpus()
    _rehearse(jail)
    # Each entry would do this for itself (fork.be_child), and copy pages for it.
    sys.meta_path.clear()
    gc.collect()
    gc.freeze()
    messages.send(sock, {"ready": STAMP})
    while True:
        for fd, _ in poll.poll():
            if fd in entries:
                poll.unregister(fd)
                os.close(fd)
                _collect(entries.pop(fd), sock)
                continue
            message, ends = messages.receive(sock)
            if message is None:
                return
            for end in ends:
                jail = _planned(jail)
                if (pid := _make(socket.socket(fileno=end), jail)) is not None:
                    pidfd = os.pidfd_open(pid)
                    entries[pidfd] = pid
                    poll.register(pidfd, select.POLLIN)


def _planned(jail: Jail) -> Jail:
    """The jail with a fresh plan. Without one, where the host allows none, each entry looks itself,
    and reports what is wrong."""
    if jail.plan and jail.plan.is_fresh:
        return jail
    try:
        return dataclasses.replace(jail, plan=RootPlan.make(jail.paths, jail.view))
    except OSError:
        return dataclasses.replace(jail, plan=None)


def _make(end: socket.socket, jail: Jail) -> int | None:
    """Fork an entry; its pid. None where that fails: the warden sees the end of the socket, and has
    another way."""
    spawner = os.getpid()
    with end:
        try:
            pid = os.fork()
        except OSError:
            return None
        if pid == 0:
            be_child([end.fileno()], lambda: _be_entry(spawner, end, jail), to_null=())
        return pid


def _be_entry(spawner: int, end: socket.socket, jail: Jail) -> None:
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == spawner:
        shim.main(end, jail)


def _collect(pid: int, sock: socket.socket) -> None:
    """Collect an entry that has ended."""
    _, status = os.waitpid(pid, 0)
    if fault := crash.fault(os.waitstatus_to_exitcode(status)):
        messages.send(sock, {"crashed": pid, "signal": fault})
