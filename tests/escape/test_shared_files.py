"""The files that all sessions see: no watch and no lock on them crosses from one to another."""

from __future__ import annotations

import errno
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.config.settings import RootfsConfig
from sandboxd.jail import syscalls
from sandboxd.warden.host_files import HostFiles

from ..sandbox import BareWarden, Sandbox, lease
from .removals import without_overlays

MIB = 1 << 20

WATCH = """
import ctypes, fcntl, os, signal, struct
libc = ctypes.CDLL(None)
fd = libc.inotify_init1(os.O_NONBLOCK)
places = [b"/usr/bin", b"/usr/bin/env", b"/etc/ld.so.cache", b"/usr/lib", b"/etc"]
for place in places:
    assert libc.inotify_add_watch(fd, place, 0xfff) >= 0
signals = []
signal.signal(signal.SIGIO, lambda *_: signals.append(1))
directory = os.open("/usr/bin", os.O_RDONLY)
fcntl.fcntl(directory, fcntl.F_NOTIFY, fcntl.DN_ACCESS | fcntl.DN_MULTISHOT)
def events():
    try:
        return len(os.read(fd, 65536))
    except BlockingIOError:
        return 0
events()
input()
print("foreign", events() > 0, bool(signals))
signal.signal(signal.SIGIO, signal.SIG_IGN)  # the end of Python would make the next one deadly
open("/usr/bin/env", "rb").read(1)
print("own system file", events() > 0)
libc.inotify_add_watch(fd, b"/home/work", 0x100)  # IN_CREATE
os.close(os.open(f"/home/work/{os.urandom(8).hex()}", os.O_CREAT))
print("own file", events() > 0)
"""

LOCK = """
import fcntl, os
for path in ("/usr/bin/env", "/usr/bin", "/etc/ld.so.cache", "/etc/hosts"):
    fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.lockf(os.open(path, os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB)
{wait}
print("locked")
"""


@pytest.fixture
def other(warden: BareWarden) -> Iterator[Sandbox]:
    """A second session."""
    sandbox = lease(warden)
    yield sandbox
    warden.free(sandbox.slot)


def python(program: str) -> str:
    return f"exec /usr/bin/python3 -I -c {shlex.quote(program)}"


def watched(sandbox: Sandbox, other: Sandbox) -> list[str]:
    """The lines of WATCH in one session, while another starts programs."""
    use = "env true; ls /usr/bin /usr/lib /etc; cat /usr/bin/env /etc/ld.so.cache"

    def look(_: object) -> None:
        assert other.run(f"({use}) > /dev/null").exit == 0

    result = sandbox.run(python(WATCH), answers=["\n"], on_wait=look)
    assert result.exit == 0, result.stderr
    return result.stdout.splitlines()


