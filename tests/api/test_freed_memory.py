"""The memory of a process after a flood, with and without the fixed thresholds of malloc."""

from __future__ import annotations

import subprocess
import sys

FLOOD = """
import sys
from sandboxd.api import freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if sys.argv[1] == "with":
    freed_memory.return_when_freed()
large = bytearray(16 << 20)
del large  # from now on glibc has blocks of up to 16 MiB in its heap
before = resident()
messages, small = [], []
for _ in range(400):
    messages.append(bytearray(150_000))
    small.append(bytes(1000))  # lives on between two messages
messages.clear()
print(resident() - before)
"""


def left(how: str) -> int:
    """The bytes that a flood of 57 MiB leaves behind."""
    command = [sys.executable, "-c", FLOOD, how]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def test_memory_of_a_flood_is_given_back_and_without_fixed_thresholds_it_is_not() -> None:
    assert left("with") < 4 << 20
    assert left("without") > 40 << 20
