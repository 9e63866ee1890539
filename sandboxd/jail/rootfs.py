"""The parts of a run's root, as a list that reads top to bottom. mounts.py puts them in."""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..host import procfs
from ..model import ALIASES, HOME, PATH
from .mounts import (
    NODEV,
    NOEXEC,
    NOSUID,
    READ_ONLY,
    WRITABLE,
    Bind,
    Directory,
    File,
    FileMount,
    Link,
    Mask,
    Mount,
    Node,
    Part,
)  # fmt: skip
from .overlays import HostView

USER = "work"

SEALED = ("/", "/dev", "/proc")
"""Mounts that are filled first and made read-only at the end."""

# Readable by all or dangerous when written, and of no use to a program in a jail. Those that
# only root may read or write are masked all the same: one wall more (Docker masks most of them).
# interrupts, softirqs, diskstats, vmstat, schedstat and pressure tell one tenant when another
# types, computes and stores; locks and the counts of sys, how many there are. cmdline,
# config.gz and the like describe the host. Programs of runtimes need the rest: docs/security.md.
MASKED = (
    "allocinfo", "bootconfig", "buddyinfo", "cmdline", "config.gz", "consoles",
    "crypto", "devices", "diskstats", "dma", "execdomains", "fb", "interrupts", "iomem", "ioports",
    "kallsyms", "kcore", "key-users", "keys", "kmsg", "kpagecgroup", "kpagecount", "kpageflags",
    "latency_stats", "lock_stat", "locks", "mdstat", "misc", "modules", "mtrr", "pagetypeinfo",
    "partitions", "sched_debug", "schedstat", "slabinfo", "softirqs", "swaps", "sys/fs/aio-nr",
    "sys/fs/dentry-state", "sys/fs/file-nr", "sys/fs/inode-nr", "sys/fs/inode-state",
    "sys/kernel/pty/nr", "sysrq-trigger", "timer_list", "vmallocinfo", "vmstat", "zoneinfo",
)  # fmt: skip
MASKED_DIRECTORIES = (
    "acpi", "asound", "bus", "driver", "fs", "irq", "pressure", "scsi", "sys/dev", "sys/fs/quota",
    "tty",
)  # fmt: skip

BOOT_ID = "/proc/sys/kernel/random/boot_id"

NODES = {
    "null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9),
    "tty": (5, 0),
}  # fmt: skip

TERMINALS = 64
"""Pseudo terminals of a run. The kernel counts them for the whole host (kernel.pty.max), so one
run could take them all away from everybody else, ssh included."""

ALSO_CALLED = {"python": "python3"}
"""Names in ALIASES, and the programs of PATH that they stand for. A program that the host itself
calls so comes first."""

PLAN_S = 10.0
"""How long a spawner uses a plan. An entry that is prepared is older in the end."""

CGROUPS = "/sys/fs/cgroup"
SHOWN_CONTROLLERS = ("memory", "cpu", "cpuacct", "cpuset")
"""The v1 controllers by which a JVM sizes itself; one that is missing makes it ignore all."""

CPUS = "/sys/devices/system/cpu"

HOST_CPUS = os.cpu_count() or 1
"""CPUs of the host at the start of a spawner."""


@dataclass(frozen=True, slots=True)
class RootPlan:
    """The parts of the host, /dev and /proc that runs see, as the host was at `moment`, by the
    monotonic clock."""

    paths: tuple[str, ...]
    view: HostView
    parts: list[Part]
    moment: float

    @classmethod
    def make(cls, paths: tuple[str, ...], view: HostView) -> RootPlan:
        """Look at the host, which takes a twentieth of a run."""
        return cls(paths, view, _system(paths, view), time.monotonic())

    @property
    def is_fresh(self) -> bool:
        """The host may be planned for as it was."""
        return time.monotonic() - self.moment < PLAN_S


def system(plan: RootPlan) -> list[Part]:
    """The parts that no session has a share in."""
    # By the host's, two sessions know that they are on one host, and when it was started.
    return [*plan.parts, FileMount(BOOT_ID, f"{_random_uuid()}\n")]