def test_programs_that_one_session_starts_are_not_seen_by_another_that_watches(
    sandbox: Sandbox, other: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program can still watch its own files, and see its own use of the system's."""
    own = ["own system file True", "own file True"]
    assert watched(sandbox, other) == ["foreign False False", *own]
    without_overlays(monkeypatch)
    assert watched(sandbox, other) == ["foreign True True", *own]


def locked_by_both(sandbox: Sandbox, other: Sandbox) -> list[str]:
    """The output of LOCK in one session, and in another while the first holds its locks."""
    outputs = []

    def look(_: object) -> None:
        outputs.append(other.run(python(LOCK.format(wait=""))).stdout)

    result = sandbox.run(python(LOCK.format(wait="input()")), answers=["\n"], on_wait=look)
    return [result.stdout, *outputs]


def test_lock_on_a_shared_file_does_not_keep_another_session_from_it(
    sandbox: Sandbox, other: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert locked_by_both(sandbox, other) == ["locked\n", "locked\n"]
    without_overlays(monkeypatch)
    assert locked_by_both(sandbox, other) == ["locked\n", ""]


def flushed(sandbox: Sandbox, call: str, directory: Path) -> int:
    """The bytes that are written to the host's disk during `call` on a system file: at least those
    of a new file of the host that are in memory only, if it writes them. Others write, too."""
    device = os.stat("/usr/bin/env").st_dev
    counters = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    written: list[int] = []

    def look(_: object) -> None:
        if not written:
            (directory / "dirty").write_bytes(bytes(16 * MIB))
        written.append(int(counters.read_text().split()[6]) * 512)

    program = (
        "import ctypes, os; fd = os.open('/usr/bin/env', os.O_RDONLY); input()\n"
        f"libc = ctypes.CDLL(None); assert libc.{call}(fd) == 0; input()\n"
    )
    result = sandbox.run(python(program), answers=["\n"] * 2, on_wait=look)
    (directory / "dirty").unlink()
    assert result.exit == 0, result.stderr
    return written[1] - written[0]


def test_syncfs_and_fsync_of_a_system_file_write_nothing_of_the_host(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Path(sandbox.warden.resources.config.state_dir)
    if os.stat("/usr/bin/env").st_dev != directory.stat().st_dev:
        pytest.skip("the state directory is on another file system than /usr")
    for call in ("syncfs", "fsync", "fdatasync"):  # a call that writes them does so each time
        assert any(flushed(sandbox, call, directory) < 16 * MIB for _ in range(20)), call
    without_overlays(monkeypatch)
    assert flushed(sandbox, "syncfs", directory) >= 16 * MIB


def test_run_does_not_start_where_the_kernel_has_no_overlays(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = syscalls.mount

    def mount(source: str, target: str, fstype: str, flags: int, data: str | None = None) -> None:
        if fstype == "overlay":
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        real(source, target, fstype, flags, data)

    monkeypatch.setattr(syscalls, "mount", mount)
    result = sandbox.run("echo ran")
    assert (result.last["event"], result.stdout) == ("fault", "")
    assert (result.last["stage"], result.last["errno"]) == ("mounts overlay of files", errno.ENODEV)


@pytest.fixture
def mounted() -> Iterator[Path]:
    """A directory with a file of its own and one of another file system mounted below it."""
    with tempfile.TemporaryDirectory(dir="/var") as directory:  # the jail's /tmp is another
        above, below = Path(directory), Path(directory, "below")
        above.chmod(0o755)
        below.mkdir()
        (above / "above.txt").write_text("above")
        (above / "one.txt").touch()
        syscalls.mount("none", str(below), "tmpfs", 0, "size=1m,mode=755")
        try:
            (below / "file.txt").write_text("below")
            syscalls.mount(f"{below}/file.txt", f"{above}/one.txt", None, syscalls.MS_BIND)
            yield above
        finally:
            syscalls.umount2(f"{above}/one.txt", syscalls.MNT_DETACH)
            syscalls.umount2(str(below), syscalls.MNT_DETACH)


def test_file_systems_mounted_below_a_visible_directory_are_visible_and_apart(
    warden: BareWarden, sandbox: Sandbox, mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources, path = warden.resources, str(mounted)
    config = replace(resources.config, rootfs=RootfsConfig(paths=(*RootfsConfig().paths, path)))
    monkeypatch.setattr(resources, "config", config)
    host_files = HostFiles(config)
    monkeypatch.setattr(resources, "host_files", host_files)
    try:
        result = sandbox.run(
            f"cat {path}/above.txt {path}/below/file.txt {path}/one.txt; "
            f"flock -n {path}/below/file.txt echo; flock -n {path}/above.txt echo; "
            "cat /proc/self/mountinfo"
        )
    finally:
        host_files.remove()
    assert result.stdout.startswith("abovebelowbelow"), result.stderr
    types = {
        line.split()[4]: (line.partition(" - ")[2].split()[0], line.split()[5].split(",")[0])
        for line in result.stdout.splitlines()
        if f" {path}" in line
    }
    assert types == {
        path: ("overlay", "ro"),
        f"{path}/below": ("overlay", "ro"),
        f"{path}/one.txt": ("tmpfs", "ro"),
    }


def test_mounts_tell_no_path_of_the_host_that_is_not_visible(sandbox: Sandbox) -> None:
    text = sandbox.run("cat /proc/self/mountinfo /proc/self/mounts").stdout
    assert sandbox.warden.resources.config.state_dir not in text
    lowers = set(re.findall(r"lowerdir=([^, ]*)", text))
    assert {"/:empty", "files:empty"} <= lowers
    visible = sandbox.warden.resources.config.rootfs.paths
    for lower in lowers - {"files:empty"}:
        place = lower.removesuffix(":empty").rstrip("/")
        assert any(f"{p}/".startswith(f"{place}/") or f"{place}/".startswith(f"{p}/")
                   for p in visible)  # fmt: skip


def test_way_up_from_a_system_directory_is_the_root_of_the_run(sandbox: Sandbox) -> None:
    seen = sandbox.run("cd /usr && ls .. && cd -P /etc/.. && ls; ls /usr/../..").stdout.split()
    assert "home" in seen and not {"boot", "srv", "mnt", "media"} & set(seen)


def test_boot_id_is_one_of_the_run_and_not_of_the_host(sandbox: Sandbox, other: Sandbox) -> None:
    path = "/proc/sys/kernel/random/boot_id"
    ids = {one.run(f"cat {path}").stdout for one in (sandbox, other)} | {Path(path).read_text()}
    assert len(ids) == 3
    assert all(re.fullmatch(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\n", id) for id in ids)
