"""The results of `sandboxd run --get`: they come out, or they stay for a day."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from sandboxd.cli.connection.client import Client
from sandboxd.cli.connection.private_daemon import private_daemon
from sandboxd.cli.connection.temporary_session import create
from sandboxd.cli.main import FAULT
from sandboxd.cli.transfer.exclusion import exclusion
from sandboxd.cli.transfer.local_tree import LocalTree
from sandboxd.cli.transfer.results import Fetched, fetch
from sandboxd.cli.transfer.tree_upload import upload
from sandboxd.errors import Unavailable

from ..cli.trees import Lines, contents
from ..processes import files, titles
from ..waiting import until
from .conftest import passable
from .daemon import ROOT, Daemon, running, sessions_of
from .own_leaks import leaks
from .test_run import private, sandboxd
from .test_run_folder import put, run


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A daemon for these tests."""
    with passable() as folder, running(folder) as daemon:
        yield daemon


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a script, beside a file that no result may reach."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work/main.sh").write_text("echo 1 > junit.xml; mkdir out; echo 2 > out/log.txt\n")
    (tmp_path / "secret").write_text("secret of the user")
    return tmp_path / "work"


def test_directory_and_file_are_fetched(daemon: Daemon, tmp_path: Path) -> None:
    done = run(
        daemon, ROOT / "examples/report", "--get", "out", "main.py", "--into", str(tmp_path / "r")
    )
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path / "r")) == ["main.py", "out"]
    assert (tmp_path / "r/out/summary.csv").read_text().startswith("station,")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.xml", ["junit.xml"]), ("out/*", ["log.txt"]), ("**/*.txt", ["out"])],
)
def test_pattern_fetches_what_it_matches(
    daemon: Daemon, work: Path, pattern: str, expected: list[str]
) -> None:
    into = work.parent / "into"
    done = run(daemon, work, "--get", pattern, "--into", str(into))
    assert done.returncode == 0, done.stderr
    assert os.listdir(into) == expected


def test_missing_result_is_named_and_the_others_arrive(daemon: Daemon, work: Path) -> None:
    into = work.parent / "into"
    done = run(
        daemon, work, "--get", "junit.xml", "coverage.xml", "out/log.txt", "--into", str(into)
    )
    assert done.returncode == 0
    assert sorted(os.listdir(into)) == ["junit.xml", "log.txt"]
    assert "coverage.xml" in done.stderr


def test_exit_code_of_the_program_is_not_hidden_by_a_missing_result(
    daemon: Daemon, work: Path
) -> None:
    done = run(daemon, work, "--exec", "exit 3", "--get", "nothing")
    assert done.returncode == 3 and "nothing" in done.stderr


def test_link_of_a_result_that_leads_out_is_named_and_the_rest_arrives(
    daemon: Daemon, work: Path
) -> None:
    into = work.parent / "into"
    program = (
        "mkdir -p p/q/r; ln -s ../../.. p/q/r/l; ln -s p/q/r/l/../secret x; ln -s ../secret y;"
        "ln -s /etc/passwd z; ln -s /home/work/main.sh good; echo data > file"
    )
    done = run(daemon, work, "--exec", f"{program}; exit 4", "--get", ".", "--into", str(into))
    assert done.returncode == 4, done.stderr
    assert (into / "file").read_text() == "data\n"
    assert os.readlink(into / "good") == "main.sh"
    for name in ("x", "y", "z"):
        assert not os.path.lexists(into / name)
        assert re.search(rf"\b{name}\b.*left out", done.stderr), done.stderr
    assert all(os.path.realpath(into / name).startswith(str(into)) for name in contents(into))


def test_program_puts_no_hooks_and_no_disk_full_of_holes_into_the_folder(
    daemon: Daemon, work: Path
) -> None:
    into = work.parent / "into"
    program = (
        "mkdir -p o/.git o/a/.git; echo x | tee o/.git/config o/a/.git/config o/.envrc o/a/.x; "
        "mkdir p; truncate -s 500M p/holes"
    )
    socket = ("--socket", f"{daemon.folder}/api.sock")
    options = ("--disk", "64m", "--into", str(into), "--name", "holes", *socket)
    done = sandboxd("run", str(work), "--exec", program, "--get", "o/*", "p", *options)
    assert sandboxd("rm", "holes", *socket).returncode == 0
    assert done.returncode == FAULT, done.stderr
    assert sorted(contents(into)) == ["a", "a/.x", "p"]
    for name in (".git", "a/.git", ".envrc"):
        assert re.search(rf" {re.escape(name)} b.*; left out", done.stderr), done.stderr
    assert re.search("p: the results have more than the .*pack them", done.stderr), done.stderr


def test_modes_and_times_of_results_are_the_programs(daemon: Daemon, work: Path) -> None:
    into = work.parent / "into"
    program = "echo > x; chmod 4710 x; touch -d @1600000000.123456789 x; mkdir -m 750 d"
    run(daemon, work, "--exec", program, "--get", "x", "d", "--into", str(into))
    there = contents(into)
    assert there["x"][1:3] == (0o710, 1600000000_123456789) and there["d"][1] == 0o750


