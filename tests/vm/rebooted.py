"""The checks after installed.py, a reboot, cut_off.py and another reboot.

Sessions and files from before are there, and each run that was cut off has an end with a reason.
Then the service is removed, and every trace of it with it.
"""

from __future__ import annotations

import os

from ..waiting import until
from .host import BEFORE, CUT_FILES, client, groups, names, proceed, processes, sh, show

# Files that the system itself writes, for any new user, boot or host name.
NOISE = (
    "/etc/.pwd.lock", "/etc/passwd-", "/etc/shadow-", "/etc/group-", "/etc/gshadow-",
    "/etc/subuid-", "/etc/subgid-", "/var/lib/systemd", "/var/cache", "/etc/machine-id",
    "/root/before-the-installation",
)  # fmt: skip


def left() -> set[str]:
    """The files that were not there before the installation."""
    return {name for name in names() - set(BEFORE.read_text().split("\n"))
            if not name.startswith(NOISE)}  # fmt: skip


def test_service_starts_with_the_machine() -> None:
    until(lambda: show("sandboxd.service", "ActiveState") == "active", 120)


def test_sessions_and_their_files_are_there() -> None:
    with client() as http:
        answer = http.get("/session/kept/download_single", params={"file": "kept.txt"})
        assert (answer.status_code, answer.content) == (200, b"still here\n")


def test_what_was_promised_before_the_power_was_cut_is_so() -> None:
    with client() as http:
        for name, data in CUT_FILES.items():
            answer = http.get("/session/cut-kept/download_single", params={"file": name})
            assert (answer.status_code, answer.content) == (200, data)
        for gone in ("cut-gone", "cut-old"):
            assert http.get(f"/session/{gone}").status_code == 404
        assert http.get("/session/cut-new").status_code == 200
        assert "cut" in [folder["name"] for folder in http.get("/folders").json()]
        _, last = proceed(http, "cut-active")
        assert (last["status"], last["exitCode"]) == ("finished", -1)
        text, last = proceed(http, "cut-active", "queued")
        assert (text, last["exitCode"]) == ("begun\n", 0)
        options = {"exec": "cp d/file0 cut/ && cat cut/file0 | head -c 3"}
        call = {"mode": "batch", "code": "", "runId": "again", "options": options}
        assert http.post("/session/cut-kept", json=call).status_code == 200
        assert proceed(http, "cut-kept", "again")[1]["exitCode"] == 0
        for name in ("cut-kept", "cut-new", "cut-active"):
            assert http.delete(f"/session/{name}").status_code == 200
        assert http.delete("/folders/cut").status_code == 204


def test_run_that_the_reboot_cut_off_has_an_end() -> None:
    with client() as http:
        _, last = proceed(http, "rebooted")
        assert last["status"] == "finished"
        assert last["exitCode"] != 0
    assert groups() == []


def test_uninstallation_leaves_the_state_and_nothing_else() -> None:
    with client() as http:
        call = {"mode": "batch", "code": "", "options": {"exec": "sleep 600"}}
        assert http.post("/session/kept", json=call).status_code == 200
    sh("./scripts/uninstall")
    assert processes() == {}
    for unit in ("sandboxd.service", "sandboxd.socket", "sandboxd-runs.service"):
        assert show(unit, "LoadState") == "not-found"
    assert sh("getent passwd sandboxd; getent group sandboxd", code=2) == ""
    assert not os.path.exists("/run/sandboxd")
    assert "sandboxd" not in sh("cat /proc/mounts; find /sys/fs/cgroup -name '*sandboxd*'")
    state = {name for name in left() if name.startswith("/var/lib/sandboxd")}
    assert left() == state
    owners = {os.stat(name).st_uid for name in state if name.startswith("/var/lib/sandboxd/api")}
    assert owners == {0}, "nobody is to inherit the keys with a uid"


def test_second_installation_finds_the_state() -> None:
    sh("./scripts/install --wheels /opt/wheels")
    with client() as http:
        answer = http.get("/session/kept/download_single", params={"file": "kept.txt"})
        assert answer.content == b"still here\n"


def test_purge_after_the_reboot_leaves_nothing() -> None:
    sh("/opt/sandboxd/current/bin/sandboxd-uninstall --purge")
    assert left() == set()
