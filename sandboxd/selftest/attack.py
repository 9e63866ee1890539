"""What an attack is, how its program is put together, and how its outcome is judged. No I/O.

A program begins with PRELUDE. `broken(what)` says that something was possible; `refused` and
`filtered` do so when what they try is not refused. A program that came to its end without says
HELD. It knows the canaries that were put up for it as CANARY, and system calls by name as NR.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

HELD = "held"
PRINTED = 48 << 20
READY = "ready"
"""What a program says before it reads a line, while it is looked at from the host."""

PRELUDE = '''
import ctypes, errno, os, signal, socket, stat, sys, time

found = []
libc = ctypes.CDLL(None, use_errno=True)

def broken(what):
    """Something was possible that must not be."""
    found.append(what)
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

def call(name, *args):
    """A system call. Raises OSError; ENOSYS where this architecture has none of the name."""
    if name not in NR:
        raise OSError(errno.ENOSYS, name)
    values = [a if isinstance(a, bytes) else ctypes.c_long(a) for a in args]
    result = libc.syscall(ctypes.c_long(NR[name]), *values)
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return result

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

def looked_at():
    """Wait until the host has looked at us."""
    print("ready", flush=True)
    sys.stdin.readline()
'''


@dataclass(frozen=True, slots=True)
class Canary:
    """What is put up on the host to be found: see host.py.

    path    a file that everybody may read and write
    secret  what is in it; programs are told its hash only
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

    kind       files, processes, network, kernel, exhaustion or leftovers
    aim        what he would do, in a few words
    program    Python; see PRELUDE
    ends       how the step must end: "said" (it says HELD); "cut" (by itself, and not all of its
               PRINTED bytes are kept); or by the limit of that name
    before     a program of another session that goes on meanwhile
    step       of clean, build, exec the one that the program is
    looks      what the host looks at while it waits: "namespaces", "identity" or "nothing", see
               host.py; in any case also at what is left of it when its session is gone
    resources  of the session: mem, and the limits that go by their own names
    timeout    seconds of its step
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
    timeout: float = 20.0


def of(kind: str, **same: Any) -> Callable[..., Attack]:
    """Makes attacks of a kind, from name, aim, program, and other fields; `same` are all's."""

    def make(name: str, aim: str, program: str, **more: Any) -> Attack:
        return Attack(name, kind, aim, program, **(same | more))

    return make


@dataclass(frozen=True, slots=True)
class AttackOutcome:
    """What became of an attack's run; `host` is what the host saw that must not be."""

    stdout: str
    stderr: str = ""
    exit: int | None = None
    outcome: str = ""
    limit: str | None = None
    host: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """held; or not, and why; None: unclear, and why."""

    held: bool | None
    why: str = ""


def source(text: str, numbers: dict[str, int], canary: Canary, digest: str, token: str) -> str:
    """The whole program. `token` is in its command line, for the host to find it."""
    told = {
        "path": canary.path, "sha256": digest, "tcp": canary.tcp, "udp": canary.udp,
        "abstract": canary.abstract, "pid": canary.pid,
    }  # fmt: skip
    body = textwrap.dedent(text).strip("\n")
    end = 'if not found:\n    print("held", flush=True)\n'
    return f"# {token}\nNR = {numbers!r}\nCANARY = {told!r}\n{PRELUDE}\n{body}\n{end}"


def judge(attack: Attack, outcome: AttackOutcome) -> Judgement:
    """Whether the attack failed."""
    said = re.findall(r"^broken: (.*)$", outcome.stdout, re.MULTILINE)
    bad = [*outcome.host, *said]
    if bad:
        return Judgement(False, "; ".join(bad[:3]) + ("; ..." if len(bad) > 3 else ""))
    if attack.ends == "cut":
        if outcome.exit != 0:
            return Judgement(None, f"it ended by {outcome.limit or outcome.outcome}")
        return Judgement(len(outcome.stdout) < PRINTED, f"{len(outcome.stdout)} bytes were kept")
    if attack.ends != "said":
        if outcome.limit == attack.ends:
            return Judgement(True)
        return Judgement(False, f"it ended by {outcome.limit or outcome.outcome or 'itself'}")
    if HELD in outcome.stdout.splitlines():
        return Judgement(True)
    last = (outcome.stderr.strip().splitlines() or [f"{outcome.outcome}, {outcome.exit}"])[-1]
    return Judgement(None, f"it did not come to its end: {last}")


_NAMES = """
    acct add_key bpf chroot clock_adjtime clock_settime clone clone3 create_module delete_module
    fanotify_init finit_module fsconfig fsmount fsopen fspick init_module io_uring_enter
    io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl
    lookup_dcookie migrate_pages modify_ldt mount mount_setattr move_mount move_pages
    name_to_handle_at nfsservctl open_by_handle_at open_tree perf_event_open personality pivot_root
    process_vm_readv process_vm_writev ptrace quotactl quotactl_fd reboot request_key seccomp
    setdomainname sethostname setns settimeofday statmount listmount swapoff swapon syslog umount2
    unshare userfaultfd vhangup getpid msgget semget shmget
"""
NAMES = _NAMES.split()
"""The system calls that programs know by name."""
