"""The parts of a run's root, as a list that reads top to bottom. mounts.py puts them in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from uuid import UUID

from ..model import ALIASES, HOME, PATH
from .mounts import (
    NODEV,
    NOEXEC,
    NOSUID,
    WRITABLE,
    Bind,
    Directory,
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
# types, computes and stores; locks, cgroups and the counts of sys, how many there are. cmdline,
# config.gz and the like describe the host. Programs of runtimes need the rest: docs/security.md.
MASKED = (
    "allocinfo", "bootconfig", "buddyinfo", "cgroups", "cmdline", "config.gz", "consoles",
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


def system(paths: Iterable[str], view: HostView) -> list[Part]:
    """The parts that are the same for all runs: host parts, /etc, /dev and /proc."""
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


def session(uid: int, gid: int, workdir: int, tmp: int, shm: int) -> list[Part]:
    """The parts of one session: its accounts, its directories (descriptors), `shm` bytes."""
    accounts = f"root:x:0:0:root:/root:/bin/sh\n{USER}:x:{uid}:{gid}:{USER}:{HOME}:/bin/bash\n"
    return [
        FileMount("/etc/passwd", accounts + "nobody:x:65534:65534:nobody:/:/bin/false\n"),
        FileMount("/etc/group", f"root:x:0:\ntty:x:5:\n{USER}:x:{gid}:\nnogroup:x:65534:\n"),
        Mount("/dev/shm", "tmpfs", WRITABLE, f"size={shm},nr_inodes=4096,mode=1777,uid={uid}"),
        Bind(HOME, workdir, WRITABLE),
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
    paths = {name: shutil.which(program, path=PATH) for name, program in ALSO_CALLED.items()}
    links = [Link(f"{ALIASES}/{name}", path) for name, path in paths.items() if path]
    return [Directory(ALIASES), *links]


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
    ]  # fmt: skip


def _proc() -> list[Part]:
    noexec = NOSUID | NODEV | NOEXEC
    return [
        Mount("/proc", "proc", noexec, "hidepid=2"),
        *_masks(),
        # By the host's, two sessions know that they are on one host, and when it was started.
        FileMount(BOOT_ID, f"{UUID(bytes=os.urandom(16), version=4)}\n"),
    ]


def _masks() -> list[Part]:
    """The masks of what this kernel has of MASKED."""
    masks: list[Part] = []
    for kind in (MASKED, MASKED_DIRECTORIES):
        paths = [path for name in kind if os.access(path := f"/proc/{name}", os.F_OK)]
        masks += [Mask(path, paths[0] if n else "") for n, path in enumerate(paths)]
    return masks
