"""A daemon in a chroot whose directory is no mount point, as debootstrap and `chroot` give one."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd.config import toml_file
from sandboxd.errors import StageError
from sandboxd.jail import chroot, syscalls
from sandboxd.warden.doctor import guarantees
from sandboxd.warden.doctor.trial import attempt
from sandboxd.warden.runs.cgroups import Hierarchy

SECONDS = 20.0
UID = 719999
MS_SHARED = 1 << 20
SYSTEM = ("bin", "dev", "etc", "lib", "lib64", "proc", "sbin", "sys", "usr")


def plant(directory: Path) -> None:
    """The host's system directories below `directory`, whose own mount is the host's, and shared
    with others, as systemd has it."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    (directory / "run").mkdir()
    for name in SYSTEM:
        if os.path.islink(f"/{name}"):
            (directory / name).symlink_to(os.readlink(f"/{name}"))
        elif os.path.isdir(f"/{name}"):
            (directory / name).mkdir()
            target = str(directory / name)
            syscalls.mount(f"/{name}", target, None, syscalls.MS_BIND | syscalls.MS_REC)
    syscalls.mount(None, "/", None, syscalls.MS_REC | MS_SHARED)


def inside(directory: Path, act: Callable[[], object]) -> Any:
    """The result of `act` in a plain chroot, passed on as JSON."""

    def change_and_act() -> str:
        plant(directory)
        os.chroot(directory)
        os.chdir("/")
        assert "/" not in [line.split()[4] for line in mountinfo()]
        return json.dumps(act())

    return json.loads(attempt(change_and_act, SECONDS))


def mountinfo() -> list[str]:
    with open("/proc/self/mountinfo") as file:
        return file.read().splitlines()


@pytest.fixture
def hierarchy() -> Iterator[Hierarchy]:
    groups = Hierarchy.find(f"sandboxd-test-chroot-{os.getpid()}")
    yield groups
    groups.remove()


@pytest.mark.slow
def test_all_is_guaranteed_and_the_mounts_outside_stay_as_they_are(
    tmp_path: Path, hierarchy: Hierarchy
) -> None:
    config = toml_file.load(None, state_dir="/state", slots={"first_uid": 720900, "count": 8})

    def act() -> dict[str, object]:
        before = mountinfo()
        results = guarantees.find(config, UID, hierarchy)
        missing = {
            one.name: guarantees.describe(one)
            for one in results
            if not one.held and one.group != "host"  # their files are not in the chroot
        }
        return {"missing": missing, "same": before == mountinfo()}

    answer = inside(tmp_path, act)
    # Optional on this host itself, too: see test_guarantees.py.
    assert answer["missing"].keys() <= {"peaks"}, answer["missing"]
    assert answer["same"]


def test_nothing_outside_can_be_reached_any_more(tmp_path: Path) -> None:
    def act() -> list[object]:
        chroot.own_mounts()
        namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
        # The way out of a chroot, for root.
        syscalls.setns(namespace, syscalls.CLONE_NEWNS)
        return [os.path.exists(tmp_path), sorted(os.listdir("/"))]

    exists, names = inside(tmp_path, act)
    assert not exists
    assert set(names) <= {*SYSTEM, "run"}


def test_user_namespaces_can_be_made_and_only_then(tmp_path: Path) -> None:
    def act() -> list[str]:
        return [attempt(user_namespace, SECONDS), attempt(after_own_mounts, SECONDS)]

    def user_namespace() -> str:
        try:
            syscalls.unshare(syscalls.CLONE_NEWUSER)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return "made"

    def after_own_mounts() -> str:
        chroot.own_mounts()
        return user_namespace()

    assert inside(tmp_path, act) == ["EPERM", "made"]


def test_own_mounts_keep_the_working_directory(tmp_path: Path) -> None:
    def act() -> str:
        os.chdir("/usr/bin")
        chroot.own_mounts()
        return os.getcwd()

    assert inside(tmp_path, act) == "/usr/bin"


def test_working_directory_that_was_removed_is_no_obstacle(tmp_path: Path) -> None:
    def act() -> str:
        os.mkdir("/gone")
        os.chdir("/gone")
        os.rmdir("/gone")
        chroot.own_mounts()
        return os.getcwd()

    assert inside(tmp_path, act) == "/"


def test_without_the_capability_the_chroot_is_named_and_not_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def act() -> list[object]:
        try:
            chroot.own_mounts()
        except StageError as error:
            return [error.message, error.remedy]
        return []

    monkeypatch.setattr(syscalls, "setns", refused)
    message, remedy = inside(tmp_path, act)
    assert message == "/ is no mount point, as in a plain chroot"
    assert "CAP_SYS_CHROOT" in remedy and "mount --bind DIR DIR" in remedy


def test_initial_ram_file_system_outside_stays_and_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    def act() -> list[str]:
        chroot.own_mounts()
        return [line.split()[4] for line in mountinfo()]

    monkeypatch.setattr(syscalls, "pivot_root", refused)
    points = inside(tmp_path, act)
    assert points[0] == "/" and "/usr" in points


def test_root_of_a_host_stays_what_it_is(tmp_path: Path) -> None:
    def act() -> str:
        os.chdir(tmp_path)
        before = places()
        chroot.own_mounts()
        return json.dumps([before == places(), os.getcwd()])

    def places() -> list[list[str]]:
        """Root, mount point and options of each mount."""
        return sorted(line.split()[3:6] for line in mountinfo())

    assert json.loads(attempt(act, SECONDS)) == [True, str(tmp_path)]
