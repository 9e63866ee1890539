"""The service on a machine with systemd: installed by the commands of the README, used, killed,
started again, upgraded. Then the machine reboots, cut_off.py cuts its power, and rebooted.py goes
on.

`./scripts/test-vm` runs all; the order of the tests is that of an administrator's day.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import time
from pathlib import Path

from ..waiting import until
from .host import (
    BEFORE,
    CHECKOUT,
    COUNT,
    RUNS,
    begin,
    client,
    count,
    end,
    groups,
    names,
    proceed,
    processes,
    sh,
    show,
)  # fmt: skip

EXPOSURE = 6.8
"""Of 10, by `systemd-analyze security`; docs/operations.md explains the number."""


def test_installation_without_root_is_refused_by_name() -> None:
    said = sh("setpriv --reuid 1000 --clear-groups ./scripts/install", code=1)
    assert said == "install: needs root: sudo scripts/install\n"


def test_installation_says_what_it_does_and_that_it_answers() -> None:
    BEFORE.write_text("\n".join(sorted(names())))
    said = sh("./scripts/install --wheels /opt/wheels")
    assert "hello from a sandbox" in said
    assert "is installed and answers." in said
    for unit in ("sandboxd.service", "sandboxd.socket", "sandboxd-runs.service"):
        assert show(unit, "ActiveState") == "active"
    assert "sandboxd" in sh("getent passwd sandboxd")


def test_units_are_good_and_as_exposed_as_is_documented() -> None:
    units = sh("ls -d /usr/local/lib/systemd/system/sandboxd*").split()
    assert len(units) == 3
    assert sh(f"systemd-analyze verify {' '.join(units)}") == ""
    text = sh("systemd-analyze security --no-pager sandboxd.service")
    match = re.search(r"exposure level for sandboxd.service: ([0-9.]+)", text)
    assert match and float(match[1]) <= EXPOSURE
    documented = (CHECKOUT / "docs" / "operations.md").read_text()
    assert f"exposure level {match[1]}" in documented


def test_a_job_as_in_the_readme() -> None:
    command = "sandboxd run examples/wordcount --build '*' --exec './main data/*.txt'"
    assert command in (CHECKOUT / "README.md").read_text()
    assert "sandboxd: exec finished (exit code 0)" in sh(command)


def test_a_run_has_limits_in_a_leaf_of_the_delegated_group_and_its_shim_lives_there_too() -> None:
    with client() as http:
        begin(http, "placed", "sleep 600")
        until(groups)
        (leaf,) = groups()
        until(lambda: Path(leaf, "memory.max").read_text().strip() == str(1 << 30))
        assert Path(leaf, "pids.max").read_text().strip() == "257"
        assert Path(leaf, "cgroup.subtree_control").read_text().strip() == ""
        shims = Path(RUNS, "shims", "cgroup.procs").read_text().split()
        number = Path(leaf).name.partition(".")[0]
        shim = f"sandboxd: shim slot {number} run 1"
        assert shim in [processes().get(int(pid)) for pid in shims]
        daemon = Path("/sys/fs/cgroup/system.slice/sandboxd.service/cgroup.procs")
        titles = {processes().get(int(pid), "") for pid in daemon.read_text().split()}
        assert titles >= {"sandboxd: warden", "sandboxd: api"}
        assert not [title for title in titles if title.startswith("sandboxd: shim slot")]
        assert http.delete("/session/placed").status_code == 200
    until(lambda: not groups())


def test_group_that_is_not_delegated_is_refused() -> None:
    serve = "sandboxd serve --state-dir /var/tmp/other --listen unix:/var/tmp/other.sock"
    said = sh(f"{serve} --cgroup system.slice", code=125)
    assert said.endswith("system.slice is not delegated to us; its unit needs Delegate=yes\n")
    said = sh(f"{serve} --cgroup system.slice/nowhere.service", code=125)
    assert said.endswith("is not there; start the service whose group it is\n")


def test_program_that_wants_too_much_memory_cannot_flee_into_swap() -> None:
    sh("truncate -s 0 /swap; dd if=/dev/zero of=/swap bs=1M count=256 status=none")
    sh("chmod 600 /swap && mkswap -q /swap && swapon /swap")
    try:
        with client() as http:
            config = {"resources": {"mem": "64m"}}
            response = http.post(
                "/session", json={"name": "swapper", "image": "c", "config": config}
            )
            assert response.status_code == 201, response.text
            grab = "python3 -c 'x = bytearray(150 << 20); print(len(x))'"
            call = {"mode": "batch", "code": "", "options": {"exec": grab}, "runId": "run-swapper"}
            http.post("/session/swapper", json=call)
            text, last = proceed(http, "swapper")
            assert text == ""
            assert last["exitCode"] != 0
            http.delete("/session/swapper")
        used = int(Path("/proc/swaps").read_text().splitlines()[1].split()[3])
        assert used < 10 << 10, "kibibytes; of a program of 150 MiB"
    finally:
        sh("swapoff /swap && rm /swap")


ATTACH = """
import ctypes, os, socket, struct
os.setuid(65534)
code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 1))
program = struct.pack("HxxxxxxP", 1, ctypes.addressof(code))
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).setsockopt(socket.SOL_SOCKET, 26, program)
except OSError:
    print("refused")
