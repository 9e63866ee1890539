"""The copies of the host's files: when a new one is made, and which run shows which."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.config.etc_names import ETC, ETC_UNCHANGED
from sandboxd.config.settings import Config, RootfsConfig, RuntimeConfig
from sandboxd.errors import ConfigError
from sandboxd.jail import shown_files, syscalls
from sandboxd.jail.overlays import COPY
from sandboxd.warden import host_files
from sandboxd.warden.background import BackgroundJobs
from sandboxd.warden.host_files import HostFiles

from ..sandbox import BareWarden, Sandbox
from ..waiting import until


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A configuration whose copies are small."""
    rootfs = RootfsConfig(replace_etc=True, etc=("debian_version",), package_files=False)
    return Config(state_dir=str(tmp_path), rootfs=rootfs)


@pytest.fixture
def files(own_mounts: None, config: Config, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostFiles]:
    """The first copy. Children of earlier tests stay, such as a process for jobs; none needs it."""
    all_children = host_files._children_with_these_mounts
    earlier = all_children()
    monkeypatch.setattr(host_files, "_children_with_these_mounts", lambda: all_children() - earlier)
    first = HostFiles(config)
    yield first
    first.remove()


def renew(files: HostFiles, jobs: BackgroundJobs) -> bool:
    """Begin a job if one is due, and wait for its end; False when none was due."""
    files.renew_if_outdated(jobs)
    return bool(len(jobs)) and until(lambda: _collected(jobs))


def _collected(jobs: BackgroundJobs) -> bool:
    """The job has ended, and its result is in use."""
    for job in list(jobs._running):
        pid, status = os.waitpid(job, os.WNOHANG)
        if pid:
            return jobs.collected(pid, status)
    return False


def _is_removed(old: str, files: HostFiles, jobs: BackgroundJobs) -> bool:
    """An old copy has gone, or does so now: a child may be about to end."""
    files.renew_if_outdated(jobs)
    return not os.path.exists(old)


def _etc(files: HostFiles) -> set[str]:
    return set(os.listdir(f"{files.current().copy}/etc"))


def test_first_copy_is_there_at_once_and_cannot_be_written(files: HostFiles) -> None:
    assert "debian_version" in _etc(files)
    with pytest.raises(OSError, match="Read-only"):
        Path(f"{files.current().copy}/etc/new").touch()


def test_nothing_is_copied_again_while_the_host_stays_as_it_is(files: HostFiles) -> None:
    before = files.current()
    assert not renew(files, BackgroundJobs())
    assert files.current() is before


def test_other_names_are_in_the_next_copy_which_replaces_the_old_one(
    files: HostFiles, config: Config
) -> None:
    old, jobs = files.current().directory, BackgroundJobs()
    files.select(replace(config, rootfs=replace(config.rootfs, etc=("issue.net",))))
    assert renew(files, jobs)
    assert "issue.net" in _etc(files) and "debian_version" not in _etc(files)
    assert until(lambda: _is_removed(old, files, jobs))


def test_shim_that_is_forked_before_a_new_copy_finds_the_old_one(
    files: HostFiles, config: Config
) -> None:
    old, jobs = files.current().directory, BackgroundJobs()
    go, waiting = os.pipe()
    shim = os.fork()
    if shim == 0:
        os.close(waiting)
        os.read(go, 1)  # the end of the file: the copy has been replaced
        os._exit(0 if os.path.exists(f"{old}/{COPY}/etc/debian_version") else 1)
    os.close(go)
    files.select(config)
    assert renew(files, jobs) and files.current().directory != old
    os.close(waiting)
    assert os.waitpid(shim, 0)[1] == 0
    assert until(lambda: _is_removed(old, files, jobs))


