"""Grants of workspaces: only to the user of a directory, and only for directories within reach."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from sandboxd.errors import Invalid, Unavailable
from sandboxd.jail import syscalls
from sandboxd.warden.slots import workspaces

from ..sandbox import BareWarden
from ..workspaces import OTHER, USER, directory, granted, leased, paths_of

MS_RDONLY, MS_REMOUNT = 0x1, 0x20


def test_grant_of_another_session_or_with_other_values_is_refused(
    warden: BareWarden, root: Path, checkout: Path
) -> None:
    directory(root, "other", OTHER)
    good = granted(warden, checkout)
    changes = (
        {"session": granted(warden, checkout)["session"]},
        {"workspace": good["workspace"] | {"path": str(root / "other")}},
        {"workspace": good["workspace"] | {"uid": OTHER.ids.uid}},
        {"workspace": good["workspace"] | {"gid": OTHER.ids.gid}},
        {"workspace": good["workspace"] | {"place": "src"}},
        {"workspace": good["workspace"] | {"seal": ""}},
    )
    before = dict(warden.resources.slots.leased)
    for change in changes:
        with pytest.raises(Unavailable, match="not granted"):
            warden.lease(size=64 << 20, inodes=4096, attachments=[], **(good | change))
    assert warden.resources.slots.leased == before


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("{root}", "below none"),
        ("{root}/..", "below none|on another file system"),
        ("{root}/../etc", "on another file system"),
        ("{root}/missing", "does not exist"),
        ("{root}/file", "is no directory"),
        ("{root}/link", "symbolic link"),
        ("{root}/linked/inner", "symbolic link"),
        ("{root}x/checkout", "below none"),
        ("/proc/self/fd/0", "below none"),
        ("/etc", "below none"),
        ("{root}/of-other", "does not belong"),
        ("{root}/closed/mine", "cannot be reached"),
        ("{root}/mounted", "another file system"),
        ("{root}/mounted/inner", "another file system"),
    ],
)
def test_directory_that_is_no_workspace_of_the_caller_is_refused(
    warden: BareWarden, root: Path, path: str, reason: str
) -> None:
    (root / "file").touch()
    directory(root, "real")
    directory(root / "real", "inner")
    for link in ("link", "linked"):
        (root / link).symlink_to("real")
    directory(root, "of-other", OTHER)
    (root / "closed").mkdir(mode=0o700)
    directory(root / "closed", "mine")
    mount = directory(root, "mounted")
    syscalls.mount("none", str(mount), "tmpfs", 0, f"uid={USER.ids.uid},gid={USER.ids.gid}")
    try:
        directory(mount, "inner")
        with pytest.raises(Invalid, match=reason):
            granted(warden, path.format(root=root))
    finally:
        syscalls.umount2(str(mount), 0)


def test_directory_of_a_user_behind_a_closed_one_is_granted_without_the_check_of_reach(
    warden: BareWarden, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warden itself, as root, reaches every directory."""
    (root / "closed").mkdir(mode=0o700)
    mine = directory(root / "closed", "mine")
    with pytest.raises(Invalid, match="cannot be reached"):
        granted(warden, mine)
    monkeypatch.setattr(workspaces, "acting_as", lambda user: contextlib.nullcontext())
    granted(warden, mine)


def test_path_that_the_daemon_cannot_see_or_change_is_refused_with_the_remedy(
    warden: BareWarden, root: Path, checkout: Path
) -> None:
    """As below /home and /srv, where the service has no drop-in."""
    missing = root / "missing"
    with paths_of(warden, missing), pytest.raises(Invalid, match=r"not exist.*scripts/install"):
        granted(warden, missing / "checkout")
    syscalls.mount(str(root), str(root), "", syscalls.MS_BIND)
    try:
        read_only = MS_REMOUNT | syscalls.MS_BIND | MS_RDONLY
        syscalls.mount("none", str(root), "", read_only)
        with pytest.raises(Invalid, match=r"is read-only for the daemon.*scripts/install"):
            granted(warden, checkout)
    finally:
        syscalls.umount2(str(root), 0)


@pytest.mark.parametrize("kind", ["overlay", "proc"])
def test_file_system_whose_owners_cannot_be_mapped_is_refused_by_its_name(
    warden: BareWarden, root: Path, kind: str
) -> None:
    mount = root / "mount"
    mount.mkdir()
    options = None
    if kind == "overlay":
        for name in ("lower", "upper", "work"):
            (root / name).mkdir()
        options = f"lowerdir={root}/lower,upperdir={root}/upper,workdir={root}/work"
        directory(root / "lower", "mine")
    syscalls.mount("none", str(mount), kind, 0, options)
    try:
        with paths_of(warden, mount), pytest.raises(Invalid, match=f"file system {kind}"):
            granted(warden, mount / ("mine" if kind == "overlay" else "sys"))
    finally:
        syscalls.umount2(str(mount), 0)


@pytest.mark.parametrize("links", [True, False], ids=["as it is", "with links followed"])
def test_directory_that_is_swapped_for_a_link_while_it_is_opened_is_not_left(
    warden: BareWarden, root: Path, checkout: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race is made certain: the swap comes after the grant and before the run opens it."""
    secret = directory(root.parent, f"secret-{os.getpid()}")
    try:
        (secret / "f").write_text("secret")
        sandbox = leased(warden, checkout)
        checkout.rename(root / "away")
        checkout.symlink_to(secret)
        if not links:
            flags = os.O_PATH | os.O_DIRECTORY
            monkeypatch.setattr(workspaces, "open_below", lambda _, path: os.open(path, flags))
            assert sandbox.run("cat f").stdout == "secret"
        else:
            with pytest.raises(Unavailable, match="symbolic link"):
                sandbox.run("cat f")
        sandbox.end_warm()
        warden.free(sandbox.slot)
    finally:
        checkout.unlink()
        subprocess.run(["rm", "-r", secret], check=True)
