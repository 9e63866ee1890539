"""The system call filter of a run (seccomp(2)), compiled from profile.py.

`compile` turns the profile into a classic BPF program, once, at the daemon's start. libseccomp only
translates names into the numbers of this architecture. The program reads top to bottom:

    another architecture (i386 through int 0x80)    kill
    x32, on x86_64                                  ENOSYS
    a call with conditions                          its errno where one holds, else allowed
    a refused call                                  user notification, which means EPERM
    an allowed call                                 allowed
    anything else                                   ENOSYS

Init, the process that spawns the steps, installs it once a run, and all later processes inherit it.

User notification (seccomp_unotify(2), Linux 5.0): the caller sleeps until the holder of the
filter's listener answers. The shim holds it, answers EPERM and counts (shim/denied_calls.py).
Safety does not depend on the answer: a refused call is never carried out, with or without it. If
the shim is gone the kernel answers ENOSYS. A caller that is killed does not wait. A filter that the
program adds can only refuse more (profile.py denies it a listener of its own).
"""

from __future__ import annotations

import errno
import itertools
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..errors import StageError
from . import syscalls
from .profile import CONDITIONS, Condition, profile
from .stage import expect, stage

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
_X32_BIT = 0x40000000
# linux/seccomp.h
_KILL, _ERRNO, _NOTIFY, _ALLOW = 0x80000000, 0x00050000, 0x7FC00000, 0x7FFF0000
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_ALU|BPF_AND, BPF_RET
_SKIP, _EQUAL, _GREATER, _AT_LEAST = 0x05, 0x15, 0x25, 0x35  # BPF_JMP with JA, JEQ, JGT, JGE
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_INSTRUCTION = struct.Struct("HBBI")
_INSTRUCTIONS_MAX = 4096  # BPF_MAXINSNS

Instruction = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Filter:
    """A compiled profile.

    program  an array of struct sock_filter
    refused  number -> name of each call that is, or may be, refused with a notification
    """

    program: bytes
    refused: dict[int, str]


def compile(allow: tuple[str, ...] = (), refuse: tuple[str, ...] = ()) -> Filter:
    """The filter for this machine, of the profile with these calls moved.

    Raises StageError; ConfigError for calls that cannot be moved.
    """
    wanted = profile(allow, refuse)
    architecture = _ARCHITECTURES.get(os.uname().machine)
    if architecture is None:
        raise StageError("seccomp", f"no profile for the architecture {os.uname().machine}")
    numbers = _numbers([*wanted.allowed, *wanted.refused])
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        *_range(_X32_BIT, 0xFFFFFFFF, _ERRNO | errno.ENOSYS),
        *_conditional({name: numbers[name] for name in wanted.allowed if name in numbers}),
        *_all((numbers[n] for n in wanted.refused if n in numbers), _NOTIFY),
        *_all((numbers[n] for n in wanted.allowed if n in numbers), _ALLOW),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    ]
    if len(code) > _INSTRUCTIONS_MAX:
        raise StageError("seccomp", f"{len(code)} instructions; {_INSTRUCTIONS_MAX} are possible")
    program = b"".join(_INSTRUCTION.pack(*instruction) for instruction in code)
    refused = [*wanted.refused, *(c.call for c in CONDITIONS if c.errno == errno.EPERM)]
    return Filter(program, {numbers[name]: name for name in refused if name in numbers})


def apply(program: bytes) -> int:
    """Filter this process and all that it starts; the listener. no_new_privs must be set.

    Until somebody holds the listener and answers, a refused call sleeps.
    """
    with stage("seccomp"):
        return syscalls.seccomp_listener(program)


def verify() -> None:
    """The kernel names a filter for this process, and a refused call is refused, by an answer."""
    with stage("seccomp"), open("/proc/self/status", encoding="utf-8") as file:
        modes = [line.split()[1] for line in file if line.startswith("Seccomp:")]
    expect("seccomp", "mode", modes, ["2"])
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


def _conditional(numbers: dict[str, int]) -> Iterator[Instruction]:
    """For each call with conditions, all of them; each block is skipped by other calls."""
    by_call = sorted(CONDITIONS, key=lambda condition: condition.call)
    for call, group in itertools.groupby(by_call, key=lambda condition: condition.call):
        if call in numbers:
            block = [*itertools.chain.from_iterable(map(_check, group)), (_RETURN, 0, 0, _ALLOW)]
            yield (_EQUAL, 1, 0, numbers[call])
            yield (_SKIP, 0, 0, len(block))  # the distance of a comparison is 255 at most
            yield from block


def _check(condition: Condition) -> list[Instruction]:
    """Refuse if the condition holds. The low half of an argument comes first on
    both architectures, which are little-endian."""
    action = _NOTIFY if condition.errno == errno.EPERM else _ERRNO | condition.errno
    compare = [
        (_LOAD, 0, 0, _ARGUMENTS + 8 * condition.index),
        (_AND, 0, 0, condition.mask),
        (_EQUAL, 0, 1, condition.value),
        (_RETURN, 0, 0, action),
    ]
    if condition.family is None:
        return compare
    return [(_LOAD, 0, 0, _ARGUMENTS), (_EQUAL, 0, len(compare), condition.family), *compare]


def _all(numbers: Iterable[int], action: int) -> Iterator[Instruction]:
    """Return `action` for each of `numbers`; neighbours are taken together."""
    run: list[int] = []
    for number in sorted(set(numbers)):
        if run and number != run[-1] + 1:
            yield from _range(run[0], run[-1], action)
            run = []
        run.append(number)
    if run:
        yield from _range(run[0], run[-1], action)


def _range(first: int, last: int, action: int) -> list[Instruction]:
    return [(_AT_LEAST, 0, 2, first), (_GREATER, 1, 0, last), (_RETURN, 0, 0, action)]
