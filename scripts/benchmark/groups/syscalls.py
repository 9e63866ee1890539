"""System calls in a loop, inside of a run and outside.

A small C program repeats one call, and prints the nanoseconds of a call. The kernel looks each call
up in the filter of a run (sandboxd/jail/seccomp.py). It remembers the answer for calls that are
allowed with any arguments, but not for those with conditions.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from statistics import median

from ..bench import Bench
from ..daemon import WARM
from ..rows import Measured, Row, goal_row
from ..summary import ratio
from .compiler import send_file

_CALLS = {
    "getppid": "syscall(SYS_getppid);",
    "read": "if (read(zero, byte, 1) != 1) return 1;",
    "write": "if (write(null, byte, 1) != 1) return 1;",
    "lseek": "lseek(file, 0, SEEK_SET);",
    "fstat": "if (fstat(file, &status)) return 1;",
    "open + close": 'close(open("/usr", O_RDONLY));',
    "mmap + munmap": "munmap(mmap(0, 4096, 1, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);",
    "ioctl": "ioctl(null, TCGETS, terminal);",
    "futex": "syscall(SYS_futex, &word, FUTEX_WAKE, 1, 0, 0, 0);",
}
"""Name -> statement. mmap and ioctl have conditions in the filter."""

LOOPS = 20_000
_PASSES = 5
"""Each loop is repeated this often in a process, and the fastest pass counts."""

_HEAD = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}
int main(void) {
    int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
    int file = open("/usr", O_RDONLY), word = 0;
    char byte[1] = {0}, terminal[256];
    struct stat status;
"""
_LOOP = """
    {{
        double best = 1e18;
        for (int pass = 0; pass < {passes}; pass++) {{
            double began = now();
            for (int i = 0; i < {loops}; i++) {{ {statement} }}
            double each = (now() - began) / {loops};
            if (each < best) best = each;
        }}
        printf("%f\\n", best);
    }}
"""


def source() -> str:
    """The text of the C program."""
    loops = [
        _LOOP.format(loops=LOOPS, passes=_PASSES, statement=statement)
        for statement in _CALLS.values()
    ]
    return "\n".join([_HEAD, *loops, "    return 0;\n}\n"])


def measure(bench: Bench) -> Measured:
    """The rows, if this host has a C compiler."""
    if (cc := shutil.which("cc") or shutil.which("gcc")) is None:
        return Measured([goal_row("syscalls", None, note="this host has no C compiler")])
    inside: list[list[float]] = []
    outside: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder, bench.daemon(WARM).connect() as connection:
        program = f"{folder}/program"
        command = [cc, "-O1", "-x", "c", "-o", program, "-"]
        subprocess.run(command, input=source(), text=True, check=True)
        session = connection.create()
        with open(program, "rb") as file:
            send_file(connection, session, "program", file.read())
        connection.run(session, "chmod +x program")
        for number in range(bench.amount.repetitions):
            bench.progress.show(f"syscalls: round {number + 1} of {bench.amount.repetitions}")
            outside.append(_numbers(subprocess.check_output([program], text=True)))
            inside.append(_numbers(connection.run(session, "./program")))
        connection.delete(session)
    return Measured(rows_of(outside, inside))


def _numbers(text: str) -> list[float]:
    return [float(line) for line in text.split()]


def rows_of(outside: list[list[float]], inside: list[list[float]]) -> list[Row]:
    """The ratio of each call, and of all calls of a round together."""
    rows = []
    for number, name in enumerate(_CALLS):
        out = [one[number] for one in outside]
        value = ratio([one[number] for one in inside], out)
        text = f"{name}, {median(out):.0f} ns outside"
        rows.append(Row(f"syscall-{name}", text, value=value, unit="x"))
    total = ratio([sum(one) for one in inside], [sum(one) for one in outside])
    return [*rows, goal_row("syscalls", total)]
