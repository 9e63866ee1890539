"""A search for secrets of the host from inside a jail, with planted ones and with the host's own.

The planted secrets are in a layer over the host's /etc that only this process and its jails see.
tests/jail/test_shown_files.py has the rules one by one.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.jail import outward_links, package_files, shown_files, syscalls
from sandboxd.warden.host_files import HostFiles, selection

from ..needs import elsewhere
from ..sandbox import BareWarden, Sandbox

SECRET = "hunter2-of-the-host"
SHOWN = "hunter2-on-purpose"
SEARCH = (
    "grep -rsa --exclude-dir=proc --exclude-dir=usr hunter2-o[fn] / ;"
    "find / -xdev -name 'hunter2*' ; cat /var/lib/dpkg/status /etc/shadow ; true"
)
FILES = "find /etc /var /run /root /opt /srv /home /mnt /media -type f -exec md5sum {} +"


@pytest.fixture
def layered_etc(own_mounts: None, tmp_path: Path) -> Iterator[None]:
    """A layer over /etc that takes all changes."""
    layer = tmp_path / "layer"
    layer.mkdir()
    syscalls.mount("none", str(layer), "tmpfs", 0, "mode=755")
    try:
        for name in ("upper", "work"):
            (layer / name).mkdir()
        options = f"lowerdir=/etc,upperdir={layer}/upper,workdir={layer}/work"
        try:
            syscalls.mount("none", "/etc", "overlay", 0, options)
        except OSError as error:
            elsewhere(f"this host has no overlay file system: {error}")
        try:
            yield
        finally:
            syscalls.umount2("/etc", syscalls.MNT_DETACH)
    finally:
        syscalls.umount2(str(layer), syscalls.MNT_DETACH)


def _plant() -> None:
    """Secrets of many kinds in /etc."""
    etc = Path("/etc")
    conffile = next(
        Path(path)
        for path in sorted(package_files.checksums())
        if path.startswith("/etc/") and os.path.isfile(path) and "/profile" not in path
    )
    conffile.write_text(f"password = {SECRET}\n")
    for name, mode in (("hunter2.conf", 0o644), ("hunter2.key", 0o640), ("hunter2.old", 0o600)):
        (etc / name).write_text(SECRET)
        (etc / name).chmod(mode)
    (etc / "environment").write_text(f"TOKEN={SECRET}\n")
    (etc / "shadow").write_text(f"root:{SECRET}:1:0:99999:7:::\n")
    (etc / "shadow").chmod(0o644)  # a mistake of the administrator
    for place in ("ssh", "ssl/private", "letsencrypt", "sudoers.d", "tool"):
        (etc / place).mkdir(parents=True, exist_ok=True)
        (etc / place / "key").write_text(SECRET)
    (etc / "tool" / "link").symlink_to("/etc/hunter2.conf")
    (etc / "profile.d" / "hunter.sh").symlink_to("/etc/hunter2.conf")
    os.link(etc / "hunter2.conf", etc / "tool" / "hard-link")
    (etc / "profile.d" / "shown.sh").write_text(f"# {SHOWN}\n")


def test_search_of_the_whole_jail_finds_no_planted_secret(
    layered_etc: None,
    warden: BareWarden,
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _plant()
    host_files = HostFiles(replace(warden.resources.config, state_dir=str(tmp_path)))
    monkeypatch.setattr(warden.resources, "host_files", host_files)
    try:
        result = sandbox.run(SEARCH)
    finally:
        host_files.remove()
    lines = [line for line in result.stdout.splitlines() if "/home/work" not in line]
    assert lines == [f"/etc/profile.d/shown.sh:# {SHOWN}"], "the named file shows that it searches"


def test_every_file_of_the_host_in_a_jail_is_public_or_named(
    warden: BareWarden, sandbox: Sandbox
) -> None:
    selected = selection(warden.resources.config)
    named = [
        path
        for pattern in (*(f"/etc/{name}" for name in selected.names), *selected.paths)
        for path in map(str, Path("/").glob(pattern.lstrip("/")))
    ]
    links = outward_links.links_out(warden.resources.config.rootfs.paths)
    behind_links = {os.path.realpath(path) for path in links}
    known = package_files.checksums()
    lines = sandbox.run(FILES).stdout.splitlines()
    seen = {path: checksum for checksum, path in (line.split("  ", 1) for line in lines)}
    assert len(seen) > len(shown_files.GENERATED)
    for path, checksum in seen.items():
        if path in shown_files.GENERATED or path.startswith("/home/work/"):
            continue
        status = os.stat(path)
        is_data = path.startswith("/var/lib/") and status.st_uid == 0
        assert (
            checksum in known.get(path, ())
            or outward_links.is_below(path, named)
            or (is_data and outward_links.is_below(path, behind_links))
        ), path
        assert status.st_mode & stat.S_IROTH, path


def test_no_file_that_only_root_may_read_is_in_a_jail(sandbox: Sandbox) -> None:
    closed = subprocess.run(
        ["find", "/etc", "/var/lib", "-xdev", "-type", "f", "!", "-perm", "-o=r"],
        capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    closed = [path for path in closed if path.startswith("/etc/")]
    assert "/etc/shadow" in closed
    names = "\n".join(closed)
    search = 'while read -r file; do [ -e "$file" ] && echo "$file"; done'
    result = sandbox.run(f"{search} <<'END'\n{names}\nEND\ntrue")
    assert result.stdout == ""


def test_copy_of_the_hosts_files_cannot_be_written(sandbox: Sandbox) -> None:
    result = sandbox.run(
        "for f in /etc/passwd /etc/hosts /etc/new /etc/ssl/new /var/lib/new; do echo x >> $f; done;"
        "rm -rf /etc/ssl; mv /etc/hosts /etc/hosts2; chmod 666 /etc/hosts; ls /etc/hosts"
    )
    assert result.stdout == "/etc/hosts\n"
    assert result.stderr.count("Read-only file system") + result.stderr.count("denied") >= 7
