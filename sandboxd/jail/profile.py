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
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from ..errors import ConfigError

ALLOWED: dict[str, str] = {
    "processes": """
        clone fork vfork execve execveat exit exit_group wait4 waitid getpid getppid gettid
        getpgid setpgid getpgrp getsid setsid set_tid_address set_robust_list get_robust_list
        prctl arch_prctl rseq sched_yield sched_getaffinity sched_setaffinity sched_getscheduler
        sched_getparam sched_get_priority_max sched_get_priority_min sched_rr_get_interval
        sched_setscheduler sched_setparam sched_getattr sched_setattr getpriority setpriority
        getrusage times getcpu pidfd_open pidfd_send_signal pidfd_getfd ioprio_get ioprio_set
        membarrier personality restart_syscall
    """,
    "signals": """
        kill tkill tgkill rt_sigaction rt_sigprocmask rt_sigpending rt_sigqueueinfo
        rt_tgsigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait sigaltstack pause alarm
        signalfd signalfd4
    """,
    "memory": """
        brk mmap munmap mremap mprotect madvise mincore msync mlock mlock2 munlock mlockall
        munlockall memfd_create pkey_alloc pkey_free pkey_mprotect remap_file_pages
        set_mempolicy get_mempolicy mbind process_madvise process_mrelease map_shadow_stack mseal
    """,
    "time": """
        clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time getitimer setitimer
        timer_create timer_settime timer_gettime timer_getoverrun timer_delete timerfd_create
        timerfd_settime timerfd_gettime
    """,
    "files": """
        open openat openat2 creat close close_range read write readv writev pread64 pwrite64
        preadv pwritev preadv2 pwritev2 lseek sendfile copy_file_range splice tee vmsplice
        ftruncate truncate fallocate fsync fdatasync sync_file_range syncfs sync readahead
        fadvise64 stat fstat lstat newfstatat statx access faccessat faccessat2 readlink
        readlinkat getdents getdents64 getcwd chdir fchdir mkdir mkdirat rmdir unlink unlinkat
        rename renameat renameat2 link linkat symlink symlinkat chmod fchmod fchmodat fchmodat2
        chown fchown lchown fchownat umask utime utimes utimensat futimesat mknod mknodat
        statfs fstatfs ustat fcntl flock dup dup2 dup3 ioctl cachestat
        getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr setxattr lsetxattr
        fsetxattr removexattr lremovexattr fremovexattr name_to_handle_at
        inotify_init inotify_init1 inotify_add_watch inotify_rm_watch
        landlock_create_ruleset landlock_add_rule landlock_restrict_self
    """,
    "waiting": """
        poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait
        epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 futex futex_waitv futex_wake
        futex_wait futex_requeue
    """,
    "pipes and sockets": """
        pipe pipe2 socket socketpair bind listen accept accept4 connect shutdown getsockname
        getpeername getsockopt setsockopt sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg
    """,
    "System V and POSIX IPC": """
        shmget shmat shmdt shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl
        mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
    """,
    "identity and limits": """
        getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid
        setregid setresuid setresgid setfsuid setfsgid setgroups capget capset getrlimit
        setrlimit prlimit64 uname sysinfo getrandom seccomp
    """,
}
"""Group -> names. setuid and its kin are allowed: without capabilities they do nothing, and
programs that call them to be on the safe side should get the kernel's own answer."""

REFUSED: dict[str, str] = {
    "mounts": """
        mount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick
        mount_setattr open_by_handle_at quotactl quotactl_fd swapon swapoff statmount listmount
    """,
    "namespaces": "unshare setns",
    "other processes": "ptrace process_vm_readv process_vm_writev kcmp migrate_pages move_pages",
    "kernel": """
        bpf perf_event_open init_module finit_module delete_module create_module kexec_load
        kexec_file_load reboot syslog acct iopl ioperm modify_ldt lookup_dcookie userfaultfd
        nfsservctl vhangup fanotify_init fanotify_mark
    """,
    "keys": "add_key request_key keyctl",
    "host": "sethostname setdomainname settimeofday clock_settime clock_adjtime adjtimex",
}
"""Group -> names: answered EPERM, and counted. io_uring, clone3 and io_setup are in no list, so
they are ENOSYS: io_uring is a second door for calls that no filter sees, and the flags of clone3
lie in memory, which a filter cannot read; libc falls back to clone. Contexts of io_setup(2) are
counted for the whole host (fs.aio-max-nr): one program could take them all from its databases."""


