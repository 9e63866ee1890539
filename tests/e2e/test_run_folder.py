"""The folder of `sandboxd run`: it arrives as it is, of any size and with any entries."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..cli.trees import contents
from .conftest import passable
from .daemon import Daemon, running, sessions_of
from .test_run import sandboxd


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon that takes five files in an upload of the old kind, and one path in a download."""
    config = "[files]\nupload_files = 5\nupload_size = 1000\ndownload_files = 1\n"
    with passable() as folder, running(folder, config) as daemon:
        yield daemon


def run(daemon: Daemon, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """`run`, whose session is gone afterwards."""
    done = sandboxd("run", str(folder), *args, "--socket", f"{daemon.folder}/api.sock")
    assert sessions_of(daemon.state) == {}
    return done


def put(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"{path}\n")


def test_limits_of_the_server_for_other_uploads_do_not_matter(
    daemon: Daemon, tmp_path: Path
) -> None:
    put(tmp_path, *(f"{number}.sh" for number in range(45)))
    (tmp_path / "data.bin").write_bytes(bytes(2 << 20))
    done = run(daemon, tmp_path, "--exec", "ls | wc -l; stat -c %s data.bin", "-q")
    assert (done.returncode, done.stdout) == (0, "46\n2097152\n"), done.stderr


def test_program_writes_into_a_directory_that_went_up_empty(daemon: Daemon, tmp_path: Path) -> None:
    put(tmp_path, "main.sh")
    (tmp_path / "out").mkdir()
    done = run(
        daemon, tmp_path, "--exec", "echo written > out/result.txt && cat out/result.txt", "-q"
    )
    assert done.stdout == "written\n", done.stderr


def test_tool_that_is_a_link_finds_its_library_and_a_directory_link_leads_on(
    daemon: Daemon, tmp_path: Path
) -> None:
    """As node_modules/.bin/tool does, and releases/current."""
    put(tmp_path, "main.sh", "v1/f")
    (tmp_path / "tool/lib").mkdir(parents=True)
    (tmp_path / "tool/lib/word").write_text("42\n")
    (tmp_path / "tool/run").write_text(
        '#!/bin/sh\ncat "$(dirname "$(readlink -f "$0")")/lib/word"\n'
    )
    (tmp_path / "tool/run").chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tool").symlink_to("../tool/run")
    (tmp_path / "absolute").symlink_to(tmp_path / "v1")
    (tmp_path / "current").symlink_to("v1")
    done = run(daemon, tmp_path, "--exec", "bin/tool; cat current/f absolute/f", "-q")
    assert done.stdout == "42\nv1/f\nv1/f\n", done.stderr


def test_make_does_not_remake_a_file_that_is_newer_than_its_source(
    daemon: Daemon, tmp_path: Path
) -> None:
    put(tmp_path, *(f"f{number:02}.h" for number in range(25)), "a_made.c", "z_source.y")
    (tmp_path / "Makefile").write_text("a_made.c: z_source.y\n\tno-such-tool $<\n")
    for name, second in (("z_source.y", 1_700_000_000), ("a_made.c", 1_700_000_001)):
        os.utime(tmp_path / name, (second, second))
    done = run(daemon, tmp_path, "--image", "c", "--exec", "make a_made.c", "-q")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_link_out_of_the_folder_is_not_uploaded(daemon: Daemon, tmp_path: Path) -> None:
    """The folder may be another user's, and root runs the command."""
    put(tmp_path, "secret", "work/real")
    (tmp_path / "work" / "stolen").symlink_to("../secret")
    (tmp_path / "work" / "dir").symlink_to("/etc")
    (tmp_path / "work" / "inside").symlink_to("real")
    done = run(daemon, tmp_path / "work", "--image", "shell", "--exec", "ls; cat inside", "-q")
    assert done.stdout == "inside\nreal\nwork/real\n"
    assert "stolen" in done.stderr and "dir" in done.stderr


def test_version_control_and_excluded_names_stay_at_home(daemon: Daemon, tmp_path: Path) -> None:
    put(tmp_path, ".git/config", "a/node_modules/x", "node_modules/y", "a/b.o", "c.log", "d.c")
    rules = tmp_path.parent / "rules"
    rules.write_text("*.log\n")
    show = ("--image", "shell", "--exec", "find . -type f | sort", "-q")
    excludes = ("--exclude", "node_modules", "--exclude", "*.o", "--exclude-from", str(rules))
    assert run(daemon, tmp_path, *show, *excludes).stdout == "./d.c\n"
    assert "./.git/config\n" in run(daemon, tmp_path, *show, *excludes, "--include-vcs").stdout


def test_folder_that_is_larger_than_the_session_is_refused_before_it_is_sent(
    daemon: Daemon, tmp_path: Path
) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(3 << 30)
    done = run(daemon, tmp_path, "--image", "shell", "--exec", "true")
    assert done.returncode == 125
    assert "have 3072 MiB, and the session's file system has 1024 MiB: --disk makes" in done.stderr
    assert "uploading" not in done.stderr


def everything(folder: Path) -> None:
    """A tree with one entry of each kind that goes up."""
    put(folder, "a/b/c/deep", "run.sh", "private", "n" * 255, "L" * 200 + "/" + "M" * 200)
    (folder / "run.sh").chmod(0o700)
    (folder / "private").chmod(0o600)
    (folder / "empty").touch()
    (folder / "large").write_bytes(os.urandom(3 << 20))
    (folder / "empty directory" / "inner").mkdir(parents=True)
    (folder / os.fsdecode(b"\xff\xfe \n name")).write_bytes(b"\x00")
    (folder / "한글").mkdir(mode=0o750)
    (folder / "file link").symlink_to("a/b/c/deep")
    (folder / "a" / "up").symlink_to("../run.sh")
    (folder / "directory link").symlink_to("a/b")
    (folder / "through").symlink_to("directory link/c/deep")
    (folder / "dangling").symlink_to("nowhere")
    os.link(folder / "run.sh", folder / "second name")
    for number, name in enumerate(sorted(contents(folder), reverse=True)):
        time = 1_600_000_000_123_456_789 + number
        os.utime(folder / name, ns=(time, time), follow_symlinks=False)


def test_tree_goes_up_and_comes_back_byte_for_byte(daemon: Daemon, tmp_path: Path) -> None:
    everything(tmp_path / "tree")
    done = run(daemon, tmp_path / "tree", "--image", "shell", "--exec", "true", "--get", ".",
               "--into", str(tmp_path / "back"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "back") == contents(tmp_path / "tree")


def test_project_that_tar_has_unpacked_is_configured_and_made(
    daemon: Daemon, tmp_path: Path
) -> None:
    """A shipped configure script, older than its Makefile.in as long as the times are kept."""
    put(tmp_path, "configure.ac")
    (tmp_path / "configure").write_text(
        '#!/bin/sh\nset -e\n[ configure -nt configure.ac ]\nsed "s/@x@/7/" Makefile.in > Makefile\n'
    )
    (tmp_path / "configure").chmod(0o755)
    (tmp_path / "Makefile.in").write_text("all:\n\tcc -DX=@x@ -o main main.c\n")
    (tmp_path / "main.c").write_text("int main(void) { return X; }\n")
    os.utime(tmp_path / "configure.ac", (1e9, 1e9))
    done = run(
        daemon, tmp_path, "--image", "c", "--build", "./configure && make", "--exec", "./main"
    )
    assert done.returncode == 7, done.stderr
