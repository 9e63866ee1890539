"""Virtual folders: files belong to their owner under every uid, and nothing leads out of one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd.errors import Invalid, StageError
from sandboxd.jail import idmap, syscalls
from sandboxd.warden.slots import folders
from sandboxd.warden.slots.folders import FOLDER_UID
from sandboxd.wire import messages

from ..sandbox import BareWarden, Sandbox, lease, restarted

Lease = Callable[..., Sandbox]


def make(warden: BareWarden, size: int = 16 << 20) -> str:
    """A new folder; its UUID."""
    folder = str(uuid.uuid4())
    warden.make_folder(folder, size, 1024)
    return folder


def attachment(folder: str, name: str = "data", read_only: bool = False) -> dict[str, Any]:
    return {"folder": folder, "name": name, "read_only": read_only}


@pytest.fixture
def folder(warden: BareWarden) -> Iterator[str]:
    name = make(warden)
    yield name
    warden.remove_folder(name)


@pytest.fixture
def session(warden: BareWarden, folder: str) -> Iterator[Lease]:
    """Leases slots, which are released before the folder is removed."""
    leased: list[Sandbox] = []

    def with_folders(*attachments: dict[str, Any]) -> Sandbox:
        leased.append(lease(warden, attachments=list(attachments) or [attachment(folder)]))
        return leased[-1]

    yield with_folders
    for sandbox in leased:
        warden.free(sandbox.slot)


def stored(warden: BareWarden, folder: str, name: str) -> os.stat_result:
    """The status of a file as it is on disk."""
    store = warden.resources.folders
    call = store.begin_call(folder)
    folders.mount(warden.resources.config.state_dir, folder)
    try:
        return os.lstat(f"{store._mount(folder)}/work/{name}")
    finally:
        messages.close_all(store.end_call(folder, call))


def test_files_of_a_folder_outlive_the_session(warden: BareWarden, folder: str) -> None:
    first = lease(warden, attachments=[attachment(folder)])
    assert first.run("echo text > data/f; mkdir data/d").exit == 0
    warden.free(first.slot)
    second = lease(warden, attachments=[attachment(folder)])
    assert second.run("cat data/f; stat -c '%U %a' data data/f data/d").stdout.split() == [
        "text", "work", "755", "work", "644", "work", "755",
    ]  # fmt: skip
    warden.free(second.slot)


def test_two_sessions_use_a_folder_at_once_under_different_uids(
    warden: BareWarden, folder: str, session: Lease
) -> None:
    one, two = session(), session()
    assert one.slot.uid != two.slot.uid
    assert one.run("echo one > data/f; chmod 600 data/f").exit == 0
    assert two.run("cat data/f; echo two >> data/f; stat -c %u data/f").stdout.split() == [
        "one", str(two.slot.uid),
    ]  # fmt: skip
    assert one.run("cat data/f; stat -c %u data/f").stdout.split() == [
        "one", "two", str(one.slot.uid),
    ]  # fmt: skip
    file = stored(warden, folder, "f")
    assert (file.st_uid, file.st_gid, file.st_mode & 0o777) == (FOLDER_UID, FOLDER_UID, 0o600)


def test_folder_that_is_mounted_without_its_map_stops_the_run(
    session: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain mount would show another owner."""

    def plain(fd: int, attributes: int, userns: int) -> None:
        syscalls.mount_setattr(fd, attributes, recursive=False)

    monkeypatch.setattr(idmap, "apply", plain)
    result = session().run("echo x > data/f")
    assert (result.last["event"], result.last["stage"]) == ("fault", "mounts")
    assert "idmapped" in result.last["message"]


