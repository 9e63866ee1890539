"""Workspaces on each file system that they may be on, made for the test on a loop device."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.errors import Invalid, StageError
from sandboxd.jail import syscalls
from sandboxd.warden.slots import workspaces
from sandboxd.warden.slots.workspaces import FILE_SYSTEMS

from ..needs import elsewhere, missing, somewhere
from ..sandbox import BareWarden, Sandbox
from ..workspaces import USER, directory, granted, leased, paths_of
from .test_set_id import CALLS, program, set_id_files

SIZE = 512 << 20
MAKE = {"ext4": ("mkfs.ext4", "-qF"), "xfs": ("mkfs.xfs", "-q"), "btrfs": ("mkfs.btrfs", "-q")}
MODES = (0o4755, 0o2755, 0o6777)


def has(kind: str) -> bool:
    """The kernel has the file system, or can load it."""
    if somewhere("modprobe"):
        subprocess.run(["modprobe", "-q", kind], check=False)
    return f"\t{kind}\n" in Path("/proc/filesystems").read_text()


def is_new_enough(kind: str) -> bool:
    """The kernel maps the owners of this file system."""
    major, minor = platform.release().split(".")[:2]
    return (int(major), int(minor.partition("-")[0])) >= FILE_SYSTEMS[kind]


@pytest.fixture(scope="module", params=FILE_SYSTEMS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def top(warden: BareWarden, kind: str) -> Iterator[Path]:
    """A path of [workspaces]: the root of a file system of this kind."""
    if not has(kind):
        elsewhere(f"the kernel of this host has no {kind}")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        os.chmod(name, 0o755)
        path = Path(name, "mount")
        path.mkdir()
        if kind == "tmpfs":
            syscalls.mount("none", str(path), kind, 0, f"size={SIZE},mode=755")
        else:
            tool, *options = MAKE[kind]
            if not somewhere(tool):
                missing(f"the host has no {tool}")
            image = Path(name, "image")
            image.touch()
            os.truncate(image, SIZE)
            subprocess.run([tool, *options, image], check=True, stderr=subprocess.DEVNULL)
            subprocess.run(["mount", "-o", "loop", "-t", kind, image, path], check=True)
        try:
            path.chmod(0o755)
            with paths_of(warden, path):
                yield path
        finally:
            syscalls.umount2(str(path), 0)


@pytest.fixture
def checkout(top: Path, request: pytest.FixtureRequest) -> Path:
    return directory(top, request.node.originalname)


@pytest.fixture
def session(warden: BareWarden, kind: str, checkout: Path) -> Iterator[Sandbox]:
    if not is_new_enough(kind):
        elsewhere(f"the kernel maps no owners of {kind}")
    sandbox = leased(warden, checkout)
    yield sandbox
    sandbox.end_warm()
    warden.free(sandbox.slot)


def owners(checkout: Path) -> set[tuple[int, int]]:
    """The owners of all files of a tree, as the host sees them."""
    return {(path.lstat().st_uid, path.lstat().st_gid) for path in (checkout, *checkout.rglob("*"))}


def test_file_system_is_the_one_of_the_name(top: Path, kind: str) -> None:
    fd = os.open(top, os.O_PATH)
    try:
        assert workspaces.fstype(fd) == kind
    finally:
        os.close(fd)


def test_files_links_times_and_large_files_of_a_job_belong_to_the_user(
    session: Sandbox, checkout: Path
) -> None:
    (checkout / "source").write_text("text\n")
    os.chown(checkout / "source", USER.ids.uid, USER.ids.gid)
    result = session.run(
        "set -e; cat source; mkdir d; echo x > d/f; ln -s f d/l; ln d/f d/h; mkfifo d/p; "
        "touch -d @1000000000.123456789 d/f; chmod 640 d/f; mv source d/moved; "
        "head -c 40m /dev/urandom > big; cp big copy; cmp big copy; rm copy; sha256sum < big; "
        "truncate -s 6g sparse; printf end >> sparse; stat -c '%U %G' d/f big sparse",
        wall_s=120,
        fsize=8 << 30,
    )
    assert (result.exit, result.stderr) == (0, "")
    text, digest, _, *names = result.stdout.split()
    assert (text, names) == ("text", ["work"] * 6)
    done = subprocess.run(["sha256sum", checkout / "big"], check=True, capture_output=True)
    assert done.stdout.split()[0].decode() == digest
    assert owners(checkout) == {(USER.ids.uid, USER.ids.gid)}
    status = (checkout / "d/f").lstat()
    assert (status.st_mode & 0o7777, status.st_nlink) == (0o640, 2)
    assert status.st_mtime_ns == 1_000_000_000_123_456_789
    assert (checkout / "d/l").readlink() == Path("f") and (checkout / "d/p").is_fifo()
    with (checkout / "sparse").open("rb") as file:
        file.seek(6 << 30)
        assert file.read() == b"end"


def test_files_of_others_keep_their_owner_and_their_rights(
    session: Sandbox, checkout: Path
) -> None:
    (checkout / "closed").write_text("root's\n")
    (checkout / "closed").chmod(0o600)
    result = session.run(
        "stat -c '%U %G' closed; cat closed; echo x >> closed; chmod 666 closed; chown work closed"
    )
    assert result.stdout == "nobody nogroup\n"
    status = (checkout / "closed").stat()
    assert (status.st_uid, status.st_mode & 0o7777, status.st_size) == (0, 0o600, 7)


def test_no_set_id_file_can_come_to_be_through_any_call(session: Sandbox, checkout: Path) -> None:
    attacks = [program(code, *MODES) for code in CALLS.values()]
    result = session.run("\nrm -f */n\n".join(attacks), wall_s=240)
    assert (result.exit, result.stderr) == (0, "")
    assert len(result.stdout.split()) == len(attacks) * len(MODES)  # each has its errno
    assert set_id_files(checkout) == []
    file_capability = "struct.pack('IIIII', 0x02000001, 1 << 7, 0, 0, 0)"
    more = [f"call({{setxattr}}, b'f', b'security.capability', {file_capability}, 20, 0)",
            "call({io_uring_setup}, 1, b'\\0' * 120)",
            "call({mkdir}, b'd', MODE)", "call({mkdirat}, AT_FDCWD, b'd', MODE)"]  # fmt: skip
    result = session.run("\n".join(program(code, 0o6755) for code in more))
    assert (len(result.stdout.split()), result.stderr) == (len(more), "")
    assert os.listdir(checkout / "6755") == ["f"]


def test_subvolume_of_btrfs_belongs_to_the_user_and_brings_no_bit(
    session: Sandbox, checkout: Path, kind: str
) -> None:
    """A program may make subvolumes, as the user may."""
    code = """