def _system(paths: Iterable[str], view: HostView) -> list[Part]:
    return [
        *view.overlays(),
        Mount("/", "tmpfs", WRITABLE, "size=1m,nr_inodes=4096,mode=755"),
        *_host(paths, view),
        *view.binds("/etc"),
        *_aliases(),
        *(Directory(path) for path in ("/run", "/home", "/var", "/root")),
        *view.binds("/var/lib"),
        *(part for path in view.files if _fits(path, view.copy) for part in view.binds(path)),
        Link("/var/tmp", "/tmp"),
        Link("/var/run", "/run"),
        *_dev(),
        *_proc(),
    ]


def cgroups(dirs: Mapping[str, str]) -> list[Part]:
    """The run's own cgroup, which the directories `dirs` are, where programs look for it.

    Each is a read-only clone of one directory, so no group above or beside it can be reached, and
    a writable descriptor cannot be opened, as triggers of pressure would need.
    """
    attributes = READ_ONLY | NOEXEC
    if "" in dirs:
        return [Bind(CGROUPS, dirs[""], attributes)]
    names: dict[str, list[str]] = {}
    for controller in SHOWN_CONTROLLERS:
        if controller in dirs:
            names.setdefault(dirs[controller], []).append(controller)
    parts: list[Part] = [Directory(CGROUPS)]
    for directory, controllers in names.items():
        parts.append(Bind(f"{CGROUPS}/{','.join(controllers)}", directory, attributes))
        if len(controllers) > 1:  # one mount for both, with links, as on the hosts that have it
            target = ",".join(controllers)
            parts += [Link(f"{CGROUPS}/{name}", target) for name in controllers]
    return parts


def cpus(share: float) -> list[Part]:
    """As many CPUs in /sys and /proc/cpuinfo as a run with this share of CPUs can use, in plain
    files.

    `possible` keeps the host's numbers: the kernel may run a thread on any of them, and libraries
    size their tables of CPUs by that file.
    """
    count = shown_cpus(share)
    last = f"0-{count - 1}\n" if count > 1 else "0\n"
    return [
        Directory(CPUS),
        *(Directory(f"{CPUS}/cpu{number}") for number in range(count)),
        File(f"{CPUS}/online", last),
        File(f"{CPUS}/present", last),
        File(f"{CPUS}/possible", host_possible_cpus()),
        FileMount("/proc/cpuinfo", _cpuinfo(count)),
    ]


def _cpuinfo(count: int) -> str:
    """The part of the host's /proc/cpuinfo about its first `count` CPUs. A blank line ends each."""
    paragraphs = host_cpuinfo().split("\n\n")[:count]
    return "".join(f"{text}\n\n" for text in paragraphs if text)


@functools.cache
def host_cpuinfo() -> str:
    """The host's /proc/cpuinfo, as it is when it is first wanted: at the start of a spawner. The
    kernel asks each CPU for its frequency, which takes 0.07 ms a CPU."""
    return procfs.read("/proc/cpuinfo")


@functools.cache
def host_possible_cpus() -> str:
    """The numbers that the host's CPUs can have. They do not change while it runs."""
    try:
        return procfs.read(f"{CPUS}/possible")
    except OSError:  # a container without /sys
        return f"0-{HOST_CPUS - 1}\n"


def shown_cpus(share: float) -> int:
    """The whole number of CPUs that programs are shown for a share of CPUs."""
    return max(1, min(math.ceil(share), HOST_CPUS))


def session(
    uid: int, gid: int, workdir: int | None, tmp: int, shm: int, share: float
) -> list[Part]:
    """The parts of one session: its accounts, its directories (descriptors), `shm` bytes, and its
    `share` of CPUs. Without a workdir there is a place for a workspace."""
    accounts = f"root:x:0:0:root:/root:/bin/sh\n{USER}:x:{uid}:{gid}:{USER}:{HOME}:/bin/bash\n"
    return [
        FileMount("/etc/passwd", accounts + "nobody:x:65534:65534:nobody:/:/bin/false\n"),
        FileMount("/etc/group", f"root:x:0:\ntty:x:5:\n{USER}:x:{gid}:\nnogroup:x:65534:\n"),
        Mount("/dev/shm", "tmpfs", WRITABLE, f"size={shm},nr_inodes=4096,mode=1777,uid={uid}"),
        *cpus(share),
        Directory(HOME) if workdir is None else Bind(HOME, workdir, WRITABLE),
        Bind("/tmp", tmp, WRITABLE),
    ]


