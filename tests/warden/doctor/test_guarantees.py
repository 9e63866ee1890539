"""The guarantees: each is tried for real, and is missing when its mechanism does not work."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sandboxd.config import toml_file
from sandboxd.config.settings import Config, RequireConfig
from sandboxd.errors import ConfigError, StageError
from sandboxd.host import memory, mountinfo, tcp_sockets
from sandboxd.jail import identity, network, rlimits, seccomp, syscalls
from sandboxd.jail.cgroup import Group
from sandboxd.jail.overlays import Overlay
from sandboxd.model import Guarantee
from sandboxd.warden.doctor import guarantees
from sandboxd.warden.doctor.guarantees import TABLE
from sandboxd.warden.doctor.probes import limits, machine
from sandboxd.warden.doctor.trial import Trial, attempt
from sandboxd.warden.runs import lock_count
from sandboxd.warden.runs.cgroups import Hierarchy
from sandboxd.warden.slots import images

from ...waiting import until

UID = 719999
MS_SHARED = 1 << 20


@pytest.fixture
def loaded(tmp_path: Path) -> Config:
    return toml_file.load(None, state_dir=str(tmp_path), slots={"first_uid": 720900, "count": 8})


@pytest.fixture(scope="module")
def hierarchy() -> Iterator[Hierarchy]:
    hierarchy = Hierarchy.find(f"sandboxd-test-guarantees-{os.getpid()}")
    yield hierarchy
    assert [group.dirs for group in hierarchy.groups()] == []
    hierarchy.remove()


Find = Callable[..., dict[str, Guarantee]]


@pytest.fixture
def find(loaded: Config, hierarchy: Hierarchy, monkeypatch: pytest.MonkeyPatch) -> Find:
    """Tries the guarantees of these names; all without a name."""

    def find(
        *names: str, config: Config = loaded, where: Hierarchy | str = hierarchy
    ) -> dict[str, Guarantee]:
        table = tuple(entry for entry in TABLE if entry.name in names or not names)
        with monkeypatch.context() as smaller:
            smaller.setattr(guarantees, "TABLE", table)
            return {one.name: one for one in guarantees.find(config, UID, where)}

    return find


def missing(rows: dict[str, Guarantee]) -> set[str]:
    return {name for name, one in rows.items() if not one.held}


def mounts_beside(find: Find) -> tuple[dict[str, Guarantee], list[str]]:
    """The guarantees, and the mounts that finding them has left, in a namespace of this thread:
    those of other processes do not come into it. Its own children's do, as on most hosts."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    for propagation in (syscalls.MS_PRIVATE, MS_SHARED):
        syscalls.mount(None, "/", None, syscalls.MS_REC | propagation)
    before = list(mountinfo.read("thread-self"))
    rows = find()
    return rows, [one.point for one in mountinfo.read("thread-self") if one not in before]


