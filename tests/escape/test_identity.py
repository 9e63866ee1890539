"""What a program could do with privileges, and that it has none; each also without the layer."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sandboxd.jail import identity, rlimits, syscalls
from sandboxd.warden.requests import Worker

from ..sandbox import Sandbox

STATUS = "grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs):' /proc/self/status"


def fields(text: str) -> dict[str, list[str]]:
    return {line.split(":")[0]: line.split()[1:] for line in text.splitlines()}


def test_program_is_the_slots_uid_without_groups_or_capabilities(sandbox: Sandbox) -> None:
    found = fields(sandbox.run(STATUS).stdout)
    uid = str(sandbox.slot.uid)
    assert found["Uid"] == [uid] * 4
    assert found["Gid"] == [uid] * 4
    assert found["Groups"] in ([], [uid])
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(found[name][0], 16) == 0, name
    assert found["NoNewPrivs"] == ["1"]


def test_clean_and_build_are_confined_like_exec(sandbox: Sandbox) -> None:
    result = sandbox.run(STATUS, clean=STATUS, build=STATUS)
    third = len(result.stdout) // 3
    assert result.stdout == result.stdout[:third] * 3


def test_set_uid_file_gives_nothing(sandbox: Sandbox) -> None:
    result = sandbox.run("cp /usr/bin/id . && chmod 4755 id && ./id -u; su -c id </dev/null")
    assert result.stdout.split()[0] == str(sandbox.slot.uid)
    assert "uid=0" not in result.stdout


def test_kept_identity_stops_the_run(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking the layer away is noticed: the run ends at stage identity, and nothing ran."""
    monkeypatch.setattr(identity, "apply", lambda uid, gid: None)
    result = sandbox.run("echo ran")
    assert result.last["event"] == "fault"
    assert result.last["stage"] == "identity"
    assert result.stdout == ""


def test_without_identity_the_program_would_be_root(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "apply", lambda uid, gid: None)
    monkeypatch.setattr(identity, "verify", lambda uid, gid: None)
    assert sandbox.run("id -u").stdout == "0\n"


@pytest.mark.parametrize("left", ["groups", "bounding", "no_new_privs", "securebits"])
def test_each_part_of_the_identity_is_read_back(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    real = syscalls.prctl
    options = {
        "bounding": syscalls.PR_CAPBSET_DROP,
        "no_new_privs": syscalls.PR_SET_NO_NEW_PRIVS,
        "securebits": syscalls.PR_SET_SECUREBITS,
    }

    def prctl(option: int, arg2: int = 0, arg3: int = 0) -> int:
        return 0 if option == options.get(left) else real(option, arg2, arg3)

    if left == "groups":
        monkeypatch.setattr("os.setgroups", lambda groups: None)
        monkeypatch.setattr("os.getgroups", lambda: [0])
    monkeypatch.setattr(syscalls, "prctl", prctl)
    result = sandbox.run("echo ran")
    assert (result.last["event"], result.last["stage"]) == ("fault", "identity")


def test_groups_of_the_daemon_are_not_the_programs(sandbox: Sandbox) -> None:
    before = os.getgroups()
    os.setgroups([6, 27])
    try:
        assert sandbox.run("id -G").stdout == f"{sandbox.slot.gid}\n"
    finally:
        os.setgroups(before)


def test_hard_limits_cannot_be_raised(sandbox: Sandbox) -> None:
    result = sandbox.run("ulimit -Hn; ulimit -n 100000; ulimit -Hc; ulimit -c 10; ulimit -Hf")
    hard = result.stdout.split()
    assert int(hard[0]) <= 4096
    assert hard[1] == "0"
    assert hard[2] != "unlimited"
    assert result.stderr.count("cannot modify limit") == 2


def test_rlimit_that_was_not_set_stops_the_run(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rlimits, "apply", lambda wanted: None)
    result = sandbox.run("echo ran")
    assert (result.last["event"], result.last["stage"]) == ("fault", "rlimits")


def test_program_starts_with_three_descriptors_and_default_signals(sandbox: Sandbox) -> None:
    script = "import os,signal\nprint(sorted(int(f) for f in os.listdir('/proc/self/fd'))[:-1])\n"
    script += "print([s for s in range(1, 32) if signal.getsignal(s) == signal.SIG_IGN])\n"
    script += "print(os.getcwd(), os.getsid(0) == os.getppid(), oct(os.umask(0)))"
    result = sandbox.run(f'/usr/bin/python3 -c "{script}"; true')
    # Python itself ignores SIGPIPE and SIGXFSZ.
    assert result.stdout.splitlines() == ["[0, 1, 2]", "[13, 25]", "/home/work True 0o22"]


def test_shim_has_no_more_rights_than_the_program(sandbox: Sandbox) -> None:
    found: dict[str, list[str]] = {}

    def look(started: Worker) -> None:
        time.sleep(0.5)
        found.update(fields(Path(f"/proc/{started.pid}/status").read_text()))

    sandbox.run("sleep 1", while_running=look)
    uid = str(sandbox.slot.uid)
    assert found["Uid"] == found["Gid"] == [uid] * 4 and found["Groups"] == []
    assert {found[f"Cap{name}"][0] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert found["NoNewPrivs"] == ["1"]


def test_init_keeps_nothing_that_a_program_could_take_from_it(sandbox: Sandbox) -> None:
    """It has their uid: only that it is not dumpable is between them and its descriptors."""
    found: list[str] = []

    def look(started: Worker) -> None:
        time.sleep(0.5)
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text()
        fds = Path(f"/proc/{children.split()[0]}/fd")
        found.extend(os.readlink(path) for path in fds.iterdir())

    sandbox.run("sleep 1", while_running=look)
    kinds = sorted(os.path.basename(link).partition("[")[0] for link in found)
    # Its end of the socket to the shim, a pipe of its own to be woken by, and its score.
    assert kinds == ["null"] * 3 + ["oom_score_adj"] + ["pipe:"] * 2 + ["socket:"]


def test_environment_has_nothing_of_the_daemons(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    result = sandbox.run("env", environ={"MINE": "yes", "TERM": "dumb"})
    names = dict(line.split("=", 1) for line in result.stdout.splitlines())
    assert set(names) - {"PWD", "SHLVL", "_"} == {
        "TERM", "LANG", "SHELL", "USER", "HOME", "PATH", "MINE",
    }  # fmt: skip
    assert names["TERM"] == "dumb"
    assert names["PATH"].startswith("/home/work/.local/bin:")
