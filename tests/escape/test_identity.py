"""The identity of programs, of the shim and of init: the slot's, without privileges."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandboxd.warden.runs.worker import Worker

from ..processes import children
from ..sandbox import Sandbox

STATUS = "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp):' /proc/self/status"


def fields(text: str) -> dict[str, list[str]]:
    return {line.split(":")[0]: line.split()[1:] for line in text.splitlines()}


def test_clean_and_build_have_the_identity_and_the_filter_of_exec(sandbox: Sandbox) -> None:
    result = sandbox.run(STATUS, clean=STATUS, build=STATUS)
    third = len(result.stdout) // 3
    assert "Seccomp:\t2" in result.stdout and "NoNewPrivs:\t1" in result.stdout
    assert result.stdout == result.stdout[:third] * 3


def test_program_has_the_uid_and_gid_of_its_slot_and_no_group_of_the_daemon(
    sandbox: Sandbox,
) -> None:
    before = os.getgroups()
    os.setgroups([6, 27])
    try:
        uid, gid = sandbox.slot.uid, sandbox.slot.gid
        assert sandbox.run("id -u; id -g; id -G").stdout == f"{uid}\n{gid}\n{gid}\n"
    finally:
        os.setgroups(before)


def test_shim_has_no_more_rights_than_the_program(sandbox: Sandbox) -> None:
    status: dict[str, list[str]] = {}

    def look(started: Worker) -> None:
        status.update(fields(Path(f"/proc/{started.pid}/status").read_text()))

    sandbox.run("read x", answers=["\n"], on_wait=look)
    uid = str(sandbox.slot.uid)
    assert status["Uid"] == status["Gid"] == [uid] * 4 and status["Groups"] == []
    assert {status[f"Cap{name}"][0] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert status["NoNewPrivs"] == ["1"]


def test_init_has_no_descriptor_that_a_program_could_use(sandbox: Sandbox) -> None:
    """Init has the uid of its programs. It is not dumpable, and nothing else keeps them from it."""
    links: list[str] = []

    def look(started: Worker) -> None:
        (init,) = children(started.pid)
        fds = Path(f"/proc/{init}/fd")
        links.extend(os.readlink(path) for path in fds.iterdir())

    sandbox.run("read x", answers=["\n"], on_wait=look)
    kinds = sorted(os.path.basename(link).partition("[")[0] for link in links)
    # Its end of the socket to the shim, a pipe that wakes it, and its score for the OOM killer.
    assert kinds == ["null"] * 3 + ["oom_score_adj"] + ["pipe:"] * 2 + ["socket:"]


def test_program_starts_with_umask_022(sandbox: Sandbox) -> None:
    assert sandbox.run("umask").stdout == "0022\n"


def test_environment_has_the_documented_variables_and_those_of_the_run_only(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    result = sandbox.run("env", environ={"MINE": "yes", "TERM": "dumb"})
    names = dict(line.split("=", 1) for line in result.stdout.splitlines())
    assert set(names) - {"PWD", "SHLVL", "_"} == {
        "GOMAXPROCS", "GOMEMLIMIT", "JULIA_CPU_THREADS", "NODE_OPTIONS", "OMP_NUM_THREADS",
        "PYTHON_CPU_COUNT",
        "TERM", "LANG", "SHELL", "USER", "HOME", "PATH", "MINE",
        "LSAN_OPTIONS", "npm_config_fetch_retries", "PIP_RETRIES", "PYTHONUNBUFFERED",
    }  # fmt: skip
    assert names["TERM"] == "dumb"
    assert names["PATH"].startswith("/home/work/.local/bin:")
