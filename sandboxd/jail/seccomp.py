"""The system call filter of a run (seccomp(2)), compiled from profile.py.

`compile` turns the profile into a classic BPF program, once, at the daemon's start. libseccomp only
translates names into the numbers of this architecture. The program first kills a call of another
architecture (i386 through int 0x80). Then a search tree over the numbers leads to one of these:

    a call with conditions          the errno of the first one that holds; else allowed
    a refused call                  user notification, which means EPERM
    an ignored call                 0
    an allowed call                 allowed
    another number, x32 among them  ENOSYS

The kernel tries the program for every number when it is installed, and remembers the numbers that
are allowed with any arguments (seccomp_cache_prepare, Linux 5.11). These calls skip the program.
So the tree makes the installation short, for which each run waits: 270 us as a list of ranges, 78
as a tree, of them 15 for any filter.

Init, the process that spawns the steps, installs it once a run, and all later processes inherit it.

User notification (seccomp_unotify(2), Linux 5.0): the caller sleeps until the holder of the
filter's listener answers. The shim holds it, answers EPERM and counts (shim/denied_calls.py).
Safety does not depend on the answer: a refused call is never carried out, with or without it. If
the shim is gone the kernel answers ENOSYS. A caller that is killed does not wait. Programs cannot
add filters of their own (profile.py), which could listen too.

The filter is installed before the capabilities go. The kernel compiles it into memory that has a
bound for the whole host (net.core.bpf_jit_limit), which other programs can use up. The bound is
not for processes with CAP_SYS_ADMIN.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import StageError
from ..host import procfs
from . import syscalls
from .condition import ALL_BITS, Condition
from .profile import CONDITIONS, SET_ID, UNSEEN, Profile, profile
from .stage import expect, stage

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
# linux/seccomp.h
_KILL, _ERRNO, _NOTIFY, _ALLOW = 0x80000000, 0x00050000, 0x7FC00000, 0x7FFF0000
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_ALU|BPF_AND, BPF_RET
_SKIP, _EQUAL, _AT_LEAST = 0x05, 0x15, 0x35  # BPF_JMP with JA, JEQ, JGE
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_INSTRUCTION = struct.Struct("HBBI")
_INSTRUCTIONS_MAX = 4096  # BPF_MAXINSNS
_SKIP_MAX = 255

Instruction = tuple[int, int, int, int]
Block = list[Instruction]
"""Instructions that return in the end."""

Interval = tuple[int, Block]
"""The first number, and the block of all numbers up to the next interval."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A compiled profile.

    program  an array of struct sock_filter
    refused  number -> name of each call that is, or may be, refused with a notification
    """

    program: bytes
    refused: dict[int, str]


def compile(
    allow: tuple[str, ...] = (), refuse: tuple[str, ...] = (), set_id: bool = True
) -> Filter:
    """The filter for this machine, of the profile with these calls moved. Without `set_id` it also
    refuses to set set-user-ID and set-group-ID bits: for sessions with a workspace.

    Raises StageError; ConfigError for calls that cannot be moved.
    """
    wanted = profile(allow, refuse)
    conditions = CONDITIONS if set_id else (*CONDITIONS, *SET_ID)
    if not set_id:
        allowed = tuple(name for name in wanted.allowed if name not in UNSEEN)
        wanted = replace(wanted, allowed=allowed)
    numbers = _numbers([*wanted.allowed, *wanted.refused, *wanted.ignored])
    program = _program(_blocks(wanted, conditions, numbers, _NOTIFY))
    names = {name: name for name in wanted.refused}
    names |= {
        c.call: c.bounded or c.call
        for c in conditions
        if c.errno == errno.EPERM and c.call not in wanted.refused
    }
    return Filter(program, {numbers[call]: name for call, name in names.items() if call in numbers})


def compile_quiet(wanted: Profile, conditions: Sequence[Condition]) -> bytes:
    """The filter of a process of the daemon: a refused call is answered EPERM, and nobody is
    notified. Raises StageError."""
    numbers = _numbers([*wanted.allowed, *wanted.refused, *wanted.ignored])
    return _program(_blocks(wanted, conditions, numbers, _ERRNO | errno.EPERM))


def _program(blocks: Mapping[int, Block]) -> bytes:
    architecture = _ARCHITECTURES.get(os.uname().machine)
    if architecture is None:
        raise StageError("seccomp", f"no profile for the architecture {os.uname().machine}")
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        *_tree(_intervals(blocks)),
    ]
    if len(code) > _INSTRUCTIONS_MAX:
        raise StageError("seccomp", f"{len(code)} instructions; {_INSTRUCTIONS_MAX} are possible")
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in code)


def apply_quiet(program: bytes) -> None:
    """Filter this process and all that it starts. CAP_SYS_ADMIN is needed."""
    with stage("seccomp"):
        syscalls.seccomp(program)


def apply(program: bytes) -> int:
    """Filter this process and all that it starts; the listener. CAP_SYS_ADMIN is needed.

    Until somebody holds the listener and answers, a refused call sleeps.
    """
    with stage("seccomp"):
        return syscalls.seccomp_listener(program)


def verify() -> None:
    """The kernel names a filter for this process, and a refused call is refused, by an answer."""
    with stage("seccomp"):
        status = procfs.read("/proc/self/status")
    mode = status.partition("\nSeccomp:\t")[2].partition("\n")[0]
    expect("seccomp", "mode", mode, "2")
    try:
        syscalls.unshare(0)  # changes nothing, and anybody may do it, but for the filter
    except PermissionError:
        return
    raise StageError("seccomp", "a refused call was not refused")


def _numbers(wanted: list[str]) -> dict[str, int]:
    """Name -> number; names that this architecture, or libseccomp, does not know are absent.

    They are then in no list, which means ENOSYS: never more than the profile says.
    """
    try:
        return syscalls.syscall_numbers(wanted)
    except OSError:
        raise StageError("seccomp", "libseccomp.so.2 is missing; install libseccomp2") from None


def _blocks(
    wanted: Profile, conditions: Sequence[Condition], numbers: Mapping[str, int], refusal: int
) -> dict[int, Block]:
    """For each number of the profile the instructions that decide about the call; `refusal` is the
    action of a refused one."""
    blocks = {name: [(_RETURN, 0, 0, _ALLOW)] for name in wanted.allowed}
    for condition in reversed(conditions):
        if condition.call in blocks:
            blocks[condition.call] = [*_check(condition, refusal), *blocks[condition.call]]
    blocks |= {name: [(_RETURN, 0, 0, refusal)] for name in wanted.refused}
    blocks |= {name: [(_RETURN, 0, 0, _ERRNO | 0)] for name in wanted.ignored}
    return {numbers[name]: block for name, block in blocks.items() if name in numbers}


def _check(condition: Condition, refusal: int) -> Block:
    """Refuse if the condition holds. The low half of an argument comes first on
    both architectures, which are little-endian."""
    action = refusal if condition.errno == errno.EPERM else _ERRNO | condition.errno
    block = [(_LOAD, 0, 0, _ARGUMENTS + 8 * condition.index)]
    if condition.mask != ALL_BITS:
        block.append((_AND, 0, 0, condition.mask))
    last = len(condition.values) - 1
    for place, value in enumerate(condition.values):
        # An equal value leads to the refusal behind the last comparison, or past it if inverted.
        equal = last - place + condition.inverted
        block.append((_EQUAL, equal, int(place == last and not condition.inverted), value))
    block.append((_RETURN, 0, 0, action))
    if condition.where is None:
        return block
    index, value = condition.where
    guard = [(_LOAD, 0, 0, _ARGUMENTS + 8 * index)]
    if condition.where_mask != ALL_BITS:
        guard.append((_AND, 0, 0, condition.where_mask))
    return [*guard, (_EQUAL, 0, len(block), value), *block]


def _intervals(blocks: Mapping[int, Block]) -> list[Interval]:
    """All numbers in order; neighbours with the same block are one interval, and numbers without a
    block are unknown calls."""
    unknown = [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    intervals = [(0, blocks.get(0, unknown))]
    for number in sorted({n for known in blocks for n in (known, known + 1)}):
        block = blocks.get(number, unknown)
        if block != intervals[-1][1]:
            intervals.append((number, block))
    return intervals


def _tree(intervals: list[Interval]) -> Block:
    """The instructions that lead from the number in the accumulator to the block of its interval,
    by halves. The lower half comes first; a comparison can skip 255 instructions at most."""
    if len(intervals) == 1:
        return intervals[0][1]
    half = len(intervals) // 2
    first = intervals[half][0]
    lower, upper = _tree(intervals[:half]), _tree(intervals[half:])
    if len(lower) <= _SKIP_MAX:
        return [(_AT_LEAST, len(lower), 0, first), *lower, *upper]
    return [(_AT_LEAST, 0, 1, first), (_SKIP, 0, 0, len(lower)), *lower, *upper]
