"""Archives with a real daemon: a tree comes back as it went in, and a kill leaves no half of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from sandboxd.host import procfs

from ..files.trees import File, decimal, directory, read_tar, snapshot, tar
from ..http_clients import GUARD_S
from ..processes import children
from ..waiting import PATIENCE_S, Patience, until
from .daemon import Daemon, run, running

Session = Callable[..., str]


def random_tree(top: Path, seed: int) -> None:
    """Files, directories and links of all kinds, with odd names, modes and times."""
    generator = random.Random(seed)
    letters = [b"a", b"Z", b" ", b"\n", b"\xff", "é".encode(), b"*", b"-", b"'", b".x"]
    directories = [top]
    names: list[Path] = []
    for number in range(150):
        above = generator.choice(directories)
        word = b"".join(generator.choices(letters, k=generator.randint(1, 30)))
        path = above / os.fsdecode(b"%d" % number + word)
        kind = generator.random()
        if kind < 0.3:
            path.mkdir()
            directories.append(path)
        elif kind < 0.8:
            path.write_bytes(generator.randbytes(generator.choice([0, 1, 511, 512, 70_000])))
            path.chmod(generator.choice([0o600, 0o700, 0o755, 0o644, 0o444, 0o666]))
        elif names:
            target = generator.choice(names)
            path.symlink_to(os.path.relpath(target, above))
        names.append(path)
    (top / "absolute").symlink_to("/home/work/" + str(names[0].relative_to(top)))
    for path in reversed(names):
        if path.is_dir() and not path.is_symlink():
            path.chmod(generator.choice([0o700, 0o755, 0o555, 0o777]))
        ns = generator.randint(0, 2**62)
        os.utime(path, ns=(ns % 2**33 * 10**9, ns), follow_symlinks=False)


def put(http: httpx.Client, session: str, data: bytes | Iterator[bytes]) -> httpx.Response:
    return http.put(f"/session/{session}/archive", content=data, timeout=600)


def get(http: httpx.Client, session: str) -> bytes:
    answer = http.get(f"/session/{session}/archive", timeout=600)
    assert answer.status_code == 200, answer.text
    assert json.loads(answer.headers["x-sandboxd-left-out"])["count"] == 0
    return answer.content


def packed(top: Path) -> bytes:
    """The tree as a tar of the standard library, with exact times."""
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape"
    ) as archive:
        for name in sorted(snapshot(top)):
            info = archive.gettarinfo(top / name, name)
            info.pax_headers = {"mtime": decimal(os.lstat(top / name).st_mtime_ns)}
            if info.isreg():
                with (top / name).open("rb") as file:
                    archive.addfile(info, file)
            else:
                archive.addfile(info)
    return buffer.getvalue()


@pytest.mark.parametrize("seed", range(4))
def test_random_tree_comes_back_byte_for_byte(
    http: httpx.Client, session: Session, tmp_path: Path, seed: int
) -> None:
    (tmp_path / "tree").mkdir()
    random_tree(tmp_path / "tree", seed)
    id = session("shell")
    assert put(http, id, packed(tmp_path / "tree")).status_code == 200
    members = read_tar(get(http, id))
    states = snapshot(tmp_path / "tree")
    assert set(members) == set(states)
    kinds = {"file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}
    for name, (info, content) in members.items():
        kind, mode, ns, expected = states[name]
        assert (info.type, info.pax_headers["mtime"]) == (kinds[kind], decimal(ns)), name
        if kind == "link":
            assert os.fsencode(info.linkname) == expected
        else:
            assert (info.mode, content) == (mode, expected)


def test_program_sees_the_tree_and_owns_it(http: httpx.Client, session: Session) -> None:
    id = session("shell")
    assert put(http, id, tar(directory("d", 0o700), File("d/run", b"#!/bin/sh\necho ran\n", 0o700)))
    show = "d/run && stat -c '%U %a %n' d d/run && echo more >> d/run && rm -r d"
    outcome = run(http, id, {"exec": show})
    assert outcome.exits[-1] == 0, outcome.text("stderr")
    assert outcome.text("stdout") == "ran\nwork 700 d\nwork 700 d/run\n"


COUNT = 3000


def files(word: bytes) -> bytes:
    return tar(*(File(f"f{number}", word) for number in range(COUNT)))


def test_archives_for_the_same_names_follow_one_another(
    daemon: Daemon, http: httpx.Client, session: Session
) -> None:
    """The last one that was put into place is there as a whole."""
    id = session("shell")
    words = [b"a" * 10, b"b" * 20, b"c" * 30, b"d" * 40]
    statuses: list[int] = []

    def send(word: bytes) -> None:
        with daemon.client() as own:
            statuses.append(put(own, id, files(word)).status_code)

    for _ in range(2):  # into an empty directory, and over existing files
        threads = [threading.Thread(target=send, args=(word,)) for word in words]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        members = read_tar(get(http, id))
        assert len({content for info, content in members.values() if info.isreg()}) == 1
    assert statuses == [200] * 8


def is_placing(helper: int) -> bool:
    """Some of the files that it moves are in place, and some are not."""
    with contextlib.suppress(OSError):  # it has ended
        work = Path(f"/proc/{helper}/root/work")
        return len({(work / f"f{number}").read_bytes() for number in range(0, COUNT, 100)}) == 2
    return False


def test_kill_of_the_daemon_as_an_archive_gets_into_place_leaves_the_old_tree(folder: Path) -> None:
    """The helper is stopped when it has begun to move three thousand files, and killed too."""
    with running(folder) as daemon:
        with daemon.client() as http:
            http.post("/session", json={"image": "shell", "name": "kept"})
            patience = Patience("the helper is faster each time", GUARD_S)
            while True:
                assert put(http, "kept", files(b"old")).status_code == 200
                before = get(http, "kept")
                if killed_while_placing(daemon):
                    break
                patience.pause()
        daemon.start()
        with daemon.client() as http:
            assert get(http, "kept") == before
            assert put(http, "kept", files(b"new")).status_code == 200
            http.delete("/session/kept")


def killed_while_placing(daemon: Daemon) -> bool:
    """Both halves and the helper were killed while it had moved some files; False: it was faster,
    and all goes on."""
    assert daemon.process
    warden = daemon.process.pid
    statuses: list[int] = []

    def upload() -> None:
        with daemon.client() as http, contextlib.suppress(httpx.HTTPError):
            statuses.append(put(http, "kept", files(b"new")).status_code)

    thread = threading.Thread(target=upload)
    thread.start()
    try:
        while thread.is_alive():  # without a pause: the moves take a tenth of a second
            for helper in filter(is_placing, children(warden, "sandboxd: files")):
                if is_placing(stopped(helper)):
                    daemon.end("both")
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(helper, signal.SIGKILL)
                    thread.join(PATIENCE_S)
                    assert not statuses or statuses[0] >= 500
                    return True
                with contextlib.suppress(ProcessLookupError):
                    os.kill(helper, signal.SIGCONT)
    finally:
        thread.join(PATIENCE_S)
    assert statuses == [200]
    return False


def stopped(helper: int) -> int:
    """The helper, once it has stopped or ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(helper, signal.SIGSTOP)
        until(lambda: procfs.status(helper, "State")[0][:1] in ("T", "Z", "X", ""))
    return helper


def test_kill_of_the_daemon_as_the_body_comes_leaves_the_old_tree(folder: Path) -> None:
    half, go_on = threading.Event(), threading.Event()

    def body() -> Iterator[bytes]:
        data = files(b"new")
        yield data[: len(data) // 2]
        half.set()
        go_on.wait(PATIENCE_S)
        yield data[len(data) // 2 :]

    def upload() -> None:
        with daemon.client() as http, contextlib.suppress(httpx.HTTPError):
            put(http, "kept", body())

    with running(folder) as daemon:
        with daemon.client() as http:
            http.post("/session", json={"image": "shell", "name": "kept"})
            assert put(http, "kept", files(b"old")).status_code == 200
            before = get(http, "kept")
        thread = threading.Thread(target=upload)
        thread.start()
        try:
            assert half.wait(PATIENCE_S)
            daemon.end("both")
        finally:
            go_on.set()
            thread.join(PATIENCE_S)
        daemon.start()
        with daemon.client() as http:
            assert get(http, "kept") == before
            http.delete("/session/kept")
