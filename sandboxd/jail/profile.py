"""The system calls that a program in a jail may make, in groups with names.

An allow-list. A call in no group is answered ENOSYS, as by a kernel that is older than the program,
so that programs fall back by themselves. The run's shim answers EPERM to a known dangerous call, so
that the verdict can name it (shim/denied_calls.py). CONDITIONS has the calls that depend on their
arguments. An argument is compared under a mask of 32 bits, since the kernel looks at no more of it:
a comparison of all 64 could be evaded by setting the others (CVE-2019-10063).

A runtime may have a few calls more or fewer ([runtimes.NAME] in the configuration), as differences
from this profile. None of FINAL can be among them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import ConfigError
from . import uncounted_memory
from .condition import ALL_BITS, Condition, bounded, only

ALLOWED: dict[str, str] = {
    # Their own processes: start, end, wait for and schedule them. Of others the uid decides.
    "processes": """
        clone fork vfork execve execveat exit exit_group wait4 waitid getpid getppid gettid
        getpgid setpgid getpgrp getsid setsid set_tid_address set_robust_list get_robust_list
        prctl arch_prctl rseq sched_yield sched_getaffinity sched_setaffinity sched_getscheduler
        sched_getparam sched_get_priority_max sched_get_priority_min sched_rr_get_interval
        sched_setscheduler sched_setparam sched_getattr sched_setattr getpriority setpriority
        getrusage times getcpu pidfd_open pidfd_send_signal ioprio_get ioprio_set
        membarrier personality restart_syscall
    """,
    # To processes of the run: the pid namespace has no others.
    "signals": """
        kill tkill tgkill rt_sigaction rt_sigprocmask rt_sigpending rt_sigqueueinfo
        rt_tgsigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait sigaltstack pause alarm
        signalfd signalfd4
    """,
    # Their own memory, which the cgroup counts.
    "memory": """
        brk mmap munmap mremap mprotect madvise mincore msync mlock mlock2 munlock mlockall
        munlockall memfd_create pkey_alloc pkey_free pkey_mprotect remap_file_pages
        set_mempolicy get_mempolicy map_shadow_stack mseal
    """,
    # Read clocks and wait; setting them is in REFUSED.
    "time": """
        clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time getitimer setitimer
        timer_create timer_settime timer_gettime timer_getoverrun timer_delete timerfd_create
        timerfd_settime timerfd_gettime
    """,
    # Files of the run: the mounts say which these are, and which of them can be written.
    "files": """
        open openat openat2 creat close close_range read write readv writev pread64 pwrite64
        preadv pwritev preadv2 pwritev2 lseek sendfile copy_file_range splice tee vmsplice
        ftruncate truncate fallocate fsync fdatasync sync_file_range syncfs readahead
        fadvise64 stat fstat lstat newfstatat statx access faccessat faccessat2 readlink
        readlinkat getdents getdents64 getcwd chdir fchdir mkdir mkdirat rmdir unlink unlinkat
        rename renameat renameat2 link linkat symlink symlinkat chmod fchmod fchmodat fchmodat2
        chown fchown lchown fchownat umask utime utimes utimensat futimesat mknod mknodat
        statfs fstatfs ustat fcntl flock dup dup2 dup3 ioctl
        getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr setxattr lsetxattr
        fsetxattr removexattr lremovexattr fremovexattr name_to_handle_at
        inotify_init inotify_init1 inotify_add_watch inotify_rm_watch
        landlock_create_ruleset landlock_add_rule landlock_restrict_self
    """,
    # Wait for several things at a time, and wake other threads.
    "waiting": """
        poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait
        epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 futex futex_waitv futex_wake
        futex_wait futex_requeue
    """,
    # Their own network namespace, and descriptors passed between their processes.
    "pipes and sockets": """
        pipe pipe2 socket socketpair bind listen accept accept4 connect shutdown getsockname
        getpeername getsockopt setsockopt sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg
    """,
    # The IPC namespace is the run's own, and the cgroup counts what is in it.
    "System V and POSIX IPC": """
        shmget shmat shmdt shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl
        mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
    """,
    # Read them, or give something up; without capabilities nothing can be gained.
    "identity and limits": """
        getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid
        setregid setresuid setresgid setfsuid setfsgid setgroups capget capset getrlimit
        setrlimit prlimit64 uname sysinfo getrandom seccomp
    """,
}
"""Group -> names. setuid and its kin are allowed: without capabilities they do nothing, and
programs that call them to be on the safe side should get the kernel's own answer."""