# -- results that could not be fetched


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system without room."""
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


LARGE = ("--exec", "head -c 1000000 /dev/urandom > large; echo small > small; exit 5")


def later(text: str, into: Path) -> list[str]:
    """The command that the output names, with another folder."""
    words = shlex.split(re.findall(r"sandboxd (get .*)", text)[-1])
    assert words[0] == "get"
    words[words.index("--into") + 1] = str(into)
    return words


def test_results_that_found_a_full_disk_are_fetched_later(
    daemon: Daemon, work: Path, full: Path
) -> None:
    began, socket = time.time(), ("--socket", f"{daemon.folder}/api.sock")
    done = sandboxd("run", str(work), *LARGE, "--get", "large", "--into", str(full), *socket)
    assert done.returncode == 5
    assert "No space left" in done.stderr
    (session,) = sessions_of(daemon.state).values()
    with daemon.client() as http:
        ends = http.get(f"/session/{session}").json()["sandbox"]["ends"]
    assert ends["reason"] == "time-to-live"
    assert round((datetime.fromisoformat(ends["at"]).timestamp() - began) / 3600) == 24
    into = work.parent / "into"
    again = sandboxd(*later(done.stderr, into))
    assert again.returncode == 0, again.stderr
    assert (into / "large").stat().st_size == 1000000
    assert sessions_of(daemon.state) == {}


def test_private_daemon_has_results_that_found_a_full_disk_for_a_day(
    work: Path, full: Path
) -> None:
    before = leaks()
    nowhere = ("--private",)
    done = sandboxd("run", str(work), *LARGE, "--get", "large", "--into", str(full), *nowhere)
    assert done.returncode == 5, done.stderr
    (state,) = leaks() - before  # its directory, and no process, mount or group
    old = time.time() - 3600
    os.utime(state, (old, old))
    assert private(str(work), "--exec", "true").returncode == 0
    assert os.path.isdir(state)
    into = work.parent / "into"
    again = sandboxd(*later(done.stderr, into))
    assert again.returncode == 0, again.stderr
    assert (into / "large").stat().st_size == 1000000
    assert leaks() <= before
    once_more = sandboxd(*later(done.stderr, into))
    assert once_more.returncode == 2 and "no results" in once_more.stderr


def test_results_of_a_private_daemon_go_after_a_day(work: Path, full: Path) -> None:
    before = leaks()
    nowhere = ("--private",)
    done = sandboxd("run", str(work), *LARGE, "--get", "large", "--into", str(full), *nowhere)
    assert done.returncode == 5, done.stderr
    (state,) = leaks() - before
    old = time.time() - 90000
    os.utime(f"{state}/preserved", (old, old))
    os.utime(state, (old, old))
    assert private(str(work), "--exec", "true").returncode == 0
    assert leaks() <= before


def test_results_of_a_private_daemon_that_was_killed_are_fetched_from_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, say = leaks(), Lines()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with (
        private_daemon() as first,
        contextlib.closing(Client(first.socket, comes_back=False)) as client,
    ):
        session = create(client, "shell", {})
        with tempfile.TemporaryDirectory() as tree:
            put(Path(tree), "result", "other/file")
            with LocalTree(tree, exclusion([], [], False), say) as local:
                upload(client, session, local, list(local.entries()), say)
        os.kill(warden_of(first.folder), signal.SIGKILL)
        until(lambda: not answers(client))
        into = folder / "into"
        assert fetch(client, session, ["result"], str(into), say).failed == ["result"]
        first.preserve()
    with (
        private_daemon(first.folder) as second,
        contextlib.closing(Client(second.socket, comes_back=False)) as client,
    ):
        assert fetch(client, session, ["result"], str(into), say) == Fetched()
        second.forget()
    assert (into / "result").read_text() == "result\n"
    assert leaks() <= before and os.listdir(folder) == ["into"]


def warden_of(folder: str) -> int:
    """The pid of the privileged half of the private daemon in `folder`."""
    for pid in titles("sandboxd: warden"):
        if f"{folder}/state/lock" in files(pid).values():
            return pid
    raise AssertionError(folder)


def answers(client: Client) -> bool:
    try:
        client.call("GET", "/")
    except Unavailable:
        return False
    return True


def test_files_of_any_session_are_fetched_and_the_session_stays(
    daemon: Daemon, tmp_path: Path
) -> None:
    socket = ("--socket", f"{daemon.folder}/api.sock")
    with daemon.client() as http:
        http.post("/session", json={"image": "shell", "name": "results"}).raise_for_status()
        http.post("/session/results/upload", files={"src": ("a.txt", b"data")}).raise_for_status()
        done = sandboxd(
            "get", "results", "*.txt", "missing", "--into", str(tmp_path), "--rm", *socket
        )
        assert done.returncode == 1 and "missing" in done.stderr
        assert (tmp_path / "a.txt").read_text() == "data"
        assert http.get("/session/results").status_code == 200
        assert (
            sandboxd("get", "results", "a.txt", "--into", str(tmp_path), "--rm", *socket).returncode
            == 0
        )
        assert http.get("/session/results").status_code == 404


def test_get_of_an_unknown_session_is_an_error(daemon: Daemon, tmp_path: Path) -> None:
    done = sandboxd("get", "nothing", "x", "--socket", f"{daemon.folder}/api.sock")
    assert done.returncode == 125 and len(done.stderr.splitlines()) == 1
    done = sandboxd("get", "nothing", "x", "--socket", "/nonexistent/api.sock")
    assert done.returncode == 125 and "--socket" in done.stderr
