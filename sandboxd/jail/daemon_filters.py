"""The system call filters of the daemon's own processes without root: of the api and the broker.

Both read what strangers send. A process that is taken over has no capability, but it could make a
user namespace, have all capabilities in it, and reach parts of the kernel that are for root. So it
has a filter as programs in jails have (profile.py), with two differences: it starts no process and
no program, and nobody is notified of a refused call. The broker needs little, and has a list of its
own. A call in no list is answered ENOSYS, a refused one EPERM.

The filter is applied before root is given up, as seccomp.py says, and read back afterwards.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from . import seccomp
from .condition import Condition
from .profile import ALLOWED, CONDITIONS, REFUSED, Profile, names

_CLONE_THREAD = 0x00010000

_STARTS = "fork vfork execve execveat"
"""Start a process, or another program."""

_BROKER: dict[str, str] = {
    "itself": """
        clone exit exit_group getpid getppid gettid set_tid_address set_robust_list
        get_robust_list prctl arch_prctl rseq sched_yield sched_getaffinity sched_getscheduler
        sched_getparam getpriority getrusage times getcpu membarrier restart_syscall
        rt_sigaction rt_sigprocmask rt_sigpending rt_sigreturn rt_sigtimedwait sigaltstack tgkill
        brk mmap munmap mremap mprotect madvise mincore
        clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time
        poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait
        epoll_pwait2 eventfd eventfd2 futex futex_waitv futex_wake futex_wait futex_requeue
        uname sysinfo getrandom
    """,
    # Modules, certificates and the settings of the resolver are read; the log is written.
    "files": """
        open openat close close_range read readv pread64 preadv preadv2 lseek write writev
        stat fstat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getdents
        getdents64 getcwd statfs fstatfs fadvise64 fcntl flock dup dup2 dup3 ioctl splice
    """,
    # The resolver asks name servers, services of the host at Unix sockets, and rtnetlink.
    "sockets": """
        pipe pipe2 socket socketpair bind connect accept accept4 shutdown getsockname getpeername
        getsockopt setsockopt sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg
    """,
    # To give up root, and to read that back.
    "identity": """
        getuid geteuid getgid getegid getresuid getresgid getgroups setgroups setresuid setresgid
        capget capset getrlimit setrlimit prlimit64
    """,
}
"""Group -> names."""

_CONDITIONS = (
    *CONDITIONS,
    Condition("clone", 0, _CLONE_THREAD, (0,), errno.EPERM),  # threads alone
)

_READS = tuple(
    Condition(call, flags, mask, values, errno.EPERM)
    for call, flags in (("open", 1), ("openat", 2))
    for mask, values in (
        (os.O_ACCMODE, (os.O_WRONLY, os.O_RDWR)), (os.O_CREAT, (os.O_CREAT,)),
        (os.O_TRUNC, (os.O_TRUNC,)),
    )
)  # fmt: skip
"""The broker opens files for reading alone. openat2, whose flags lie in memory, is in no list."""


def of_broker() -> bytes:
    """The filter of the broker. Raises StageError."""
    return _compile(names(_BROKER), _READS)


def of_api() -> bytes:
    """The filter of the api. Raises StageError."""
    return _compile([name for name in names(ALLOWED) if name not in _STARTS.split()])


def _compile(allowed: list[str], conditions: Sequence[Condition] = ()) -> bytes:
    refused = (*names(REFUSED), *_STARTS.split())
    return seccomp.compile_quiet(Profile(tuple(allowed), refused, ()), (*_CONDITIONS, *conditions))