REFUSED: dict[str, str] = {
    # Another view of files than the jail's, or files by a handle past the jail's root.
    "mounts": """
        mount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick
        mount_setattr open_by_handle_at quotactl quotactl_fd swapon swapoff statmount listmount
    """,
    # A namespace of one's own gives capabilities in it, and with them more of the kernel.
    "namespaces": "unshare setns",
    # Read, change or compare another process, with no use but to debuggers and attackers.
    "other processes": """
        ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd process_madvise process_mrelease
        migrate_pages move_pages
    """,
    # Policies of a file in memory stay with it, 400 bytes of each part, and no cgroup counts them:
    # 60,000 had 20 MB. Programs do without, as where a kernel has no NUMA.
    "placement of memory": "mbind",
    # Change the kernel, watch it, or halt it; parts with a history of holes.
    "kernel": """
        bpf perf_event_open init_module finit_module delete_module create_module kexec_load
        kexec_file_load reboot syslog acct iopl ioperm modify_ldt lookup_dcookie userfaultfd
        nfsservctl vhangup fanotify_init fanotify_mark
    """,
    # Keyrings are counted per uid and outlive processes.
    "keys": "add_key request_key keyctl",
    # The name and the clocks of the host.
    "host": "sethostname setdomainname settimeofday clock_settime clock_adjtime adjtimex",
}
"""Group -> names: answered EPERM, and counted. io_uring, clone3 and io_setup are in no list, so
they are ENOSYS: io_uring is a second door for calls that no filter sees, and the flags of clone3
lie in memory, which a filter cannot read; libc falls back to clone. Contexts of io_setup(2) are
counted for the whole host (fs.aio-max-nr): one program could take them all from its databases."""

IGNORED: dict[str, str] = {
    # sync(2) writes back the files of everybody on the host. fsync and syncfs do it for one's own.
    "host": "sync",
}
"""Group -> names: answered 0 and not carried out. Programs that call them cannot fail."""

FINAL = ("mounts", "namespaces", "kernel", "keys", "host")
"""Groups of REFUSED that no runtime can have: they lead out of the jail, or to parts of the kernel
that programs do not need."""


ENTRY = (
    "prctl", "capset", "capget", "setgroups", "setresgid", "setresuid", "getgroups", "getresgid",
    "getresuid", "getrlimit", "prlimit64",
)  # fmt: skip
"""Allowed calls of the entry into the jail, behind the filter. No runtime can refuse them."""


_NAMESPACES = {
    "CLONE_NEWNS": 0x00020000, "CLONE_NEWCGROUP": 0x02000000, "CLONE_NEWUTS": 0x04000000,
    "CLONE_NEWIPC": 0x08000000, "CLONE_NEWUSER": 0x10000000, "CLONE_NEWPID": 0x20000000,
    "CLONE_NEWNET": 0x40000000,
}  # fmt: skip
_TERMINAL = {"TIOCSTI": 0x5412, "TIOCLINUX": 0x541C, "TIOCCONS": 0x541D, "TIOCSETD": 0x5423}
"""Type for another, and speak to the host's console. TIOCSETD: line disciplines are drivers that
no program needs on a pseudo-terminal, with a history of holes (CVE-2017-2636, CVE-2023-6546)."""
_MODULES = {
    "SIOCGIFBR": 0x8940, "SIOCSIFBR": 0x8941, "SIOCBRADDBR": 0x89A0, "SIOCBRDELBR": 0x89A1,
    "SIOCGIFVLAN": 0x8982, "SIOCSIFVLAN": 0x8983, "SIOCADDDLCI": 0x8980, "SIOCDELDLCI": 0x8981,
}  # fmt: skip
"""Load drivers of bridges, VLANs and frame relay for any caller (sock_ioctl in net/socket.c)."""
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_NETLINK_ROUTE = 0
_SOCKET_TYPES = {"STREAM": 1, "DGRAM": 2, "RAW": 3, "SEQPACKET": 5}
_PROTOCOLS = {"default": 0, "ICMP": 1, "TCP": 6, "UDP": 17, "ICMPV6": 58}
"""All that programs may have. A socket of another type or protocol loads a kernel module that the
host may not have needed yet: SCTP, DCCP, which has a type too, L2TP, SMC and later ones."""
_TYPE = 0xF  # SOCK_TYPE_MASK; above it are SOCK_NONBLOCK and SOCK_CLOEXEC
_PER_LINUX32 = 0x0008
_INIT = 1
_OF_A_PROCESS = {
    "prlimit64": 0, "sched_setaffinity": 0, "sched_setscheduler": 0, "sched_setparam": 0,
    "sched_setattr": 0, "setpriority": 1, "ioprio_set": 1,
}  # fmt: skip
"""Call -> the argument that says of which process. A program must not change init, which has its
uid: the next step would begin with what was changed, and a limit of CPU time would end init and
the run with it, as if that were our fault."""
_PRIO_USER, _IOPRIO_WHO_USER = 2, 3  # all processes of the uid, init among them
_MAP_HUGETLB, _MFD_HUGETLB, _SHM_HUGETLB = 0x40000, 0x4, 0o4000
_SOL_SOCKET = 1
_SOCKET_FILTERS = {
    "SO_ATTACH_FILTER": 26, "SO_ATTACH_BPF": 50, "SO_ATTACH_REUSEPORT_CBPF": 51,
    "SO_ATTACH_REUSEPORT_EBPF": 52,
}  # fmt: skip
_UNKNOWN = (*_SOCKET_FILTERS.values(), *uncounted_memory.ERROR_QUEUE.values())
_LARGE = uncounted_memory.LARGE_ATTRIBUTE
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, _SECCOMP_SET_MODE_FILTER = 22, 2, 1