def test_package_that_is_installed_makes_a_new_copy_before_a_later_run(
    files: HostFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = BackgroundJobs()
    monkeypatch.setattr(host_files, "stamp", lambda _: ("another status of dpkg",))
    before = files.current()
    files.look()
    assert renew(files, jobs) and files.current() is not before
    assert not renew(files, jobs)


def test_copies_are_not_made_in_a_row_while_apt_is_at_work(
    files: HostFiles, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, status = BackgroundJobs(), ["one"]
    monkeypatch.setattr(host_files, "stamp", lambda _: tuple(status))
    files.look()
    assert renew(files, jobs)
    status.append("two")
    files.look()
    assert not renew(files, jobs), "the pause is not over"
    files.select(config)
    assert renew(files, jobs), "a reload does not wait for it"


def test_copy_that_fails_leaves_the_old_one_in_use(
    files: HostFiles, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = files.current()
    monkeypatch.setattr(shown_files.Copier, "copy", broken)
    files.select(config)
    assert renew(files, BackgroundJobs())
    assert files.current() is before and "debian_version" in _etc(files)


def test_names_of_the_configuration_are_added_or_replace_the_built_in_list() -> None:
    added = RootfsConfig(etc=("gitconfig",))
    selected = host_files.selection(Config(rootfs=added))
    assert (selected.names, selected.own) == (ETC, ("gitconfig",))
    assert {f"/etc/{name}" for name in ETC_UNCHANGED} <= set(selected.paths)
    alone = host_files.selection(Config(rootfs=replace(added, replace_etc=True)))
    assert (alone.names, alone.own) == ((), ("gitconfig",))
    assert "/etc/profile" not in alone.paths


def test_runtimes_name_their_paths_unless_they_are_disabled() -> None:
    paths = host_files.selection(Config()).paths
    assert {"/etc/R", "/var/lib/ghc"} <= set(paths)
    own = {
        "zig": RuntimeConfig(paths=("/opt/zig",)),
        "r": RuntimeConfig(enabled=False),
        "haskell": RuntimeConfig(paths=("/opt/ghc",)),
    }
    changed = set(host_files.selection(Config(runtimes=own)).paths)
    assert changed == (set(paths) | {"/opt/zig", "/opt/ghc"}) - {"/etc/R", "/etc/R/Renviron"}


@pytest.mark.parametrize("path", ["etc/zig", "/", "/zig", "/tmp/zig", "/proc/1", "/etc/../root/x"])
def test_path_of_a_runtime_that_no_jail_can_show_is_refused(config: Config, path: str) -> None:
    with pytest.raises(ConfigError, match=r"runtimes\.zig\.paths"):
        host_files.selection(replace(config, runtimes={"zig": RuntimeConfig(paths=(path,))}))


def test_run_keeps_its_copy_when_a_newer_one_replaces_it(
    warden: BareWarden, sandbox: Sandbox, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = HostFiles(config)
    monkeypatch.setattr(warden.resources, "host_files", current)

    def replaced(_: object) -> None:
        current.select(replace(config, rootfs=replace(config.rootfs, etc=("issue.net",))))
        assert renew(current, warden.jobs)

    try:
        reads_late = "read -r line; cat /etc/debian_version"
        result = sandbox.run(reads_late, on_wait=replaced, answers=["go\n"])
        later = sandbox.run("ls /etc/issue.net /etc/debian_version")
    finally:
        current.remove()
    assert result.stdout.strip() == Path("/etc/debian_version").read_text().strip()
    assert later.stdout == "/etc/issue.net\n"


def test_copy_for_which_no_process_can_be_made_is_made_later_and_ends_no_warden(
    files: HostFiles, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    files.select(replace(config, rootfs=replace(config.rootfs, etc=("issue.net",))))
    jobs = BackgroundJobs()
    with monkeypatch.context() as full:
        full.setattr(os, "fork", refused)
        assert not renew(files, jobs)
    assert not renew(files, jobs), "the next try has to wait for a while"
    monkeypatch.setattr(host_files, "PAUSE_S", 0.0)
    assert renew(files, jobs)
    assert "issue.net" in _etc(files)


@pytest.fixture
def data(own_mounts: None) -> Iterator[Path]:
    """A directory of the host outside of what each jail shows."""
    syscalls.mount("none", "/mnt", "tmpfs", 0, "mode=755")
    directory = Path("/mnt/data")
    directory.mkdir(mode=0o755)
    yield directory
    syscalls.umount2("/mnt", syscalls.MNT_DETACH)


def test_path_of_a_runtime_is_bound_as_it_is_now_and_fails_no_run_when_removed(
    warden: BareWarden,
    sandbox: Sandbox,
    config: Config,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates = data / "rates"  # a job of the operator writes the file anew each day
    rates.write_text("1\n")
    own = {"shell": RuntimeConfig(paths=(str(data),))}
    files = HostFiles(replace(config, runtimes=own))
    monkeypatch.setattr(warden.resources, "host_files", files)
    try:
        rates.write_text("2\n")
        result = sandbox.run(f"cat {rates}")
        shutil.rmtree(data)
        later = sandbox.run(f"ls {rates} || echo gone")
    finally:
        files.remove()
    assert result.stdout == "2\n"
    assert later.stdout == "gone\n"
