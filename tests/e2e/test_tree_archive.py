"""Whole trees through a real daemon: they arrive, come out, and are of use inside."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from sandboxd.cli.connection.client import Client

from .daemon import Daemon, run
from .test_files import listing, tars, upload

Make = Callable[..., str]
State = tuple[int, int, int, bytes]
"""Type, permission bits, mtime in nanoseconds, and content or target."""

LARGE = os.urandom(5_000_000)


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    """The command line's client, over the Unix socket."""
    client = Client(f"{daemon.folder}/api.sock")
    yield client
    client.close()


def state(path: Path) -> State:
    status = path.lstat()
    kind, content = stat.S_IFMT(status.st_mode), b""
    if kind == stat.S_IFLNK:
        content = os.fsencode(os.readlink(path))
    elif kind == stat.S_IFREG:
        content = path.read_bytes()
    return kind, stat.S_IMODE(status.st_mode), status.st_mtime_ns, content


def snapshot(top: Path) -> dict[str, State]:
    """Everything below a directory."""
    return {str(path.relative_to(top)): state(path) for path in top.rglob("*")}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with something of every kind."""
    top = tmp_path / "tree"
    (top / "empty/inner").mkdir(parents=True)
    (top / "src").mkdir()
    (top / "src/main.c").write_bytes(b"int main() {}")
    (top / "src/large.bin").write_bytes(LARGE)
    (top / "zero").touch()
    (top / "run.sh").write_text("#!/bin/sh\necho ran\n")
    (top / "private").write_text("mine")
    (top / os.fsdecode(b"raw\xff\xfe\n")).write_bytes(b"odd")
    (top / ("n" * 255)).write_bytes(b"long")
    deep = top.joinpath(*["deep" * 20] * 12)
    deep.mkdir(parents=True)
    (deep / "f").write_bytes(b"deep")
    (top / "current").symlink_to("src")
    (top / "src/up").symlink_to("../run.sh")
    (top / "dangling").symlink_to("nothing/here")
    (top / "absolute").symlink_to("/home/work/src/main.c")
    os.link(top / "src/main.c", top / "src/second.c")
    for name, mode in {"run.sh": 0o755, "private": 0o600, "empty": 0o700, "src": 0o750}.items():
        (top / name).chmod(mode)
    paths = sorted(top.rglob("*"), key=lambda path: len(path.parts), reverse=True)
    for number, path in enumerate(paths):
        ns = 1_500_000_000_123_456_789 + number * 1_000_000_007
        os.utime(path, ns=(ns, ns), follow_symlinks=False)
    return top


def packed(top: Path, form: str) -> Iterator[bytes]:
    """The tar of a directory, in pieces, in one of GNU tar's formats."""
    command = ["tar", f"--format={form}", "-C", str(top), "-c", "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        while piece := process.stdout.read(1 << 16):
            yield piece
    assert process.returncode == 0


def fetched(http: httpx.Client, session: str, into: Path) -> Path:
    """The archive of a whole session, unpacked by GNU tar."""
    into.mkdir()
    answer = http.get(f"/session/{session}/archive")
    assert answer.status_code == 200, answer.text
    subprocess.run(["tar", "-xpC", str(into)], input=answer.content, check=True)
    assert answer.headers["x-sandboxd-left-out"] == '{"count": 0, "entries": []}'
    return into


def test_tree_with_everything_comes_out_as_it_went_in(
    client: Client, http: httpx.Client, session: Make, tree: Path, tmp_path: Path
) -> None:
    id = session()
    counts = client.put_archive(id, "/home/work", packed(tree, "pax"))
    states = snapshot(tree)
    kinds = [kind for kind, *_ in states.values()]
    assert counts["files"] == kinds.count(stat.S_IFREG)
    assert counts["links"] == kinds.count(stat.S_IFLNK)
    assert snapshot(fetched(http, id, tmp_path / "out")) == states


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_program_finds_the_tree_as_it_was(
    client: Client, http: httpx.Client, session: Make, tree: Path, form: str
) -> None:
    id = session()
    client.put_archive(id, "/home/work", packed(tree, form))
    script = "./run.sh; cat current/main.c; readlink src/up; ls -A empty/inner; cat private; "
    script += "cat absolute; stat -c '%a %U' run.sh private empty src; stat -c %y zero; "
    script += "[ src/main.c -ef src/second.c ] && echo one file; sha256sum < src/large.bin"
    lines = run(http, id, {"exec": script}).text("stdout")
    times = subprocess.run(
        f"TZ=UTC stat -c %y {tree}/zero; sha256sum < {tree}/src/large.bin",
        shell=True, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    time = times[0] if form == "pax" else times[0].partition(".")[0] + ".000000000 +0000"
    assert lines.startswith("ran\nint main() {}../run.sh\nmineint main() {}755 work\n")
    assert lines.splitlines()[3:] == ["600 work", "700 work", "750 work", time, "one file",
                                      times[1]]  # fmt: skip


def test_make_builds_nothing_again_that_came_newer_than_its_source(
    client: Client, http: httpx.Client, session: Make, tmp_path: Path
) -> None:
    id, top = session(), tmp_path / "tree"
    top.mkdir()
    (top / "Makefile").write_text("out: in\n\tno-such-tool\n")
    for n, name in enumerate(("in", "out")):
        (top / name).touch()
        os.utime(top / name, ns=(10**18 + n, 10**18 + n))
    client.put_archive(id, "/home/work", packed(top, "pax"))
    assert "up to date" in run(http, id, {"exec": "make out"}).text("stdout")


def test_second_archive_is_merged_and_replaces_files(
    client: Client, http: httpx.Client, session: Make, tree: Path, tmp_path: Path
) -> None:
    id = session()
    client.put_archive(id, "/home/work", packed(tree, "pax"))
    run(http, id, {"exec": "echo mine > src/own; chmod 777 src; echo changed > run.sh"})
    client.put_archive(id, "/home/work", packed(tree, "pax"))
    after = snapshot(fetched(http, id, tmp_path / "out"))
    assert after.pop("src/own")[3] == b"mine\n"
    assert after == snapshot(tree)


def test_absolute_link_below_the_workdir_is_followed_by_every_request(
    http: httpx.Client, session: Make
) -> None:
    id = session()
    script = "mkdir -p d/e; echo data > d/e/f; ln -s /home/work/d abs; ln -s /home/work/abs/e far; "
    script += "ln -s /home/work/d/e/f file; ln -s //home/./work/ top; ln -s /home/workevil evil; "
    script += "ln -s /home/work/../../etc out; ln -s /home/work/loop loop"
    run(http, id, {"exec": script})
    for name in ("abs/e/f", "far/f", "file", "top/d/e/f", "top/far/f"):
        answer = http.get(f"/session/{id}/download_single", params={"file": name})
        assert (answer.status_code, answer.content) == (200, b"data\n"), name
    assert set(listing(http, id, "abs")) == {"e"}
    assert set(listing(http, id, "far")) == {"f"}
    (tar,) = tars(http.get(f"/session/{id}/download", params={"files": "far"}))
    assert tar.getnames() == ["far", "far/f"]
    assert upload(http, id, ("abs/e/g", b"new")).status_code == 204
    assert set(listing(http, id, "d/e")) == {"f", "g"}
    archive = http.get(f"/session/{id}/archive", params={"path": "far"}).content
    assert set(tarfile.open(fileobj=io.BytesIO(archive)).getnames()) == {"f", "g"}
    for name in ("evil", "out", "loop", "out/passwd", "evil/x"):
        answer = http.get(f"/session/{id}/download_single", params={"file": name})
        assert answer.status_code == 400, name
        assert upload(http, id, (f"{name}/x", b"evil")).status_code == 400, name