CONDITIONS: tuple[Condition, ...] = (
    only("clone", 0, (0,), errno.EPERM, sum(_NAMESPACES.values())),
    Condition("ioctl", 1, ALL_BITS, tuple((_TERMINAL | _MODULES).values()), errno.EPERM),
    only("socket", 0, (_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK), errno.EAFNOSUPPORT),
    only("socket", 1, _SOCKET_TYPES.values(), errno.EPROTONOSUPPORT, _TYPE),
    only("socket", 2, _PROTOCOLS.values(), errno.EPROTONOSUPPORT),
    # Programs list their interfaces over rtnetlink. It changes nothing without CAP_NET_ADMIN. Some
    # other netlink protocols have numbers of _PROTOCOLS, and programs must not use them.
    only("socket", 2, (_NETLINK_ROUTE,), errno.EPROTONOSUPPORT, where=(0, _AF_NETLINK)),
    # The kernel makes pairs of AF_UNIX alone, but looks for the protocol of others first.
    only("socketpair", 0, (_AF_UNIX,), errno.EAFNOSUPPORT),
    *(
        Condition(call, index, ALL_BITS, (_INIT,), errno.EPERM)
        for call, index in _OF_A_PROCESS.items()
    ),
    Condition("setpriority", 0, ALL_BITS, (_PRIO_USER,), errno.EPERM),
    Condition("ioprio_set", 0, ALL_BITS, (_IOPRIO_WHO_USER,), errno.EPERM),
    # Huge pages are set aside by the operator for somebody, and no memory cgroup counts them.
    Condition("mmap", 3, _MAP_HUGETLB, (_MAP_HUGETLB,), errno.ENOMEM),
    Condition("memfd_create", 1, _MFD_HUGETLB, (_MFD_HUGETLB,), errno.ENOMEM),
    Condition("shmget", 2, _SHM_HUGETLB, (_SHM_HUGETLB,), errno.ENOMEM),
    Condition("personality", 0, 0xFF, (_PER_LINUX32,), errno.EPERM),
    # The kernel compiles all filters into memory with one bound (net.core.bpf_jit_limit). Four
    # processes used it up in 20 s, and then no run and no service of the host got a filter. A
    # kernel without filters says EINVAL, which libseccomp and browsers expect.
    Condition("setsockopt", 2, ALL_BITS, _UNKNOWN, errno.EINVAL, where=(1, _SOL_SOCKET)),
    *(
        Condition("setsockopt", 2, ALL_BITS, tuple(options.values()), answer, where=(1, level))
        for answer, levels in uncounted_memory.ANSWERS
        for level, options in levels.items()
    ),
    *(
        bounded("setsockopt", 2, options.values(), uncounted_memory.MULTICAST, where=(1, level))
        for level, options in uncounted_memory.JOINS.items()
    ),
    # The answers that wait in such a socket, 208 KiB of them, are in no cgroup.
    bounded("socket", 0, (_AF_NETLINK,), uncounted_memory.NETLINK),
    bounded("fcntl", 1, uncounted_memory.OFD_LOCKS, uncounted_memory.FILE_LOCK),
    *(
        only(call, index, (0,), errno.EINVAL, ALL_BITS ^ uncounted_memory.WAIT_MAX)
        for call, index in uncounted_memory.WAITS.items()
    ),
    *(
        condition
        for call, index in uncounted_memory.ATTRIBUTES.items()
        for condition in (
            only(call, index, (0,), errno.E2BIG, ALL_BITS ^ uncounted_memory.ATTRIBUTE_MAX),
            bounded(call, index, (0x400, 0x800, 0xC00), _LARGE, mask=0xFFFFFC00),
        )
    ),
    Condition("seccomp", 0, ALL_BITS, (_SECCOMP_SET_MODE_FILTER,), errno.EINVAL),
    Condition(
        "prctl", 1, ALL_BITS, (_SECCOMP_MODE_FILTER,), errno.EINVAL, where=(0, _PR_SET_SECCOMP)
    ),
)


