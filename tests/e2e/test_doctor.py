"""The command `sandboxd doctor`, and the guarantees at the start of a daemon."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from sandboxd.cli import main as cli
from sandboxd.warden.doctor.guarantees import TABLE

from ..http_clients import GUARD_S
from ..loop_devices import backing_files
from .daemon import ROOT, Daemon, running

TOO_LARGE = f"[scratch]\nsize = {1 << 40}\n"


def begun(*args: str, stdout: int = subprocess.PIPE, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "sandboxd", "doctor", *args],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"} | variables,
        stderr=subprocess.PIPE,
        stdout=stdout,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    output, errors = process.communicate(timeout=GUARD_S)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def doctor(*args: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    return ended(begun(*args, stdout=stdout))


def lines_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of guarantees and runtimes."""
    return [line for line in done.stdout.splitlines() if line.startswith("  ")]


def test_doctor_has_a_line_for_each_guarantee_and_leaves_nothing(folder: Path) -> None:
    process = begun("--state-dir", str(folder / "not-yet"), TMPDIR=str(folder))
    done = ended(process)
    assert (done.returncode, done.stderr) == (0, "")
    for entry in TABLE:
        lines = [line for line in lines_of(done) if line.split()[1] == entry.name]
        assert len(lines) == 1 and entry.guarantee.meaning in lines[0], entry.name
    assert "\033" not in done.stdout
    assert str(folder) not in Path("/proc/mounts").read_text()
    assert [name for name in backing_files() if str(folder) in name] == []
    assert [d for d, _, _ in os.walk("/sys/fs/cgroup") if f"doctor-{process.pid}" in d] == []
    assert os.listdir(folder) == []


def test_doctor_works_beside_a_running_daemon(daemon: Daemon) -> None:
    config = str(daemon.folder / "config.toml")
    done = doctor("--json", "--config", config, "--state-dir", str(daemon.state))
    report = json.loads(done.stdout)
    assert (done.returncode, report["missing_required"]) == (0, [])
    held = {one["name"]: one["held"] for one in report["guarantees"]}
    assert {entry.name for entry in TABLE} <= set(held)
    assert held["whole-run"]


def test_doctor_uses_colour_on_a_terminal_only(folder: Path) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb") as terminal:
        assert doctor("--state-dir", str(folder), stdout=theirs).returncode == 0
        os.close(theirs)
        assert b"\033[32mok" in terminal.read1()


def test_doctor_exits_with_1_and_the_remedy_when_a_required_guarantee_is_missing(
    folder: Path,
) -> None:
    (folder / "config.toml").write_text(f'{TOO_LARGE}[require]\nguarantees = ["disk"]\n')
    done = doctor("--config", str(folder / "config.toml"), "--state-dir", str(folder))
    assert done.returncode == 1
    (line,) = [line for line in lines_of(done) if line.split()[1] == "disk"]
    assert line.startswith("  missing") and "lower scratch.size" in line
    assert "will not start here: disk" in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [('guarantees = ["nonsense"]', "known: mount-namespace"), ("guarantees = 1", "list of texts")],
)
def test_doctor_reports_a_mistake_in_the_configuration_in_one_line(
    folder: Path, text: str, said: str
) -> None:
    (folder / "config.toml").write_text(f"[require]\n{text}\n")
    done = doctor("--config", str(folder / "config.toml"))
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr and len(done.stderr.splitlines()) == 1


def test_doctor_without_root_reports_it_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["doctor"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1 and "sudo" in said.err


def test_daemon_does_not_start_without_a_required_guarantee(folder: Path) -> None:
    (folder / "config.toml").write_text(f'{TOO_LARGE}[require]\nguarantees = ["disk"]\n')
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sandboxd", "serve", "--config", f"{folder}/config.toml",
         "--listen", f"unix:{folder}/api.sock", "--state-dir", f"{folder}/state"],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=GUARD_S,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "does not guarantee disk" in done.stderr and "lower scratch.size" in done.stderr
    assert not (folder / "api.sock").exists()
    assert not (folder / "state" / "slots").exists()


def test_guarantee_that_is_missing_and_not_required_is_in_the_log_and_the_api(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(folder, TOO_LARGE) as daemon, daemon.client() as http:
        assert "event=guarantee.missing name=disk" in capfd.readouterr().err
        rows = {one["name"]: one for one in http.get("/admin/guarantees").json()["guarantees"]}
        assert not rows["disk"]["held"] and "lower" in rows["disk"]["remedy"]
        assert rows["seccomp"]["held"] and rows["seccomp"]["required"]


def test_session_names_the_guarantees_that_hold_for_it(
    http: httpx.Client, session: Callable[..., str]
) -> None:
    id = session("shell")
    own = http.get(f"/session/{id}").json()["sandbox"]["guarantees"]
    assert {"seccomp", "whole-run", "cgroup-memory"} <= set(own["held"])
    assert sorted(own["held"] + own["missing"]) == sorted(entry.name for entry in TABLE)