def _host(paths: Iterable[str], view: HostView) -> list[Part]:
    parts: list[Part] = []
    for path in paths:
        if os.path.islink(path):  # merged /usr: /bin -> usr/bin
            parts.append(Link(path, os.readlink(path)))
        elif os.path.isdir(path):
            parts += view.binds(path)
    return parts


def _fits(path: str, copy: str) -> bool:
    """`path` can still be bound. It may have been removed, or become a link, or a directory
    instead of a file, since the copy was made. Then the next copy will leave it out."""
    if os.path.islink(path) or not os.path.exists(path):
        return False
    place = copy + path
    return not os.path.exists(place) or os.path.isdir(place) == os.path.isdir(path)


def _aliases() -> list[Part]:
    """Names that commands of Backend.AI's users take for granted and Debian does not give."""
    places = [(name, f"{directory}/{program}") for name, program in ALSO_CALLED.items()
              for directory in reversed(PATH.split(":"))]  # fmt: skip
    first = {name: path for name, path in places if os.access(path, os.X_OK)}
    return [Directory(ALIASES), *(Link(f"{ALIASES}/{name}", path) for name, path in first.items())]


def _dev() -> list[Part]:
    return [
        # No nodev here: /dev is there for the six nodes. mknod needs CAP_MKNOD, and it is sealed.
        Mount(
            "/dev", "tmpfs", NOSUID | NOEXEC,
            "size=64k,nr_inodes=64,mode=755",
        ),
        *(Node(f"/dev/{name}", *number) for name, number in NODES.items()),
        Mount(
            "/dev/pts", "devpts", NOSUID | NOEXEC,
            f"newinstance,ptmxmode=0666,mode=620,gid=5,max={TERMINALS}",
        ),
        Link("/dev/ptmx", "pts/ptmx"),
        Link("/dev/fd", "/proc/self/fd"),
        *(Link(f"/dev/{name}", f"/proc/self/fd/{n}") for n, name in enumerate(
            ("stdin", "stdout", "stderr"))),
        Directory("/dev/shm"),
        # POSIX message queues outlive processes. Their files are here, so the shim can remove them.
        *(
            [Mount("/dev/mqueue", "mqueue", WRITABLE | NOEXEC)]
            if os.path.exists("/proc/sys/fs/mqueue") else []  # a kernel without them
        ),
    ]  # fmt: skip


def _proc() -> list[Part]:
    noexec = NOSUID | NODEV | NOEXEC
    return [
        Mount("/proc", "proc", noexec, "hidepid=2"),
        *_masks(),
        FileMount("/proc/cgroups", _controllers()),
    ]


def _random_uuid() -> str:
    """A UUID of version 4 (RFC 9562). The module `uuid` would load much into each entry."""
    number = int.from_bytes(os.urandom(16), "big")
    number = number & ~(0xF << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62
    digits = f"{number:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _controllers() -> str:
    """The host's /proc/cgroups, by which a JVM finds its limits, but for the number of groups: it
    would tell how many runs there are."""
    title, *lines = procfs.read("/proc/cgroups").splitlines()
    rows = [line.split() for line in lines]
    return "\n".join([title, *(f"{name}\t{tree}\t1\t{on}" for name, tree, _, on in rows), ""])


def _masks() -> list[Part]:
    """The masks of what this kernel has of MASKED."""
    masks: list[Part] = []
    for kind in (MASKED, MASKED_DIRECTORIES):
        paths = [path for name in kind if os.access(path := f"/proc/{name}", os.F_OK)]
        masks += [Mask(path, paths[0] if n else "") for n, path in enumerate(paths)]
    return masks