_S_ISUID, _S_ISGID = 0o4000, 0o2000
_O_CREAT, _O_TMPFILE = 0o100, 0o20000000
_MODES = {
    "chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2, "creat": 1, "mkdir": 1, "mkdirat": 2,
    "mknod": 1, "mknodat": 2,
}  # fmt: skip
"""Call -> the argument that is the mode of a file."""
_OPENS = {"open": (1, 2), "openat": (2, 3)}
"""Call -> the arguments of flags and mode. The kernel reads the mode with the flags O_CREAT and
O_TMPFILE only (build_open_how in fs/open.c); with others it may be any number."""


def _sets_id(call: str, index: int, where: tuple[int, int] | None = None) -> Condition:
    """The mode in argument `index` has set-user-ID or set-group-ID; `where`, of a flag."""
    bits = _S_ISUID | _S_ISGID
    flag = where[1] if where else ALL_BITS
    return Condition(
        call, index, bits, (_S_ISUID, _S_ISGID, bits), errno.EPERM, where, where_mask=flag
    )


SET_ID: tuple[Condition, ...] = (
    *(_sets_id(call, index) for call, index in _MODES.items()),
    *(
        _sets_id(call, mode, (flags, flag))
        for call, (flags, mode) in _OPENS.items()
        for flag in (_O_CREAT, _O_TMPFILE)
    ),
)
"""The conditions of sessions with a workspace, besides CONDITIONS. The attribute nosuid of a mount
holds for programs that see the file through this mount. The host would take a set-user-ID file of a
workspace at its word. Extended attributes need no condition: security.capability takes
CAP_SETFCAP, and ACLs have no such bits."""

UNSEEN = ("openat2",)
"""Calls whose mode lies in memory, which a filter cannot read. They are answered ENOSYS in sessions
with a workspace, and programs fall back to openat."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The names that are allowed, refused and ignored; the rest is unknown."""

    allowed: tuple[str, ...]
    refused: tuple[str, ...]
    ignored: tuple[str, ...]


def profile(allow: Iterable[str] = (), refuse: Iterable[str] = ()) -> Profile:
    """The profile, with the calls `allow` moved to the allowed and `refuse` to the refused. A call
    that is allowed already may be in `allow`.

    Raises ConfigError for a call that cannot be moved there, saying which can.
    """
    allowed, refused = names(ALLOWED), names(REFUSED)
    may = [name for group, text in REFUSED.items() if group not in FINAL for name in text.split()]
    for name in allow:
        if name not in may and name not in allowed:
            raise ConfigError(f"{name} can never be allowed; the calls that can: {', '.join(may)}")
    for name in refuse:
        if name not in allowed:
            raise ConfigError(f"{name} is no call that the profile allows, so it cannot be refused")
        if name in ENTRY:
            raise ConfigError(f"{name} cannot be refused: a run gives up root with it")
    return Profile(
        tuple(name for name in dict.fromkeys([*allowed, *allow]) if name not in refuse),
        tuple(name for name in [*refused, *refuse] if name not in allow),
        tuple(names(IGNORED)),
    )


def names(groups: dict[str, str]) -> list[str]:
    """All names of the groups."""
    return [name for text in groups.values() for name in text.split()]
