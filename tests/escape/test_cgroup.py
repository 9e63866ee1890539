"""The cgroup of a run: limits that are read back, and the end of its members."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sandboxd.jail.cgroup import Group
from sandboxd.warden.runs.worker import Worker

from ..sandbox import BareWarden, Sandbox, lease


@pytest.mark.parametrize("name", ["memory", "pids.max", "cpu"])
def test_limit_that_reads_back_otherwise_stops_the_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    real = os.pwrite
    group_write = Group._write

    def ignored(group: Group, file: str, value: str) -> None:
        """The kernel takes the write and keeps the old value."""
        if file.startswith(name):
            monkeypatch.setattr(os, "pwrite", lambda *a: len(a[1]))
        try:
            group_write(group, file, value)
        finally:
            monkeypatch.setattr(os, "pwrite", real)

    monkeypatch.setattr(Group, "_write", ignored)
    result = sandbox.run("echo ran")
    assert result.last["event"] == "fault"
    assert result.last["stage"].startswith(f"cgroup {name}")
    assert result.stdout == ""


def test_process_that_has_got_the_pid_of_a_member_is_not_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A member may end between the look and the signal, and another process get its pid."""
    (tmp_path / "pids.max").write_text("9")
    signals: list[int] = []
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda _, number: signals.append(number))
    with subprocess.Popen(["/bin/sleep", "60"]) as other:
        try:
            monkeypatch.setattr(Group, "members", lambda group: {other.pid})
            Group({"pids": str(tmp_path)}).kill()
            assert signals == []
        finally:
            other.kill()
    assert (tmp_path / "pids.max").read_text() == "0"


def test_memory_limit_is_that_of_its_own_run(sandbox: Sandbox) -> None:
    grab = "/usr/bin/python3 -c 'x = bytearray(90 << 20)'"
    assert sandbox.run(grab, memory=48 << 20).verdict["limit"] == "memory"
    assert sandbox.run(grab, memory=200 << 20).exit == 0
    assert sandbox.run(grab, memory=48 << 20).verdict["limit"] == "memory"


def test_peak_of_memory_is_that_of_its_own_step(sandbox: Sandbox) -> None:
    grab = "/usr/bin/python3 -c 'x = bytearray(90 << 20)'"
    result = sandbox.run("true", build=grab)
    usage: list[dict[str, Any]] = [event["verdict"]["usage"] for event in result.events]
    assert usage[1]["mem_peak"] > 90 << 20
    assert usage[2]["mem_peak"] < 60 << 20


HELD = {
    "a short life": ("x = bytearray(100 << 20)", 100, 140),
    "copies of a process that share its memory": (
        """
import os, sys
memory = bytearray(100 << 20)
child = os.fork()
if not child:
    sys.stdin.read()
    os._exit(0)
os.waitpid(child, 0)
""",
        100, 140,
    ),
    "a mapping that processes share": (
        "import mmap; memory = mmap.mmap(-1, 50 << 20); memory.write(bytes(50 << 20))", 50, 150,
    ),
    "a file in memory": ("open('/dev/shm/x', 'wb').write(bytes(50 << 20))", 50, 150),
}  # fmt: skip
"""Condition -> program, and the bounds of its peak in MiB."""


@pytest.mark.parametrize("condition", HELD)
def test_peak_of_memory_counts_what_the_program_holds(sandbox: Sandbox, condition: str) -> None:
    program, least, most = HELD[condition]
    result = sandbox.run(f"exec /usr/bin/python3 -c '{_quoted(program)}'", answers=[None])
    assert result.exit == 0, result.stderr
    assert least << 20 <= result.verdict["usage"]["mem_peak"] <= most << 20


def _quoted(program: str) -> str:
    return program.replace("'", "'\\''")


@pytest.mark.parametrize("removed", [False, True])
def test_peak_of_memory_has_no_page_cache(warden: BareWarden, removed: bool) -> None:
    sandbox = lease(warden, size=300 << 20)
    try:
        write = "dd if=/dev/zero of=big bs=1M count=200 status=none; "
        read = "exec /usr/bin/python3 -c 'import sys; x = bytearray(10 << 20); "
        read += 'file = open("big", "rb")\nwhile file.read(1 << 20): pass\n'
        read += 'import os\nos.remove("big")\n' if removed else ""
        result = sandbox.run(write + read + "sys.stdin.read()'", answers=[None], memory=280 << 20)
        assert result.exit == 0, result.stderr
        assert 10 << 20 <= result.verdict["usage"]["mem_peak"] < 60 << 20
    finally:
        warden.free(sandbox.slot)


def test_peak_of_memory_of_a_step_without_memory_is_near_its_limit(sandbox: Sandbox) -> None:
    grab = "/usr/bin/python3 -c 'x = bytearray(90 << 20)'"
    verdict = sandbox.run(grab, memory=48 << 20).verdict
    assert (verdict["limit"], verdict["oom"]) == ("memory", True)
    # The limit has room for init and for the kernel's own memory, too: some 10 MiB. On a busy
    # machine up to 20 MiB of it were page cache, which does not count.
    assert 24 << 20 <= verdict["usage"]["mem_peak"] <= 60 << 20


def test_peak_of_memory_at_the_time_limit_is_the_sum_of_all_processes(sandbox: Sandbox) -> None:
    hold = "/usr/bin/python3 -c 'import signal; x = bytearray(40 << 20); signal.pause()' & "
    verdict = sandbox.run(hold * 4 + "wait", wall_s=10, grace_s=0).verdict
    assert verdict["limit"] == "wall_s"
    # The kernel's statistics may lag behind by some pages for each CPU.
    assert 155 << 20 <= verdict["usage"]["mem_peak"] <= 220 << 20


def test_limits_stand_on_a_leaf_and_swap_is_closed(sandbox: Sandbox) -> None:
    read: dict[str, str] = {}

    def look(started: Worker) -> None:
        group = started.group
        assert group
        assert len(group.members()) >= 2, "init and the program"
        for directory in group.dirs.values():
            assert not [entry for entry in os.scandir(directory) if entry.is_dir()], "no leaf"
            for path in Path(directory).iterdir():
                if path.name.startswith(("memory.", "pids.max", "cpu.max", "cgroup.subtree")):
                    try:
                        read[path.name] = path.read_text().strip()
                    except OSError:
                        continue  # for writing only
            above = Path(directory).parent
            assert group.v2 is False or Path(above, "cgroup.procs").read_text() == ""
        if group.shims:
            assert str(started.pid) in Path(group.shims, "cgroup.procs").read_text().split()

    assert (
        sandbox.run("read -r _", on_wait=look, answers=["\n"], memory=48 << 20, pids=20).exit == 0
    )
    assert read["pids.max"] == "21"  # and init
    if "memory.max" in read:  # v2
        assert read["memory.max"] == str(48 << 20)
        assert read["memory.swap.max"] == "0"
        assert read["cpu.max"] == "100000 100000"
        assert read["cgroup.subtree_control"] == ""
    else:
        assert read["memory.limit_in_bytes"] == str(48 << 20)
        assert read.get("memory.memsw.limit_in_bytes", str(48 << 20)) == str(48 << 20)
