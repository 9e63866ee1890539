"""Workspaces: files belong to their user on the host, and nothing leads out of the directory."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandboxd.errors import StageError, Unavailable
from sandboxd.jail import idmap, syscalls
from sandboxd.warden.slots import images

from ..sandbox import BareWarden, Sandbox, lease, restarted
from ..workspaces import OTHER, USER, directory, granted, leased, own

FILES = 5000


@pytest.fixture
def session(warden: BareWarden, root: Path) -> Iterator[Callable[..., Sandbox]]:
    """Leases slots whose sessions have a workspace below `root`."""
    slots: list[Sandbox] = []

    def with_workspace(path: Path, place: str = "") -> Sandbox:
        slots.append(leased(warden, path, place=place))
        return slots[-1]

    yield with_workspace
    for sandbox in slots:
        sandbox.end_warm()
        warden.free(sandbox.slot)


Session = Callable[..., Sandbox]


def ids(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def test_written_files_belong_to_the_user_and_the_group_outside(
    session: Session, checkout: Path
) -> None:
    (checkout / "source").write_text("text\n")
    own(checkout / "source", mode=0o640)
    result = session(checkout).run(
        "cat source; stat -c '%U %G %a' . source; mkdir d; echo x > d/f; ln -s f d/l; ln d/f d/h; "
        "mv source d/moved; mkfifo d/p; touch -d @1000000000.5 d/f; chmod 600 d/f"
    )
    assert (result.exit, result.stderr) == (0, "")
    assert result.stdout.split() == ["text", "work", "work", "755", "work", "work", "640"]
    for name in ("d", "d/f", "d/l", "d/h", "d/moved", "d/p"):
        assert ids(checkout / name) == (USER.ids.uid, USER.ids.gid), name
    status = (checkout / "d/f").stat()
    assert (status.st_mode & 0o7777, status.st_nlink) == (0o600, 2)
    assert status.st_mtime_ns == 1_000_000_000_500_000_000


@pytest.mark.needs("git")
def test_large_tree_with_git_links_and_times_is_seen_and_built_as_it_is(
    session: Session, checkout: Path
) -> None:
    for number in range(FILES):
        path = checkout / f"{number % 50}" / f"{number}"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, ns=(0, number * 1_000_000_001))
    (checkout / "link").symlink_to("0/0")
    subprocess.run(["chown", "-hR", f"{USER.ids.uid}:{USER.ids.gid}", checkout], check=True)
    sandbox = session(checkout)
    result = sandbox.run(
        "git init -q . && git add -A && git -c user.name=a -c user.email=b commit -qm all && "
        "git status --short | wc -l; find . -path ./.git -prune -o -type f -print | wc -l; "
        "readlink link; stat -c %.9Y 49/4999",
        wall_s=120,
    )
    assert (result.exit, result.stdout.split()) == (
        0, ["0", str(FILES), "0/0", "4999.000004999"],
    ), result.stderr  # fmt: skip
    owners = {ids(Path(top, name)) for top, _, names in os.walk(checkout) for name in names}
    assert owners == {(USER.ids.uid, USER.ids.gid)}


def test_workspace_below_the_workdir_leaves_the_rest_to_the_scratch(
    warden: BareWarden, session: Session, checkout: Path
) -> None:
    sandbox = session(checkout, place="src")
    assert sandbox.run("pwd; echo x > out; echo y > src/in; ls").stdout.split() == [
        "/home/work", "out", "src",
    ]  # fmt: skip
    assert [path.name for path in checkout.iterdir()] == ["in"]


def test_virtual_folder_is_seen_in_a_directory_of_the_workspace_and_hides_nothing_outside(
    warden: BareWarden, checkout: Path
) -> None:
    folder = str(uuid.uuid4())
    warden.make_folder(folder, 16 << 20, 1024)
    attachments = [{"folder": folder, "name": "cache", "read_only": False}]
    try:
        with pytest.raises(Unavailable, match="no directory cache"):
            lease(warden, attachments=attachments, **granted(warden, checkout))
        (checkout / "cache").symlink_to("/")
        with pytest.raises(Unavailable, match="no directory cache"):
            lease(warden, attachments=attachments, **granted(warden, checkout))
        (checkout / "cache").unlink()
        directory(checkout, "cache")
        sandbox = lease(warden, attachments=attachments, **granted(warden, checkout))
        assert sandbox.run("echo x > cache/f; echo y > g; ls . cache").stdout.split() == [
            ".:", "cache", "g", "cache:", "f",
        ]  # fmt: skip
        sandbox.end_warm()
        warden.free(sandbox.slot)
        assert list((checkout / "cache").iterdir()) == []
    finally:
        warden.remove_folder(folder)


def test_files_of_others_in_the_tree_keep_their_rights(session: Session, checkout: Path) -> None:
    for name, mode in (("open", 0o644), ("closed", 0o600), ("group", 0o660)):
        (checkout / name).write_text(f"{name}\n")
        own(checkout / name, OTHER, mode)
    result = session(checkout).run(
        "cat open; for f in open closed group; do stat -c '%U %G' $f; cat $f > /dev/null; "
        "echo x >> $f; chmod 777 $f; chown work $f; done"
    )
    assert result.stdout.split() == ["open", *["nobody", "nogroup"] * 3]
    assert {path.read_text() for path in checkout.iterdir()} == {"open\n", "closed\n", "group\n"}
    modes = {path.name: path.stat().st_mode & 0o777 for path in checkout.iterdir()}
    assert modes == {"open": 0o644, "closed": 0o600, "group": 0o660}


def test_deletion_of_the_session_keeps_every_file(warden: BareWarden, checkout: Path) -> None:
    sandbox = leased(warden, checkout)
    assert sandbox.run("mkdir d; echo text > d/f; chmod 0 d").exit == 0
    sandbox.end_warm()
    warden.free(sandbox.slot)
    assert (checkout / "d/f").read_text() == "text\n"
    assert not os.path.exists(sandbox.slot.path)


def test_session_keeps_its_workspace_over_a_restart(warden: BareWarden, checkout: Path) -> None:
    sandbox = leased(warden, checkout)
    assert sandbox.run("echo one > f").exit == 0
    sandbox.end_warm()
    grant = sandbox.slot.workspace
    assert grant
    warden.resources.workspaces.take_back(sandbox.slot)
    fields = {name: getattr(grant, name) for name in ("path", "place", "uid", "gid", "seal")}
    slot, _ = restarted(sandbox.slot, warden, workspace=fields)
    after = Sandbox(warden, slot, runs=1)
    assert after.run("cat f; echo two >> f").stdout == "one\n"
    after.end_warm()
    checkout.rename(checkout.with_name("moved"))
    with pytest.raises(Unavailable, match=r"cannot be used: .* does not exist"):
        after.run("cat f")
    directory(checkout.parent, user=OTHER)
    with pytest.raises(Unavailable, match="does not belong to the user"):
        after.run("cat f")
    warden.free(slot)
    assert (checkout.with_name("moved") / "f").read_text() == "one\ntwo\n"


# -- inside


def test_mount_below_the_workspace_is_not_shown(session: Session, checkout: Path) -> None:
    mount = directory(checkout, "inner")
    syscalls.mount("none", str(mount), "tmpfs", 0, "mode=777")
    try:
        (mount / "secret").touch()
        assert session(checkout).run("ls -A inner; grep -c inner /proc/self/mounts").stdout == "0\n"
    finally:
        syscalls.umount2(str(mount), 0)


def test_process_in_a_directory_that_is_moved_away_does_not_get_out(
    session: Session, root: Path, checkout: Path
) -> None:
    inner = directory(checkout, "inner")
    (root / "secret").write_text("secret")
    os.mkfifo(own_fifo := checkout / "go")
    own(own_fifo)

    def move(_: object) -> None:
        with open(own_fifo, "w"):  # the program is in the directory now
            inner.rename(root / "inner")

    result = session(checkout).run(
        "cd inner && cat ../go; cat ../secret; ls ..; cd -P .. && cat secret; pwd -P",
        while_running=move,
    )
    assert "secret" not in result.stdout and "checkout" not in result.stdout


def test_set_user_id_program_and_device_of_the_workspace_have_no_effect(
    session: Session, checkout: Path
) -> None:
    subprocess.run(["cp", "/usr/bin/id", checkout / "id"], check=True)
    (checkout / "id").chmod(0o6755)
    os.mknod(checkout / "null", 0o20666, os.makedev(1, 3))
    sandbox = session(checkout)
    result = sandbox.run("./id -u; ./id -g; echo x > null; mknod n c 1 3")
    uid = str(sandbox.slot.uid)
    assert result.stdout.split() == [uid, uid]
    assert "null: Permission denied" in result.stderr and not (checkout / "n").exists()


def test_workspace_without_its_map_stops_the_run(
    session: Session, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = session(checkout)

    def plain(fd: int, attributes: int, userns: int, name: str = "") -> None:
        syscalls.mount_setattr(fd, attributes, recursive=False)

    monkeypatch.setattr(idmap, "apply", plain)
    result = sandbox.run("echo x > f")
    assert (result.last["event"], result.last["stage"]) == ("fault", "mounts")
    assert "idmapped" in result.last["message"]


def test_session_is_refused_where_the_kernel_cannot_map_owners(
    warden: BareWarden, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def old(fd: int, attributes: int, recursive: bool = True, userns: int = 0) -> None:
        raise OSError(22, "Invalid argument")

    grant = granted(warden, checkout)
    monkeypatch.setattr(syscalls, "mount_setattr", old)
    before = dict(warden.resources.slots.leased)
    with pytest.raises(StageError, match="workspace"):
        warden.lease(size=64 << 20, inodes=4096, attachments=[], **grant)
    assert warden.resources.slots.leased == before


def test_full_disk_of_the_host_is_the_advice_of_the_step(
    warden: BareWarden, root: Path, tmp_path: Path
) -> None:
    image = str(tmp_path / "image")
    images.make(image, 16 << 20, 64)
    images.mount(image, str(root))
    try:
        sandbox = leased(warden, directory(root))
        result = sandbox.run("head -c 32m /dev/zero > f")
        assert result.verdict["limit"] == "disk"
        assert "the disk of the host that the workspace is on is full" in result.verdict["advice"]
        sandbox.end_warm()
        warden.free(sandbox.slot)
    finally:
        images.unmount(str(root))
