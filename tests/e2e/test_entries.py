"""The jails that wait for runs, and which of them a run gets."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from sandboxd.model import STEPS

from ..waiting import until
from .daemon import Daemon, run
from .waiting_jails import COLD, NONE, WARM, Start, count, ended, family, prepared, title_of, warm

WARM_MEMORY, PREPARED_MEMORY = 8 << 20, 4 << 20
SEVERAL = 4
"""Bytes of a jail that waits, as docs/operations.md promises."""


def test_run_has_an_entry_that_was_prepared_and_another_one_is_prepared_then(start: Start) -> None:
    daemon, http = start(COLD)
    waiting = prepared(daemon)
    assert count(http).text("stdout") == "1\n"
    until(lambda: any(ended(one) for one in waiting))
    assert len(prepared(daemon)) == 2


def test_trial_of_a_spawner_leaves_no_mount_and_stays_in_its_own_namespaces(start: Start) -> None:
    daemon, _ = start(COLD)
    prepared(daemon)
    (spawner,) = family(daemon, "spawner")
    mounts = Path(f"/proc/{spawner.pid}/mountinfo").read_text()
    assert "lowerdir=files" not in mounts and f"{daemon.state}/root " not in mounts
    for kind in ("mnt", "net", "ipc", "uts"):
        assert os.readlink(f"/proc/{spawner.pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")


def test_daemon_without_entries_has_no_spawner_and_keeps_no_shim(start: Start) -> None:
    daemon, http = start(NONE)
    assert count(http).text("stdout") == "1\n"
    assert not family(daemon, "prepared") and not family(daemon, "spawner")
    until(lambda: not family(daemon, "shim"))
    assert count(http).text("stdout") == "2\n"


def test_next_run_of_a_session_has_the_shim_of_the_last_one(start: Start) -> None:
    daemon, http = start(WARM)
    assert count(http).text("stdout") == "1\n"
    first = warm(daemon)
    assert count(http).text("stdout") == "2\n"
    assert warm(daemon) == first


def test_idle_session_has_no_process_after_the_rest(start: Start) -> None:
    daemon, http = start("[runs]\nprepared = 0\nwarm_s = 0.3\n")
    count(http)
    until(lambda: not family(daemon, "shim") and not family(daemon, "init"))
    assert count(http).text("stdout") == "2\n"


STAYS = {
    "a failure": ("exit 3", True),
    "a signal of its own": ("kill -9 $$", True),
    "a refused call": ("unshare -U true; true", False),
    "an end by the clock": ("sleep 60", False),
    "a want of memory": ("/usr/bin/python3 -c 'x = bytearray(600 << 20)'; true", False),
    "a want of processes": (
        "/usr/bin/python3 -c 'import os\nwhile True: os.fork() or os.pause()'; true", False,
    ),
}  # fmt: skip
"""How a run ends -> its program, and whether its shim stays."""


@pytest.mark.parametrize("end", STAYS)
def test_only_a_run_that_has_ended_by_itself_leaves_its_shim(start: Start, end: str) -> None:
    program, stays = STAYS[end]
    daemon, http = start(WARM)
    limits = {"wall_s": 2, "mem": "256m", "pids": 20}
    run(http, "kept", {"exec": program, "limits": {"exec": limits}})
    if stays:
        warm(daemon)
    else:
        until(lambda: not family(daemon, "shim"))
    assert count(http).text("stdout") == "1\n"


LEAVES = """
set -e
(trap '' TERM HUP; setsid sleep 300 &)
echo secret > /dev/shm/file
ipcmk -M 64 -S 1 -Q > /dev/null
/usr/bin/python3 - <<'end'
import ctypes
libc = ctypes.CDLL(None)
assert libc.mq_open(b"/queue", 0o102, 0o600, None) >= 0
end
"""
LOOKS = """
ls /dev/shm /dev/mqueue
tail -qn +2 /proc/sysvipc/*
set -- /proc/[0-9]*; echo $#
"""


def test_nothing_but_files_of_the_session_is_there_in_the_next_run(start: Start) -> None:
    daemon, http = start(WARM)
    assert run(http, "kept", {"exec": LEAVES}).exits[-1] == 0
    first = warm(daemon)
    outcome = run(http, "kept", {"exec": LOOKS})
    assert warm(daemon) == first
    assert outcome.text("stdout") == "/dev/mqueue:\n\n/dev/shm:\n1\n"  # the shell


def test_run_with_other_limits_gets_another_jail(start: Start) -> None:
    daemon, http = start(WARM)
    count(http)
    first = warm(daemon)
    options = {"exec": "ulimit -n", "limits": {step: {"nofile": 99} for step in STEPS}}
    assert run(http, "kept", options).text("stdout") == "99\n"
    until(lambda: ended(first))


def test_jails_that_wait_take_little_memory(start: Start) -> None:
    daemon, http = start(WARM)
    for number in range(SEVERAL):
        name = f"session-{number}"
        assert http.post("/session", json={"image": "c", "name": name}).status_code == 201
        assert run(http, name, {"exec": "true"}).exits[-1] == 0
    shims = until(lambda: _settled(daemon))
    inits = [child for shim in shims for child in shim.children()]
    used = sum(one.memory_full_info().uss for one in (*shims, *inits))
    assert len(inits) == SEVERAL and used <= SEVERAL * WARM_MEMORY
    used = sum(one.memory_full_info().uss for one in family(daemon, "prepared"))
    assert used <= 2 * PREPARED_MEMORY


def _settled(daemon: Daemon) -> list[psutil.Process] | None:
    """The shims, once all are warm."""
    shims = family(daemon, "shim")
    all_warm = all(title_of(one).endswith("warm") for one in shims)
    return shims if all_warm and len(shims) == SEVERAL else None


def test_sessions_never_share_a_shim(start: Start) -> None:
    daemon, http = start(WARM)
    count(http)
    first = warm(daemon)
    http.post("/session", json={"image": "c", "name": "other"})
    assert run(http, "other", {"exec": "ls"}).text("stdout") == ""
    shims = {one.pid for one in family(daemon, "shim")}
    assert first.pid in shims and len(shims) == 2
    assert http.delete("/session/other").status_code == 200
    assert first.pid in {one.pid for one in family(daemon, "shim")}


def test_deletion_of_a_session_takes_its_warm_shim(start: Start) -> None:
    daemon, http = start(WARM)
    count(http)
    warm(daemon)
    assert http.delete("/session/kept").status_code == 200
    assert not family(daemon, "shim") and not family(daemon, "init")
    until(lambda: os.listdir(daemon.state / "slots") == [])
