"""The values of the self-test: attacks, their programs, and the judgement of their outcome. No I/O.

A program begins with PRELUDE. `broken(what)` prints that something was possible; `refused` and
`filtered` do so when their act is not refused. A program that comes to its end without calling
`broken` prints HELD. It knows the canaries of the host as CANARY, and system calls by name as NR.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..protections import KINDS

HELD = "held"
PRINTED = 48 << 20
READY = "ready"
"""A program prints this before it reads a line, while the host looks at it."""

PRELUDE = '''
import ctypes, errno, os, signal, socket, stat, sys, time
from ctypes import c_int, c_long, c_size_t, c_ulong, c_void_p

breaches = []
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype, libc.syscall.argtypes = c_long, [c_long] * 7
libc.prctl.argtypes = [c_int] + [c_ulong] * 4
libc.capset.argtypes = [c_void_p, c_void_p]
libc.mlock.argtypes = [c_void_p, c_size_t]
libc.sigqueue.argtypes = [c_int, c_int, c_void_p]
libc.shmat.restype, libc.shmat.argtypes = c_void_p, [c_int, c_void_p, c_int]

def broken(what):
    """Something was possible that must not be."""
    breaches.append(what)
    print("broken:", what, flush=True)

def refused(what, act, *errors):
    """`act` must fail, with one of `errors` if there are any."""
    try:
        act()
    except OSError as error:
        if errors and error.errno not in errors:
            broken(f"{what}: answered {errno.errorcode.get(error.errno, error.errno)}")
        return
    broken(f"{what}: succeeded")

def numbered(number, *args):
    """A system call by its number, with arguments that are numbers or bytes. Raises OSError."""
    values = [ctypes.cast(a, c_void_p).value if isinstance(a, bytes) else a for a in args]
    result = libc.syscall(number, *values, *[0] * (6 - len(values)))
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result

def call(name, *args):
    """A system call. Raises OSError; ENOSYS where this architecture has none of the name."""
    if name not in NR:
        raise OSError(errno.ENOSYS, name)
    return numbered(NR[name], *args)

def filtered(name, *args):
    """A system call that must not get as far as the kernel's own checks."""
    refused(name, lambda: call(name, *args), errno.EPERM, errno.ENOSYS)

def status(key):
    """The words of a line of /proc/self/status."""
    with open("/proc/self/status") as file:
        return next(line.split()[1:] for line in file if line.startswith(key + ":"))

def in_child(act):
    """Do `act` in a child; its wait status."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1]

def wait_for_host():
    """Wait until the host has looked at this process."""
    print("ready", flush=True)
    sys.stdin.readline()
'''


@dataclass(frozen=True, slots=True)
class Canary:
    """The harmless things of the host that attacks may reach: see host_view.py.

    path    a file that everybody may read and write
    secret  its content; programs have only the hash
    tcp, udp  ports of the loopback; abstract  a name of a socket; pid  a process
    """

    path: str = "/nonexistent"
    secret: str = ""
    tcp: int = 1
    udp: int = 1
    abstract: str = "sandboxd-selftest"
    pid: int = 1 << 21


@dataclass(frozen=True, slots=True)
class Attack:
    """One thing that an attacker would do.

    kind       one of protections.KINDS
    aim        the intention, in a few words
    program    Python; see PRELUDE
    ends       the required end of the step: "said" (it prints HELD); "cut" (it ends by itself, and
               not all of its PRINTED bytes are stored); or the name of the limit that ends it
    before     a program of another session that goes on meanwhile
    step       the one of clean, build, exec that runs the program
    looks      what the host looks at while the program waits: "namespaces", "identity",
               "shared-files", which it also uses, or "nothing". In each case the host also looks
               for remains when the session is gone
    resources  of the session: mem, and limits by their own names
    timeout    seconds of its step
    workspace  the session has the workspace that the user of the command has named
    """

    name: str
    kind: str
    aim: str
    program: str
    ends: str = "said"
    before: str = ""
    step: str = "exec"
    looks: str = ""
    resources: dict[str, Any] = field(default_factory=dict)
    timeout: float = 60.0
    workspace: bool = False


def of(kind: str, **common: Any) -> Callable[..., Attack]:
    """A function that creates attacks of a kind, from name, aim, program and other fields; all of
    them have the fields `common`."""
    if kind not in KINDS:
        raise ValueError(f"{kind} is not a kind of attack")

    def attack(name: str, aim: str, program: str, **fields: Any) -> Attack:
        return Attack(name, kind, aim, program, **(common | fields))

    return attack


@dataclass(frozen=True, slots=True)
class AttackOutcome:
    """The outcome of an attack's run; `host` is what the host saw that must not be."""

    stdout: str
    stderr: str = ""
    exit: int | None = None
    outcome: str = ""
    limit: str | None = None
    host: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """`held` is None when the outcome is unclear. `why`: the reason, unless it held."""

    held: bool | None
    why: str = ""


def source(text: str, numbers: dict[str, int], canary: Canary, digest: str, token: str) -> str:
    """The whole program. `token` is in its command line, where the host finds it."""
    known = {
        "path": canary.path, "sha256": digest, "tcp": canary.tcp, "udp": canary.udp,
        "abstract": canary.abstract, "pid": canary.pid,
    }  # fmt: skip
    body = textwrap.dedent(text).strip("\n")
    end = 'if not breaches:\n    print("held", flush=True)\n'
    return f"# {token}\nNR = {numbers!r}\nCANARY = {known!r}\n{PRELUDE}\n{body}\n{end}"


def judge(attack: Attack, outcome: AttackOutcome) -> Judgement:
    """Whether the attack failed."""
    printed = re.findall(r"^broken: (.*)$", outcome.stdout, re.MULTILINE)
    breaches = [*outcome.host, *printed]
    if breaches:
        return Judgement(False, "; ".join(breaches[:3]) + ("; ..." if len(breaches) > 3 else ""))
    if attack.ends == "cut":
        if outcome.exit != 0:
            return Judgement(None, f"the program ended by {outcome.limit or outcome.outcome}")
        if len(outcome.stdout) < PRINTED:
            return Judgement(True)
        return Judgement(False, f"all {len(outcome.stdout)} bytes were stored")
    if attack.ends != "said":
        if outcome.limit == attack.ends:
            return Judgement(True)
        return Judgement(
            False, f"the program ended by {outcome.limit or outcome.outcome or 'itself'}"
        )
    if HELD in outcome.stdout.splitlines():
        return Judgement(True)
    last = (outcome.stderr.strip().splitlines() or [f"{outcome.outcome}, {outcome.exit}"])[-1]
    return Judgement(None, f"the program did not come to its end: {last}")


_NAMES = """
    acct add_key bpf chroot clock_adjtime clock_settime clone clone3 create_module delete_module
    fanotify_init fchmodat2 finit_module fsconfig fsmount fsopen fspick getpid init_module
    io_uring_enter io_uring_register io_uring_setup ioctl ioperm iopl kcmp kexec_file_load
    kexec_load keyctl listmount lookup_dcookie mbind migrate_pages modify_ldt mount mount_setattr
    move_mount move_pages msgget name_to_handle_at nfsservctl open_by_handle_at open_tree openat2
    perf_event_open personality pidfd_getfd pivot_root ppoll prctl process_madvise process_vm_readv
    process_vm_writev ptrace quotactl quotactl_fd reboot request_key seccomp semget setdomainname
    sethostname setns settimeofday shmget statmount swapoff swapon syslog umount2 unshare
    userfaultfd vhangup
"""
NAMES = _NAMES.split()
"""The system calls that programs know by name."""
