"""Leases of uids: root's alone, for all daemons of a host, held by all that work for the slot."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandboxd.errors import ConfigError
from sandboxd.warden import runtime_directory
from sandboxd.warden.uid_lease import UidLease, lease_uid

from ..sandbox import TEST_UIDS

FIRST = TEST_UIDS + 144
USER = 65534
"""A user of the host without rights."""

LOCK = """
import fcntl, os, sys
try:
    for uid in range(int(sys.argv[1]), int(sys.argv[1]) + 3):
        fd = os.open(f"{sys.argv[2]}/{uid}", os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("locked", flush=True)
except OSError as error:
    print(error.strerror, flush=True)
sys.stdin.read()
"""


@contextmanager
def process_of(user: int, program: str) -> Iterator[str]:
    """A process of `user` that runs `program`, for three uids from FIRST on; its first line."""
    directory = f"{runtime_directory.RUNTIME}/leases"
    with subprocess.Popen(
        ["/usr/bin/python3", "-I", "-c", program, str(FIRST), directory],
        user=user, group=user, extra_groups=[], cwd="/", stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def leases() -> list[UidLease]:
    """The leases of three uids from FIRST on that can be had; they are given up again."""
    free = [lease for uid in range(FIRST, FIRST + 3) if (lease := lease_uid(uid))]
    for lease in free:
        lease.close()
    return free


def test_user_cannot_lock_the_file_of_a_lease() -> None:
    assert len(leases()) == 3  # the files are there
    with process_of(USER, LOCK) as line:
        assert line == "Permission denied"
        assert len(leases()) == 3


def test_user_could_hold_uids_by_locks_in_a_directory_that_is_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runtime_directory, "RUNTIME", "/tmp/" + tmp_path.name)
    monkeypatch.setattr(runtime_directory, "_expect", lambda *_: None)
    directory = Path(runtime_directory.RUNTIME, "leases")
    try:
        assert len(leases()) == 3
        directory.chmod(0o777)
        for path in directory.iterdir():
            path.chmod(0o644)
        with process_of(USER, LOCK) as line:
            assert line == "locked"
            assert leases() == []
    finally:
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
        directory.parent.rmdir()


@pytest.mark.parametrize(
    ("part", "owner", "mode", "remedy"),
    [
        ("leases", 0, 0o711, "others than root can enter it (uid 0, mode 711); stop every"),
        ("leases", USER, 0o700, "others than root can enter it (uid 65534, mode 700); stop every"),
        (".", 0, 0o775, "others than root can change it (uid 0, mode 775); chown root: and"),
        (".", USER, 0o755, "others than root can change it (uid 65534, mode 755); chown root:"),
    ],
)
def test_directory_that_is_not_roots_alone_is_refused_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, part: str, owner: int, mode: int, remedy: str
) -> None:
    monkeypatch.setattr(runtime_directory, "RUNTIME", str(tmp_path / "run"))
    assert os.stat(runtime_directory.make("leases")).st_mode & 0o777 == 0o700
    assert os.stat(tmp_path / "run").st_mode & 0o777 == 0o755
    place = tmp_path / "run" / part
    os.chown(place, owner, owner)
    place.chmod(mode)
    with pytest.raises(ConfigError, match=re.escape(remedy)) as error:
        lease_uid(FIRST)
    assert "\n" not in str(error.value)


def test_link_in_place_of_the_directory_is_not_followed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(runtime_directory, "RUNTIME", str(tmp_path / "run"))
    (tmp_path / "run").mkdir(0o755)
    (tmp_path / "elsewhere").mkdir(0o700)
    (tmp_path / "run/leases").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="others than root can enter it"):
        lease_uid(FIRST)


def test_lease_lasts_until_the_last_process_that_inherited_it_ends() -> None:
    lease = lease_uid(FIRST)
    assert lease
    with subprocess.Popen(
        ["/bin/sleep", "60"], pass_fds=[lease.fileno()]
    ) as worker:  # a worker of a daemon that is killed
        lease.close()
        try:
            assert lease_uid(FIRST) is None
        finally:
            worker.kill()
    assert len(leases()) == 3


def test_file_that_is_removed_before_it_is_locked_is_no_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = f"{runtime_directory.make('leases')}/{FIRST}"
    before = lease_uid(FIRST)
    assert before
    real = os.open
    opened: list[int] = []

    def open_and_remove(name: str, *arguments: int, **keywords: int) -> int:
        fd = real(name, *arguments, **keywords)
        if name == path and not opened:
            opened.append(fd)
            before.close()
            os.unlink(path)
        return fd

    monkeypatch.setattr(os, "open", open_and_remove)
    lease = lease_uid(FIRST)
    assert lease and opened
    with lease:
        assert os.path.samestat(os.fstat(lease.fileno()), os.stat(path))
