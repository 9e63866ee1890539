"""`sandboxd folder cp`: what is copied into a folder and out of it, and what stays behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .daemon import Daemon
from .test_holders import program
from .test_session_commands import sandboxd

pytestmark = pytest.mark.usefixtures("lasting")  # the next test needs the places


@pytest.fixture
def folder(daemon: Daemon) -> Iterator[str]:
    """The name of a folder of 16 MiB."""
    assert sandboxd(daemon, "folder", "create", "copied", "--size", "16m").returncode == 0
    yield "copied"
    assert sandboxd(daemon, "folder", "rm", "copied").returncode == 0


def files(top: Path) -> list[str]:
    return sorted(os.path.relpath(path, top) for path in top.rglob("*") if path.is_file())


def write(daemon: Daemon, tmp_path: Path, folder: str, commands: str) -> None:
    """Have a program write into the folder."""
    place = program(tmp_path, f"cd {folder}\n{commands}\n")
    done = sandboxd(daemon, "run", place, "--exec", "*", "-q", "--folder", folder)
    assert done.returncode == 0, done.stderr


def test_checkout_goes_in_and_out_with_version_control_by_the_option_alone(
    daemon: Daemon, tmp_path: Path, folder: str
) -> None:
    for name in ("c/.git/config", "c/src/.hg/hgrc", "c/src/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    up = ("folder", "cp", str(tmp_path / "c"), f"{folder}:")
    done = sandboxd(daemon, *up)
    assert done.returncode == 0 and done.stderr.count("--include-vcs copies it") == 2
    assert ".git" not in sandboxd(daemon, "folder", "ls", f"{folder}:c").stdout
    assert sandboxd(daemon, *up, "--include-vcs").stderr == ""
    for options, expected in {
        (): ["src/x"],
        ("--include-vcs",): [".git/config", "src/.hg/hgrc", "src/x"],
    }.items():
        copy = tmp_path / f"copy{len(options)}"
        done = sandboxd(daemon, "folder", "cp", f"{folder}:c", str(copy), *options)
        assert (done.returncode, files(copy)) == (0, expected), done.stderr


def test_repository_that_a_program_has_written_comes_out_by_its_own_name_alone(
    daemon: Daemon, tmp_path: Path, folder: str
) -> None:
    make = "mkdir -p {0}/objects {0}/refs; echo 'ref: refs/heads/m' > {0}/HEAD; touch {0}/config"
    write(daemon, tmp_path, folder, "; ".join(make.format(name) for name in ("d", "d/r.git")))
    for path, options, expected in (
        ("d", [], ["config", "r.git/config"]),
        ("d/r.git", [], ["HEAD", "config"]),
        ("d", ["--include-vcs"], ["HEAD", "config", "r.git/HEAD", "r.git/config"]),
    ):
        copy = tmp_path / f"copy{len(path)}{len(options)}"
        done = sandboxd(daemon, "folder", "cp", f"{folder}:{path}", str(copy), *options)
        assert (done.returncode, files(copy)) == (0, expected), done.stderr
        assert done.stderr.count("a repository of git") == (0 if "HEAD" in expected else 2)


def test_copy_out_of_a_folder_has_no_more_bytes_than_the_folder(
    daemon: Daemon, tmp_path: Path, folder: str
) -> None:
    write(daemon, tmp_path, folder, "mkdir d; truncate -s 10m d/a d/b; echo x > small")
    done = sandboxd(daemon, "folder", "cp", f"{folder}:d", str(tmp_path / "copy"))
    assert done.returncode == 125 and "more than the 16 MiB of the folder" in done.stderr
    assert files(tmp_path / "copy") in (["a"], ["b"])
    assert sandboxd(daemon, "folder", "cp", f"{folder}:d/b", str(tmp_path / "b")).returncode == 0
