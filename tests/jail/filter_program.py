"""The system call filter, and the kernel's interpreter for it."""

from __future__ import annotations

import errno
import os
import struct

from sandboxd.jail import seccomp, syscalls
from sandboxd.jail.profile import ALLOWED, IGNORED, REFUSED, names

ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[os.uname().machine]
I386 = 0x40000003
ALLOW, KILL, ENOSYS = 0x7FFF0000, 0x80000000, 0x50000 | errno.ENOSYS
NOTIFY = 0x7FC00000  # the shim answers EPERM
FILTER = seccomp.compile()
CODE = list(struct.iter_unpack("HBBI", FILTER.program))
EVERY = [*names(ALLOWED), *names(REFUSED), *names(IGNORED)]
NUMBERS = syscalls.syscall_numbers([*EVERY, "clone3", "io_uring_setup"])
NAMES = {number: name for name, number in NUMBERS.items()}


def judged(
    number: int,
    arguments: tuple[int, ...] = (),
    architecture: int = ARCHITECTURE,
    program: list[tuple[int, int, int, int]] = CODE,
) -> int:
    """The answer of the kernel's interpreter (classic BPF, Documentation/networking/filter)."""
    return executed(number, arguments, architecture, program)[0]


def executed(
    number: int,
    arguments: tuple[int, ...] = (),
    architecture: int = ARCHITECTURE,
    program: list[tuple[int, int, int, int]] = CODE,
) -> tuple[int, int]:
    """The answer, and the number of instructions that lead to it."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    steps = 0
    data = struct.pack("<IIQ6Q", number, architecture, 0, *padded)
    at = accumulator = 0
    while True:
        code, true, false, value = program[at]
        at += 1
        steps += 1
        if code == 0x15:
            at += true if accumulator == value else false
        elif code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == 0x06:
            return int(value), steps
        elif code == 0x54:
            accumulator &= value
        elif code == 0x05:
            at += value
        elif code == 0x25:
            at += true if accumulator > value else false
        elif code == 0x35:
            at += true if accumulator >= value else false
        else:
            raise ValueError(f"the filter has the unknown instruction {code:#x}")


def plain(call: str | None) -> tuple[int, ...]:
    """Arguments that are allowed; of a socket AF_UNIX and SOCK_STREAM."""
    return (1, 1, 0, 0, 0, 0) if call in ("socket", "socketpair") else (0,) * 6


def refusal(code: int) -> int:
    """The answer that is this errno."""
    return 0x50000 | code
