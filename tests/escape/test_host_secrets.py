"""A search for secrets of the host from inside a jail, with planted ones and with the host's own.

The planted secrets are in a layer over the host's /etc that only this process and its jails see.
tests/jail/test_shown_files.py has the rules one by one.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.jail import outward_links, package_files, shown_files, syscalls
from sandboxd.jail.public_files import PublicFiles
from sandboxd.jail.secret_names import is_secret
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


def _unchanged() -> list[Path]:
    """Files of packages that a jail of this host shows."""
    return [
        Path(path)
        for path, known in sorted(package_files.checksums().items())
        if path.startswith("/etc/") and not is_secret(path) and "/profile" not in path
        and os.path.isfile(path) and os.stat(path).st_mode & stat.S_IROTH
        and hashlib.md5(Path(path).read_bytes()).hexdigest() in known
    ]  # fmt: skip


def _plant() -> None:
    """Secrets of many kinds in /etc, in the ways in which administrators have them."""
    etc = Path("/etc")
    changed, linked, hard, appended = _unchanged()[:4]
    changed.write_text(f"password = {SECRET}\n")
    with appended.open("a") as file:
        file.write(f"\npassword = {SECRET}\n")
    private = etc / "ssl/private"
    private.mkdir(mode=0o700, parents=True, exist_ok=True)
    (private / "outside").write_text(SECRET)
    for path in (linked, hard):
        path.unlink()
    linked.symlink_to(private / "outside")
    os.link(private / "outside", hard)
    for name, mode in (
        ("hunter2.conf", 0o644), ("hunter2.group", 0o640), ("hunter2.old", 0o600),
        ("environment", 0o644), ("machine-id", 0o444), ("profile.d/hunter.sh", 0o644),
        ("php/hunter.ini", 0o644), ("perl/hunter.pl", 0o644), ("R/hunter.site", 0o644),
        ("alternatives/closed", 0o600), ("alternatives/written", 0o666),
        ("ssl/certs/server.key", 0o644), ("fonts/conf.d/api-token.conf", 0o644),
        ("shadow-", 0o644), ("sandboxd/config.toml", 0o644),
    ):  # fmt: skip
        (etc / name).parent.mkdir(parents=True, exist_ok=True)
        (etc / name).unlink(missing_ok=True)
        (etc / name).write_text(f"# {SECRET}\n")
        (etc / name).chmod(mode)
    (etc / "shadow").write_text(f"root:{SECRET}:1:0:99999:7:::\n")
    (etc / "shadow").chmod(0o644)  # a mistake of the administrator
    for place in ("ssh", "ssl/private", "letsencrypt", "sudoers.d", "tool"):
        (etc / place).mkdir(parents=True, exist_ok=True)
        (etc / place / "key").write_text(SECRET)
    (etc / "tool" / "link").symlink_to("/etc/hunter2.conf")
    (etc / "alternatives" / "to-a-secret").symlink_to("/etc/hunter2.conf")
    os.link(private / "outside", etc / "alternatives" / "second-name")
    (etc / "ssl/certs" / "shown.pem").write_text(f"# {SHOWN}\n")


Search = Callable[[], list[str]]


@pytest.fixture
def search(
    layered_etc: None, warden: BareWarden, sandbox: Sandbox, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Search:  # fmt: skip
    """A function that makes the copy anew, and returns the lines that a search in a jail finds."""

    def lines() -> list[str]:
        host_files = HostFiles(replace(warden.resources.config, state_dir=str(tmp_path)))
        monkeypatch.setattr(warden.resources, "host_files", host_files)
        try:
            result = sandbox.run(SEARCH, wall_s=120)
        finally:
            host_files.remove()
        return [line for line in result.stdout.splitlines() if "/home/work" not in line]

    return lines


def test_search_of_the_whole_jail_finds_no_planted_secret(search: Search) -> None:
    _plant()
    assert search() == [f"/etc/ssl/certs/shown.pem:# {SHOWN}"], "this file shows that it searches"


def test_search_finds_planted_secrets_in_a_copy_that_is_made_without_the_rules(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    _plant()
    monkeypatch.setattr(shown_files, "is_secret", lambda path: False)
    monkeypatch.setattr(PublicFiles, "_obstacle", lambda *_: None)
    monkeypatch.setattr(package_files, "checksums", lambda root: {})
    places = {line.partition(":")[0] for line in search()}
    assert {
        "/etc/ssl/certs/server.key", "/etc/profile.d/hunter.sh", "/etc/php/hunter.ini",
        "/etc/alternatives/second-name",
    } <= places  # fmt: skip


def test_file_that_an_administrator_changes_later_shows_no_new_text(
    search: Search, sandbox: Sandbox
) -> None:
    path = _unchanged()[0]
    before = path.read_text()
    assert sandbox.run(f"cat {path}").stdout == before
    path.write_text(SECRET)
    assert sandbox.run(f"cat {path}").stdout == before, "of the copy"
    assert search() == [], "the next copy lacks the file"


def test_every_file_of_the_host_in_a_jail_is_public_or_named(
    warden: BareWarden, sandbox: Sandbox
) -> None:
    selected = selection(warden.resources.config)
    patterns = [f"/etc/{name}" for name in (*selected.names, *selected.own)]
    patterns += [path for path in selected.paths if not path.startswith("/etc/")]
    named = [path for pattern in patterns for path in map(str, Path("/").glob(pattern.lstrip("/")))]
    links = outward_links.links_out(warden.resources.config.rootfs.paths)
    behind_links = {os.path.realpath(path) for path in links}
    shipped, installed = package_files.checksums(), package_files.installed()
    lines = sandbox.run(FILES).stdout.splitlines()
    seen = {path: checksum for checksum, path in (line.split("  ", 1) for line in lines)}
    assert len(seen) > len(shown_files.GENERATED)
    for path, checksum in seen.items():
        if path in shown_files.GENERATED or path.startswith("/home/work/"):
            continue
        status = os.stat(path)
        is_data = path.startswith("/var/lib/") and status.st_uid == 0
        assert (
            checksum in shipped.get(path, ())
            or checksum in installed.get(path, ())
            or any(fnmatch.fnmatch(path, pattern) for pattern in selected.paths)
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