import fcntl, os, struct
CREATE, SNAPSHOT = 0x5000940e, 0x50009401  # BTRFS_IOC_SUBVOL_CREATE, BTRFS_IOC_SNAP_CREATE
def make(request, source, name):
    fcntl.ioctl(os.open(".", os.O_RDONLY), request, bytearray(struct.pack("q4088s", source, name)))
make(CREATE, 0, b"sub")
open("sub/f", "w").close()
make(SNAPSHOT, os.open("sub", os.O_RDONLY), b"snapshot")
os.chmod("snapshot/f", 0o4755)
"""
    result = session.run(f"python3 - <<'END'\n{code}\nEND")
    if kind != "btrfs":
        assert "Inappropriate ioctl" in result.stderr
        return
    assert "Operation not permitted: 'snapshot/f'" in result.stderr
    assert sorted(os.listdir(checkout)) == ["snapshot", "sub"]
    assert owners(checkout) == {(USER.ids.uid, USER.ids.gid)}
    assert set_id_files(checkout) == []


def test_workspace_is_refused_with_its_stage_where_the_kernel_is_too_old(
    warden: BareWarden, kind: str, checkout: Path
) -> None:
    if is_new_enough(kind):
        warden.free(leased(warden, checkout).slot)
        return
    with pytest.raises(StageError, match="workspace"):
        warden.lease(size=64 << 20, inodes=4096, attachments=[], **granted(warden, checkout))


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "9p", "fuse.sshfs", "overlay", "zfs"])
def test_other_file_system_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    """Their mounts need servers; test_workspace_grants.py has a real overlay."""
    monkeypatch.setattr(workspaces, "fstype", lambda _: kind)
    fd = os.open(tmp_path, os.O_PATH)
    try:
        with pytest.raises(Invalid, match=f"is on the file system {kind}; a workspace can be on"):
            workspaces.check(fd, str(tmp_path), 0)
    finally:
        os.close(fd)
