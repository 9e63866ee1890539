"""The scan: the bytes that it reads of a process are bounded, whatever the process does."""

from __future__ import annotations

import subprocess
from pathlib import Path

from sandboxd.warden.slots.host_resources import TITLE_MAX, processes

from ...sandbox import TEST_UIDS

UID = TEST_UIDS + 148


def read_so_far() -> int:
    """Bytes that this process has read by system calls (proc(5), /proc/PID/io)."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_scan_reads_the_first_bytes_of_megabytes_of_arguments(tmp_path: Path) -> None:
    arguments = ["x" * 100_000] * 15
    command = ["/bin/sh", "-c", "echo; read x", *arguments]
    with subprocess.Popen(
        command, user=UID, group=UID, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stdout.readline()
        list(processes(str(tmp_path), range(UID + 1, UID + 2), {}))
        before = read_so_far()
        list(processes(str(tmp_path), range(UID + 1, UID + 2), {}))
        others = read_so_far() - before
        (scanned,) = processes(str(tmp_path), range(UID, UID + 1), {})
        assert read_so_far() - before - others < others + 200_000
        assert (scanned.pid, scanned.uid, len(scanned.title)) == (process.pid, UID, TITLE_MAX)