"""


def test_run_starts_when_others_have_used_up_the_memory_for_compiled_filters() -> None:
    limit = Path("/proc/sys/net/core/bpf_jit_limit")
    before = limit.read_text()
    limit.write_text("1")
    try:
        assert sh(f"python3 -c '{ATTACH}'") == "refused\n"
        assert "finished (exit code 0)" in sh("sandboxd run examples/wordcount --exec true")
    finally:
        limit.write_text(before)


def test_service_goes_on_after_kill_9_and_so_does_its_run() -> None:
    with client() as http:
        begun = begin(http, "killed", COUNT)
        killed = show("sandboxd.service", "MainPID")
        os.kill(int(killed), signal.SIGKILL)
    # A connection that the dying api still takes is broken off; later ones wait at the socket.
    until(lambda: show("sandboxd.service", "MainPID") not in (killed, "0"))
    with client() as http:
        end(http, "killed", begun)
    assert int(show("sandboxd.service", "NRestarts")) == 1


def test_restart_during_a_job_loses_nothing() -> None:
    with client() as http:
        begun = begin(http, "restarted", COUNT)
    sh("systemctl restart sandboxd")
    with client() as http:
        end(http, "restarted", begun)


def test_upgrade_during_a_job_loses_nothing() -> None:
    before = os.readlink("/opt/sandboxd/current")
    with client() as http:
        begun = begin(http, "upgraded", COUNT)
    with (CHECKOUT / "sandboxd" / "errors.py").open("a") as file:
        file.write("# a newer version\n")
    sh("./scripts/install --wheels /opt/wheels")
    assert os.readlink("/opt/sandboxd/current") != before
    assert set(os.listdir("/opt/sandboxd")) == {
        before, os.readlink("/opt/sandboxd/current"), "current", "lock",
    }  # fmt: skip
    with client() as http:
        end(http, "upgraded", begun)


def test_watchdog_restarts_a_daemon_whose_api_hangs() -> None:
    override = Path("/run/systemd/system/sandboxd.service.d/watchdog.conf")
    override.parent.mkdir(parents=True)
    override.write_text("[Service]\nWatchdogSec=10\n")
    sh("systemctl daemon-reload && systemctl restart sandboxd")
    warden = show("sandboxd.service", "MainPID")
    (api,) = (pid for pid, title in processes().items() if title == "sandboxd: api")
    os.kill(api, signal.SIGSTOP)
    until(lambda: show("sandboxd.service", "MainPID") not in (warden, "0"))
    until(lambda: show("sandboxd.service", "ActiveState") == "active")
    assert not Path(f"/proc/{api}").exists()
    override.unlink()
    override.parent.rmdir()
    sh("systemctl daemon-reload && systemctl restart sandboxd")


def test_stop_ends_runs_and_leaves_no_process_and_no_cgroup() -> None:
    with client() as http:
        begin(http, "stopped", "trap '' TERM; sleep 600 & wait")
    sh("systemctl stop sandboxd.socket sandboxd.service")
    until(lambda: show("sandboxd-runs.service", "ActiveState") == "inactive")
    assert processes() == {}
    assert not RUNS.exists()
    assert "loop" not in sh("losetup --list --noheadings --output NAME")
    sh("systemctl start sandboxd.socket")  # the first client starts the rest
    with client() as http:
        _, last = proceed(http, "stopped")
        assert last["exitCode"] != 0
        assert http.delete("/session/stopped").status_code == 200


def test_clock_that_is_set_during_a_job_ends_no_session_and_loses_nothing() -> None:
    config = Path("/etc/sandboxd/config.toml")
    right = config.read_text()
    other, changes = re.subn(r"(?m)^idle_s = .*$", "idle_s = 3600\nmax_age_s = 86400", right)
    assert changes == 1
    config.write_text(other)
    sh("systemctl restart sandboxd")
    year = 365 * 86400
    with client() as http:
        begun = begin(http, "timed", COUNT)
        response = http.post("/session", json={"name": "idle", "image": "c"})
        assert response.status_code == 201, response.text
    try:
        # ahead, back, and behind all that was ever seen, as without a clock of its own
        for by, restart in ((year, False), (-year, True), (-30 * year, True), (30 * year, False)):
            warnings = count("clock.set")
            sh(f"date -s @{int(time.time()) + by}")
            if restart:
                sh("systemctl restart sandboxd")
            until(functools.partial(is_above, warnings, "clock.set"))
            time.sleep(3)
            with client() as http:
                for name in ("timed", "idle"):
                    answer = http.get(f"/session/{name}")
                    assert answer.status_code == 200, answer.text
                    assert answer.json()["age"] < 3600_000
    finally:
        config.write_text(right)
        sh("systemctl restart sandboxd")
    with client() as http:
        end(http, "timed", begun)
        assert http.delete("/session/idle").status_code == 200


def is_above(earlier: int, event: str) -> bool:
    return count(event) > earlier


def test_mistake_in_the_configuration_is_one_line_and_keeps_what_runs() -> None:
    with client() as http:
        begun = begin(http, "mistaken", COUNT)
    config = Path("/etc/sandboxd/config.toml")
    right = config.read_text()
    config.write_text(right + "\n[scratch]\nsize = 1\n")
    said = sh("./scripts/install --wheels /opt/wheels", code=1)
    assert said.endswith(
        "sandboxd: scratch.size must be between 16 MiB and 1 TiB, in bytes, not 1\n"
        "install: correct /etc/sandboxd/config.toml and run this again; nothing was changed\n"
    )
    sh("systemctl reload sandboxd")  # refused: the old configuration stays in force
    until(lambda: "config.refused" in sh("journalctl --unit sandboxd --lines 20 --output cat"))
    assert show("sandboxd.service", "ActiveState") == "active"
    sh("systemctl restart sandboxd", code=1)
    assert len(groups()) == 1
    config.write_text(right)
    sh("systemctl restart sandboxd")
    with client() as http:
        end(http, "mistaken", begun)


def test_session_and_run_begin_before_the_reboot() -> None:
    with client() as http:
        assert http.post("/session", json={"name": "kept", "image": "c"}).status_code == 201
        files = {"src": ("kept.txt", b"still here\n")}
        assert http.post("/session/kept/upload", files=files).status_code in (200, 204)
        begin(http, "rebooted", "sleep 600")
