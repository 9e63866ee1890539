"""System calls in a loop, inside of a run and outside.

A small C program repeats one call, and prints the nanoseconds of a call. A run has a filter
(sandboxd/jail/seccomp.py), and any filter makes the kernel take a longer way into each call. So the
program runs a third time: outside, with a filter that allows every call. No filter is faster.
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
    "open + close": "close(open(words[0], O_RDONLY));",
    "open + close of /usr": 'close(open("/usr", O_RDONLY));',
    "mmap + munmap": "munmap(mmap(0, 4096, 1, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);",
    "ioctl": "ioctl(null, TCGETS, terminal);",
    "futex": "syscall(SYS_futex, &word, FUTEX_WAKE, 1, 0, 0, 0);",
}
"""Name -> statement. mmap and ioctl have conditions in the filter."""

LOOPS = 1_000
_PASSES = 40
"""Each loop is repeated this often in a process, and the fastest pass counts."""

_HEAD = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
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
int main(int count, char **words) {
    if (count > 1) {
        struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        struct sock_fprog filter = {1, &allow};
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, 1, 0, &filter)) return 1;
    }
    int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
    int file = open(words[0], O_RDONLY), word = 0;
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
    allowed: list[list[float]] = []
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
            allowed.append(_numbers(subprocess.check_output([program, "filter"], text=True)))
            inside.append(_numbers(connection.run(session, "./program")))
        connection.delete(session)
    return Measured(rows_of(outside, inside, allowed))


def _numbers(text: str) -> list[float]:
    return [float(line) for line in text.split()]


def rows_of(
    outside: list[list[float]], inside: list[list[float]], allowed: list[list[float]]
) -> list[Row]:
    """The ratio of each call to the same call outside, and the median of these ratios. `allowed`
    are the times outside with a filter that allows every call."""
    rows, inner, floors = [], [], []
    for number, name in enumerate(_CALLS):
        out = [one[number] for one in outside]
        inner.append(ratio([one[number] for one in inside], out) or 0.0)
        floors.append(ratio([one[number] for one in allowed], out) or 0.0)
        text = f"  {name}, {median(out):.0f} ns outside"
        rows.append(
            Row(f"syscall-{name}", text, value=inner[-1], unit="x", note=_floor(floors[-1]))
        )
    return [goal_row("syscalls", median(inner), note=_floor(median(floors))), *rows]


def _floor(value: float) -> str:
    return f"{value:.2f} with a filter that allows all"