def test_this_host_holds_all_guarantees_and_the_trials_leave_nothing(
    find: Find, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(1) as thread:
        rows, new_mounts = thread.submit(mounts_beside, find).result()
    # Older kernels do not count processes, and forbid copies of packets for the whole host alone.
    # And these tests are no service.
    assert missing(rows) <= {"peaks", "packet-copies", "delegation"}, [
        guarantees.describe(rows[n]) for n in missing(rows)
    ]
    assert new_mounts == []
    assert os.listdir(tmp_path) == []


def deny(monkeypatch: pytest.MonkeyPatch, flag: int) -> None:
    """A kernel without the namespace `flag`."""
    real = syscalls.unshare

    def unshare(flags: int) -> None:
        if flags & flag:
            raise OSError(22, "Invalid argument")
        real(flags)

    monkeypatch.setattr(syscalls, "unshare", unshare)


NAMESPACES = {
    "ipc-namespace": syscalls.CLONE_NEWIPC, "uts-namespace": syscalls.CLONE_NEWUTS,
    "cgroup-namespace": syscalls.CLONE_NEWCGROUP, "network-namespace": syscalls.CLONE_NEWNET,
    "pid-namespace": syscalls.CLONE_NEWPID, "mount-namespace": syscalls.CLONE_NEWNS,
    "idmapped-mounts": syscalls.CLONE_NEWUSER,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMESPACES)
def test_guarantee_is_missing_when_the_kernel_has_no_such_namespace(
    find: Find, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    deny(monkeypatch, NAMESPACES[name])
    rows = find(name, "whole-run")
    assert name in missing(rows)
    assert "Invalid argument" in rows[name].detail
    if name != "idmapped-mounts":
        assert "whole-run" in missing(rows)


@pytest.mark.parametrize(
    ("release", "blamed"), [("5.4.0-150-generic", True), ("6.12.5-amd64", False)]
)
def test_kernel_is_blamed_only_if_it_is_older_than_what_is_missing(
    find: Find,
    monkeypatch: pytest.MonkeyPatch,
    release: str,
    blamed: bool,
) -> None:
    names = [*os.uname()]
    names[2] = release
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(names))
    monkeypatch.setattr(syscalls, "mount_setattr", refuse(38))
    sealed = find("sealed-mounts")["sealed-mounts"]
    assert not sealed.held
    assert ("Linux 5.12" in sealed.remedy and release in sealed.remedy) == blamed
    assert "Function not implemented" in sealed.detail


def refuse(error: int) -> Callable[..., Any]:
    def refused(*_: Any, **__: Any) -> Any:
        raise OSError(error, os.strerror(error))

    return refused


def nothing(*_: Any, **__: Any) -> None:
    """A call that returns without an error and does nothing."""


def bind(overlay: Overlay, root: str) -> None:
    """A bind mount in the place of an overlay."""
    os.chdir(overlay.directory)
    syscalls.mount(overlay.lower, overlay.target, None, syscalls.MS_BIND)


def hang() -> str:
    time.sleep(60)
    return "never"


# module, function, its replacement, the guarantee that is then missing among others
BROKEN: list[tuple[object, str, Callable[..., Any], str]] = [
    (syscalls, "mount_setattr", nothing, "sealed-mounts"),
    (syscalls, "mount_setattr", refuse(38), "sealed-mounts"),
    (syscalls, "move_mount", refuse(38), "sealed-mounts"),
    (Overlay, "apply", refuse(19), "own-inodes"),
    (Overlay, "apply", bind, "own-inodes"),
    (syscalls, "openat2", lambda fd, path, flags, resolve: os.open("/dev/null", 0), "openat2"),
    (syscalls, "openat2", refuse(38), "openat2"),
    (os, "mknod", refuse(1), "devices"),
    (os, "setresuid", nothing, "privileges"),
    (os, "posix_fallocate", nothing, "scratch"),
    (images, "make", refuse(2), "scratch"),
    (images, "mount", refuse(6), "idmapped-mounts"),
    (network, "apply", nothing, "loopback"),
    (network, "forbid_copies", nothing, "packet-copies"),
    (lock_count, "file_locks", lambda pid: iter(()), "file-locks"),
    (tcp_sockets, "tcp_sockets", lambda: iter(()), "connections"),
    (tcp_sockets, "tcp_sockets", refuse(2), "connections"),
    (rlimits, "apply", nothing, "rlimits"),
    (seccomp, "apply", nothing, "seccomp"),
    (identity, "apply", nothing, "protected-hardlinks"),
    (Group, "limit", nothing, "cgroup-pids"),
    (Group, "join", nothing, "cgroup-memory"),
    (Group, "join", nothing, "cgroup-cpu"),
    (Group, "kill", nothing, "cgroup-kill"),
    (limits, "_touch", lambda: "", "peaks"),
    (limits, "_touch", hang, "cgroup-memory"),
]


@pytest.mark.parametrize(
    ("where", "name", "how", "lost"), BROKEN, ids=[f"{b[3]} {b[1]}" for b in BROKEN]
)
def test_guarantee_is_missing_when_its_mechanism_does_nothing(
    find: Find,
    monkeypatch: pytest.MonkeyPatch,
    where: object,
    name: str,
    how: Callable[..., Any],
    lost: str,
) -> None:
    monkeypatch.setattr(limits, "SECONDS", 0.3)
    with monkeypatch.context() as broken:
        broken.setattr(where, name, how)
        rows = find(lost)
    assert lost in missing(rows), rows[lost]
    assert rows[lost].detail and rows[lost].remedy


def test_guarantee_no_new_privs_is_missing_when_the_bit_stays_off(
    find: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = syscalls.prctl

    def prctl(option: int, arg2: int = 0, arg3: int = 0) -> int:
        return 0 if option == syscalls.PR_SET_NO_NEW_PRIVS else real(option, arg2, arg3)

    monkeypatch.setattr(syscalls, "prctl", prctl)
    names = {"no-new-privs", "privileges"}
    assert missing(find(*names)) == names


@pytest.mark.parametrize(("of_host", "holds"), [("0\n", True), ("1\n", False)])
def test_copies_of_packets_are_the_hosts_to_forbid_where_a_namespace_has_no_setting(
    find: Find, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, of_host: str, holds: bool
) -> None:
    setting = tmp_path / "tstamp_allow_data"
    real = syscalls.unshare

    def unshare(flags: int) -> None:
        real(flags)
        setting.unlink()

    setting.write_text(of_host)
    monkeypatch.setattr(network, "COPIES", str(setting))
    monkeypatch.setattr(syscalls, "unshare", unshare)
    row = find("packet-copies")["packet-copies"]
    assert row.held is holds
    assert ("whole host" in row.detail) and ("sysctl" in row.remedy) is not holds


def test_guarantees_of_cgroups_say_why_a_host_has_none(find: Find) -> None:
    lost = {"cgroup-memory", "cgroup-pids", "cgroup-cpu", "no-swap", "cgroup-kill", "whole-run"}
    rows = find(*lost, where="no controller memory")
    assert missing(rows) == lost
    assert "no controller memory" in rows["cgroup-pids"].detail


def test_guarantee_of_memory_is_missing_in_a_container_whose_limit_leaves_none(
    find: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text("1073741824\n")
    (tmp_path / "memory.current").write_text("1073741824\n")
    (tmp_path / "memory.stat").write_text("inactive_file 0\n")
    monkeypatch.setattr(memory, "ROOT", str(tmp_path))
    row = find("memory")["memory"]
    assert not row.held and "0.0 GiB available" in row.detail


def test_guarantees_of_uids_disk_and_memory_are_missing_on_a_host_without_room(
    loaded: Config, find: Find
) -> None:
    slots, exec = replace(loaded.slots, first_uid=65000, count=1000), loaded.limits.exec
    large = replace(
        loaded,
        slots=slots,
        scratch=replace(loaded.scratch, size=1 << 60),
        limits=replace(loaded.limits, exec=replace(exec, memory=1 << 60)),
    )
    lost = {"uids", "disk", "memory"}
    assert missing(find(*lost, config=large)) == lost


def test_clock_before_the_time_of_installation_is_no_guarantee(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with pytest.raises(StageError, match="it is not 1970"):
        machine.clock(None)  # type: ignore[arg-type]  # it looks at no host


def test_unknown_name_in_required_guarantees_is_refused(loaded: Config) -> None:
    names = [entry.name for entry in TABLE]
    assert len(set(names)) == len(names)
    assert set(RequireConfig().guarantees) <= set(names)
    guarantees.check_names(loaded)
    with pytest.raises(ConfigError, match=r"no 'sandbox'; known: mount-namespace"):
        guarantees.check_names(replace(loaded, require=RequireConfig(("sandbox",))))


def test_only_a_required_guarantee_stops_the_daemon_when_it_is_missing() -> None:
    one = Guarantee("g", "n", "it is so", False, True, "it is not", "do this")
    with pytest.raises(ConfigError, match=r"n \(it is so\): it is not; do this; see 'sandboxd"):
        guarantees.stop_if_missing((one,))
    guarantees.stop_if_missing((replace(one, required=False), replace(one, held=True)))


def test_trial_that_hangs_is_ended_and_its_earlier_outcomes_count() -> None:
    trial = Trial({"first": lambda: "fine", "second": hang, "third": lambda: ""})
    pid = trial._pid
    until(trial.is_over)  # the first outcome has come
    outcomes = trial.outcomes(time.monotonic() + 0.3)
    assert [outcomes[name].done for name in ("first", "second", "third")] == [True, False, False]
    assert outcomes["first"].text == "fine"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_bug_in_a_probe_is_a_failure_and_no_guarantee() -> None:
    with pytest.raises(StageError, match="ZeroDivisionError"):
        attempt(lambda: str(1 // 0), 5)
    with pytest.raises(StageError, match="did not end"):
        attempt(partial(os._exit, 0), 5)


def test_trial_directory_of_a_killed_doctor_is_removed_by_the_next(
    find: Find, tmp_path: Path
) -> None:
    killed = tmp_path / "sandboxd-probe-killed"
    killed.mkdir()
    (killed / "scratch.ext4").touch()
    fresh = tmp_path / "sandboxd-probe-fresh"
    fresh.mkdir()
    foreign = tmp_path / "sandboxd-probe-of-somebody"
    foreign.mkdir()
    os.chown(foreign, UID, UID)
    link = tmp_path / "sandboxd-probe-link"
    link.symlink_to("/etc")
    for path in (killed, foreign):
        os.utime(path, (0, 0))
    os.utime(link, (0, 0), follow_symlinks=False)
    find()
    assert sorted(os.listdir(tmp_path)) == sorted(p.name for p in (foreign, fresh, link))