FINAL = ("mounts", "namespaces", "kernel", "keys", "host")
"""Groups of REFUSED that no runtime can have: they lead out of the jail, or to parts of the kernel
that programs do not need."""


@dataclass(frozen=True, slots=True)
class Condition:
    """An allowed `call` is answered `errno` when argument `index`, under `mask`, is `value`.

    EPERM means refused, and counted like the calls above. Other errors are everyday answers of the
    kernel, which programs expect and survive. `family`: the condition holds for sockets of this
    address family only; the filter compares both arguments in one rule.
    """

    call: str
    index: int
    mask: int
    value: int
    errno: int
    family: int | None = None


_ALL = 0xFFFFFFFF
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
_NEW_LISTENER = 0x8


def _others(allowed: Collection[int], bits: int = 32, value: int = 0) -> Iterator[tuple[int, int]]:
    """Masks and values that hold, one or the other, for each number of `bits` bits below `value`
    that is none of `allowed`."""
    if not allowed:
        yield _ALL >> bits << bits, value
    elif bits:
        for half in (value, value | 1 << bits - 1):
            within = [n for n in allowed if half <= n < half + (1 << bits - 1)]
            yield from _others(within, bits - 1, half)


CONDITIONS: tuple[Condition, ...] = (
    *(Condition("clone", 0, flag, flag, errno.EPERM) for flag in _NAMESPACES.values()),
    *(Condition("ioctl", 1, _ALL, n, errno.EPERM) for n in (_TERMINAL | _MODULES).values()),
    *(
        Condition("socket", 0, mask, value, errno.EAFNOSUPPORT)
        for mask, value in _others((_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK))
    ),
    *(
        Condition("socket", 1, mask & _TYPE, value, errno.EPROTONOSUPPORT)
        for mask, value in _others(_SOCKET_TYPES.values(), 4)
    ),
    *(
        Condition("socket", 2, mask, value, errno.EPROTONOSUPPORT)
        for mask, value in _others(_PROTOCOLS.values())
    ),
    # Programs list their interfaces over rtnetlink. It changes nothing without CAP_NET_ADMIN. Some
    # other netlink protocols have numbers of _PROTOCOLS, and programs must not use them.
    *(
        Condition("socket", 2, mask, value, errno.EPROTONOSUPPORT, family=_AF_NETLINK)
        for mask, value in _others((_NETLINK_ROUTE,))
    ),
    # The kernel makes pairs of AF_UNIX alone, but looks for the protocol of others first.
    *(
        Condition("socketpair", 0, mask, value, errno.EAFNOSUPPORT)
        for mask, value in _others((_AF_UNIX,))
    ),
    *(Condition(call, index, _ALL, _INIT, errno.EPERM) for call, index in _OF_A_PROCESS.items()),
    Condition("setpriority", 0, _ALL, _PRIO_USER, errno.EPERM),
    Condition("ioprio_set", 0, _ALL, _IOPRIO_WHO_USER, errno.EPERM),
    # Huge pages are set aside by the operator for somebody, and no memory cgroup counts them.
    Condition("mmap", 3, _MAP_HUGETLB, _MAP_HUGETLB, errno.ENOMEM),
    Condition("memfd_create", 1, _MFD_HUGETLB, _MFD_HUGETLB, errno.ENOMEM),
    Condition("shmget", 2, _SHM_HUGETLB, _SHM_HUGETLB, errno.ENOMEM),
    Condition("personality", 0, 0xFF, _PER_LINUX32, errno.EPERM),
    # Programs may filter themselves further. A listener of their own could let a call that is
    # refused here go on (SECCOMP_USER_NOTIF_FLAG_CONTINUE); the kernel allows one in a chain of
    # filters and says EBUSY itself, and no later kernel shall change that.
    Condition("seccomp", 1, _NEW_LISTENER, _NEW_LISTENER, errno.EBUSY),
)


@dataclass(frozen=True, slots=True)
class Profile:
    """The names that are allowed and refused; the rest is unknown."""

    allowed: tuple[str, ...]
    refused: tuple[str, ...]


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
    return Profile(
        tuple(name for name in dict.fromkeys([*allowed, *allow]) if name not in refuse),
        tuple(name for name in [*refused, *refuse] if name not in allow),
    )


def names(groups: dict[str, str]) -> list[str]:
    """All names of the groups."""
    return [name for text in groups.values() for name in text.split()]