def test_session_with_folders_is_refused_where_the_kernel_cannot_map_owners(
    warden: BareWarden, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = syscalls.mount_setattr

    def old(fd: int, attributes: int, recursive: bool = True, userns: int = 0) -> None:
        if attributes & syscalls.MOUNT_ATTR_IDMAP:
            raise OSError(22, "Invalid argument")
        real(fd, attributes, recursive)

    monkeypatch.setattr(syscalls, "mount_setattr", old)
    before = dict(warden.resources.slots.leased)
    with pytest.raises(StageError, match="folders"):
        lease(warden, attachments=[attachment(folder)])
    assert warden.resources.slots.leased == before
    assert not os.path.ismount(warden.resources.folders._mount(folder))


def test_read_only_folder_cannot_be_changed(session: Lease, folder: str) -> None:
    assert session().run("echo text > data/f").exit == 0
    result = session(attachment(folder, "ro", read_only=True)).run(
        "cat ro/f; echo x > ro/new; echo x > ro/f; rm ro/f; chmod 777 ro ro/f; mv ro/f ro/g; "
        "mount -o remount,rw /home/work/ro; touch ro/f; cat ro/f"
    )
    assert result.stdout == "text\ntext\n"
    assert result.stderr.count("Read-only file system") >= 5


def test_folder_is_full_at_its_quota_and_the_scratch_is_not(session: Lease) -> None:
    result = session().run(
        "head -c 40M /dev/zero > data/big; stat -c %s data/big; echo ok > own; cat own; rm data/big"
    )
    size, own = result.stdout.split()
    assert 4 << 20 < int(size) <= 16 << 20
    assert own == "ok"
    assert "No space left" in result.stderr


def test_link_in_a_folder_leads_to_nothing_of_the_host(session: Lease) -> None:
    assert session().run("ln -s /etc/shadow data/l; ln -s ../../../.. data/up").exit == 0
    result = session().run("cat data/l; ls data/up")
    assert "No such file" in result.stderr and "root:" not in result.stdout
    assert "etc" in result.stdout.split()  # of the jail


def test_hard_link_between_a_folder_and_the_scratch_is_refused(session: Lease) -> None:
    result = session().run("echo x > own; ln own data/own; ln data/../own data/own2; ls data")
    assert result.stdout == "" and result.stderr.count("cross-device") == 2


def test_session_sees_its_own_folders_only(warden: BareWarden, session: Lease) -> None:
    other = make(warden)
    guest = lease(warden, attachments=[attachment(other, "secret")])
    guest.run("echo hidden > secret/marker")
    result = session().run("find / -name marker 2>/dev/null; ls; cat /proc/self/mountinfo")
    warden.free(guest.slot)
    warden.remove_folder(other)
    assert result.stdout.startswith("data\n")
    assert "secret" not in result.stdout and "folders" not in result.stdout


def test_place_of_a_folder_cannot_be_taken_away_or_moved(session: Lease) -> None:
    sandbox = session()
    result = sandbox.run("rmdir data; mv data gone; rm -rf data; ln -sfn /etc data; ls -d data")
    assert result.stdout == "data\n"
    assert result.stderr.count("busy") >= 3
    assert sandbox.run("echo still > data/f; cat data/f").stdout == "still\n"


@pytest.mark.parametrize("target", ["/etc", "sibling"])
def test_place_of_a_folder_that_is_a_link_stops_the_run(session: Lease, target: str) -> None:
    """A program cannot do this. If it could, the mount must not follow the link."""
    sandbox = session()
    place = Path(f"{sandbox.slot.scratch}/work/data")
    place.rmdir()
    place.with_name("sibling").mkdir()
    place.symlink_to(target)
    result = sandbox.run("echo ran")
    assert (result.last["event"], result.last["stage"]) == ("fault", "mounts /home/work/data")
    assert result.stdout == ""


def test_set_user_id_program_in_a_folder_runs_without_the_rights_of_its_owner(
    session: Lease,
) -> None:
    result = session().run(
        "cp /usr/bin/id data/id; chmod 6755 data/id; data/id -u; grep -c 'data.*nosuid.*nodev' "
        "/proc/self/mountinfo"
    )
    assert result.stdout.split()[1:] == ["1"] and result.exit == 0


def test_program_is_in_the_hosts_user_namespace_and_in_no_other(session: Lease) -> None:
    sandbox = session()
    result = sandbox.run("readlink /proc/self/ns/user; ls /proc | grep -c '^[0-9]'")
    assert result.stdout.split()[0] == os.readlink("/proc/self/ns/user")


@pytest.mark.parametrize(
    "attachments",
    [
        None,
        {},
        ["data"],
        [{}],
        [attachment("no-uuid")],
        [attachment(str(uuid.UUID(int=1)), "../up")],
        [attachment(str(uuid.UUID(int=1)), "a/b")],
        [attachment(str(uuid.UUID(int=1)), "..")],
        [attachment(str(uuid.UUID(int=1)), ".hidden")],
        [attachment(str(uuid.UUID(int=1)), "")],
        [attachment(str(uuid.UUID(int=1)), "n" * 65)],
        [attachment(str(uuid.UUID(int=1)), "new\nline")],
        [attachment(str(uuid.UUID(int=1))) | {"read_only": "yes"}],
        [attachment(str(uuid.UUID(int=1))), attachment(str(uuid.UUID(int=2)))],
        [attachment(str(uuid.UUID(int=1)), "a"), attachment(str(uuid.UUID(int=1)), "b")],
        [attachment(str(uuid.UUID(int=n)), f"f{n}") for n in range(6)],
    ],
)
def test_malformed_attachments_are_refused_by_the_warden(
    warden: BareWarden, attachments: Any
) -> None:
    before = dict(warden.resources.slots.leased)
    with pytest.raises(Invalid):
        warden.lease(session=str(uuid.uuid4()), size=64 << 20, inodes=4096, attachments=attachments)
    assert warden.resources.slots.leased == before


def test_session_with_a_folder_that_does_not_exist_is_refused(warden: BareWarden) -> None:
    before = dict(warden.resources.slots.leased)
    with pytest.raises(StageError, match="is not there"):
        lease(warden, attachments=[attachment(str(uuid.uuid4()))])
    assert warden.resources.slots.leased == before


def test_folder_in_use_is_not_removed(warden: BareWarden, folder: str, session: Lease) -> None:
    sandbox = session()
    with pytest.raises(Invalid, match="in use"):
        warden.remove_folder(folder)
    assert sandbox.run("echo ok > data/f").exit == 0


def test_folder_is_mounted_no_longer_than_a_session_has_it(warden: BareWarden, folder: str) -> None:
    path = warden.resources.folders._mount(folder)
    one, two = (lease(warden, attachments=[attachment(folder)]) for _ in range(2))
    assert os.path.ismount(path)
    warden.free(one.slot)
    assert os.path.ismount(path)
    warden.free(two.slot)
    assert not os.path.ismount(path)


def test_adopted_session_has_its_folders_again(warden: BareWarden, folder: str) -> None:
    sandbox = lease(warden, attachments=[attachment(folder)])
    sandbox.run("echo text > data/f")
    sandbox.slot, _ = again, _ = restarted(sandbox.slot, warden, attachments=[attachment(folder)])
    assert sandbox.run("cat data/f").stdout == "text\n"
    warden.free(again)


def test_removal_of_a_folder_leaves_nothing(warden: BareWarden) -> None:
    removed = make(warden)
    warden.remove_folder(removed)
    assert not os.path.exists(f"{warden.resources.folders._dir}/{removed}")
    warden.remove_folder(removed)  # again, without an error
    with pytest.raises(StageError):
        folders.mount(warden.resources.config.state_dir, removed)


def test_folder_that_cannot_be_created_leaves_nothing(warden: BareWarden) -> None:
    before = os.listdir(warden.resources.folders._dir)
    with pytest.raises(StageError):
        warden.make_folder(str(uuid.uuid4()), 16 << 20, 1 << 30)
    assert os.listdir(warden.resources.folders._dir) == before
