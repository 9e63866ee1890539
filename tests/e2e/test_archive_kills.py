"""Archives in a real daemon that end badly: killed helpers, full disks, hostile members."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from sandboxd.model import MIB

from ..http_clients import GUARD_S
from ..processes import children
from ..waiting import PATIENCE_S, Patience, until
from .conftest import passable
from .daemon import Daemon, run, running

Make = Callable[..., str]
DISK = 64 * MIB
COUNT = 3000


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """Its sessions have disks of 64 MiB."""
    with passable() as directory, running(directory, f"[scratch]\nsize = {DISK}\n") as started:
        yield started


def tar(files: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    """An archive of `files` and members without content."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1_700_000_000
            archive.addfile(info, io.BytesIO(content))
        for info in more:
            archive.addfile(info)
    return file.getvalue()


def put(http: httpx.Client, id: str, body: bytes | Iterator[bytes]) -> httpx.Response:
    return http.put(f"/session/{id}/archive", content=body)


def tree(http: httpx.Client, id: str) -> dict[str, tuple[bytes, float]]:
    """The regular files of a session: content and time."""
    answer = http.get(f"/session/{id}/archive")
    assert answer.status_code == 200, answer.text
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        files = [(member, archive.extractfile(member)) for member in archive]
        return {member.name: (file.read(), member.mtime) for member, file in files if file}


def contents(http: httpx.Client, id: str) -> dict[str, bytes]:
    return {name: content for name, (content, _) in tree(http, id).items()}


def helpers(daemon: Daemon) -> list[int]:
    """Pids of the file helpers of a daemon."""
    assert daemon.process
    return list(children(daemon.process.pid, "sandboxd: files"))


def stages(daemon: Daemon) -> list[Path]:
    """The names in the stages of helpers."""
    return list(warden_view(daemon).glob("*/scratch/stage/*/*"))


def warden_view(daemon: Daemon) -> Path:
    """The slots with their scratches, which only the warden has mounted."""
    assert daemon.process
    return Path(f"/proc/{daemon.process.pid}/root{daemon.state}/slots")


def used(http: httpx.Client, id: str) -> int:
    """Bytes of the disk in use, as a program sees them."""
    outcome = run(http, id, {"exec": "df --output=used -B1 . | tail -1"})
    return int(outcome.text("stdout"))


def test_helper_killed_while_an_archive_arrives_leaves_nothing(
    daemon: Daemon, http: httpx.Client, session: Make
) -> None:
    id = session()
    assert put(http, id, tar({"old": b"old"})).status_code == 200
    before = used(http, id)
    arrived = threading.Event()

    def body() -> Iterator[bytes]:
        yield tar({"big": bytes(32 * MIB)})
        arrived.set()
        # the helper has the first member; this one never ends
        patience = Patience("the helper is not killed", GUARD_S)
        while not killed.is_set():
            yield bytes(512)
            patience.pause()

    killed = threading.Event()
    answers: list[httpx.Response] = []
    with daemon.client() as other:
        sender = threading.Thread(target=lambda: answers.append(put(other, id, body())))
        sender.start()
        assert arrived.wait(PATIENCE_S)
        until(lambda: any(path.name == "tree" for path in stages(daemon)))
        (pid,) = helpers(daemon)
        os.kill(pid, signal.SIGKILL)
        until(lambda: pid not in helpers(daemon))
        killed.set()
        sender.join()
    assert answers[0].status_code == 503, answers[0].text
    assert contents(http, id) == {"old": b"old"}
    assert stages(daemon) == []
    assert used(http, id) <= before + MIB
    assert put(http, id, tar({"big": bytes(32 * MIB)})).status_code == 200


def test_helper_killed_as_it_puts_an_archive_into_place_leaves_the_old_tree(
    daemon: Daemon, http: httpx.Client, session: Make
) -> None:
    id = session()
    old = {f"f{n}": b"old" for n in range(COUNT)}
    new = {f"f{n}": b"new" for n in range(COUNT)} | {"d/g": b"new"}
    assert put(http, id, tar(old)).status_code == 200
    assert contents(http, id) == old
    work = next(warden_view(daemon).glob("*/scratch/work"))
    mixed: list[int] = []
    while not mixed:
        mixed = _killed_in_the_middle(daemon, id, tar(new), work)
        now = contents(http, id)
        if not mixed:  # the helper was faster
            assert now == new and put(http, id, tar(old)).status_code == 200
            run(http, id, {"exec": "rm -r d"})
    assert 0 < mixed[0] < COUNT
    assert now == old
    assert stages(daemon) == []


def _killed_in_the_middle(daemon: Daemon, id: str, body: bytes, work: Path) -> list[int]:
    """Kill the helper when it has moved some files and not all; the number of files that are new
    then, empty when it was faster. It is stopped again and again to be looked at."""
    answers: list[httpx.Response] = []
    with daemon.client() as other:
        sender = threading.Thread(target=lambda: answers.append(put(other, id, body)))
        sender.start()
        until(lambda: not sender.is_alive() or any(p.name == "undo" for p in stages(daemon)))
        with contextlib.suppress(ProcessLookupError):  # the helper has ended
            while sender.is_alive() and (pids := helpers(daemon)):
                os.kill(pids[0], signal.SIGSTOP)
                fresh = sum((work / f"f{n}").read_bytes() == b"new" for n in range(COUNT))
                if 0 < fresh < COUNT:
                    os.kill(pids[0], signal.SIGKILL)
                    sender.join()
                    assert answers[0].status_code == 503, answers[0].text
                    return [fresh]
                os.kill(pids[0], signal.SIGCONT)
        sender.join()
    assert answers[0].status_code == 200, answers[0].text
    return []


def test_archive_that_the_disk_does_not_hold_is_refused_in_words_and_changes_nothing(
    daemon: Daemon, http: httpx.Client, session: Make
) -> None:
    id = session()
    assert put(http, id, tar({"f": b"old"})).status_code == 200
    answer = put(http, id, tar({"f": b"new", "big": bytes(100 * MIB)}))
    assert answer.status_code in (412, 413), answer.text
    assert "no space is left" in answer.text
    assert contents(http, id) == {"f": b"old"}
    assert put(http, id, tar({"big": bytes(32 * MIB)})).status_code == 200


def test_replacement_needs_room_for_the_old_files_and_the_new(
    daemon: Daemon, http: httpx.Client, session: Make
) -> None:
    id = session()
    assert put(http, id, tar({"f": b"1" * (36 * MIB)})).status_code == 200
    answer = put(http, id, tar({"f": b"2" * (36 * MIB)}))
    assert answer.status_code == 412 and "the old and the new files" in answer.text
    assert contents(http, id)["f"][:1] == b"1"


def test_archive_for_a_full_disk_is_refused_in_words(http: httpx.Client, session: Make) -> None:
    id = session()
    run(
        http, id, {"exec": "head -c 200M /dev/zero > full; for n in 1 2 3; do echo x >> more; done"}
    )
    answer = put(http, id, tar({"d/e/f": bytes(100_000)}))
    assert answer.status_code == 412 and "no space is left" in answer.text
    assert "d" not in json.loads(http.get(f"/session/{id}/files").json()["files"])


def test_bomb_is_refused_at_what_the_disk_holds(http: httpx.Client, session: Make) -> None:
    """Members of one name replace each other, so that the disk never fills."""
    id = session()
    member = tar({"f": bytes(20 * MIB)})[: 1024 + 20 * MIB]

    def body() -> Iterator[bytes]:
        for _ in range(200):
            yield member

    answer = put(http, id, body())
    assert answer.status_code in (412, 413), answer.text
    assert "more bytes than the disk" in answer.text
    assert contents(http, id) == {}


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


HOSTILE = {
    "device": [member("null", tarfile.CHRTYPE)],
    "fifo": [member("pipe", tarfile.FIFOTYPE)],
    "climbs": [member("../x", tarfile.DIRTYPE)],
    "climbs inside": [member("a/../../x", tarfile.DIRTYPE)],
    "absolute": [member("/etc/x", tarfile.DIRTYPE)],
    "link out": [member("l", tarfile.SYMTYPE, "../../etc/passwd")],
    "absolute link": [member("l", tarfile.SYMTYPE, "/etc/passwd")],
    "link by way of a link": [
        member("p/q/r/l", tarfile.SYMTYPE, "../../.."),
        member("x", tarfile.SYMTYPE, "p/q/r/l/../secret"),
        member("p/q/r", tarfile.DIRTYPE),
    ],
    "link with a second name": [
        member("a/b/l", tarfile.SYMTYPE, "../../f"), member("m", tarfile.LNKTYPE, "a/b/l"),
    ],
    "hard link out": [member("h", tarfile.LNKTYPE, "../../../etc/passwd")],
    "hard link to the system": [member("h", tarfile.LNKTYPE, "/etc/passwd")],
    "member through a link": [
        member("l", tarfile.SYMTYPE, "."), member("l/x", tarfile.DIRTYPE),
    ],
}  # fmt: skip


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE)
def test_hostile_archive_is_refused_by_name_and_changes_nothing(
    http: httpx.Client, session: Make, members: list[tarfile.TarInfo]
) -> None:
    id = session()
    answer = put(http, id, tar({"good": b"x", "f": b"y"}, *members))
    assert answer.status_code == 400, answer.text
    names = {one.name.split("/")[-1] for one in members} | {one.name for one in members}
    assert any(name in answer.text for name in names), answer.text
    assert contents(http, id) == {}


def test_link_of_a_program_that_leaves_is_no_way_out_for_an_archive(
    http: httpx.Client, session: Make
) -> None:
    id = session()
    run(http, id, {"exec": "ln -s /tmp out; ln -s ../../tmp up; touch /tmp/before"})
    for name in ("out", "up"):
        for body in (tar({f"{name}/x": b"evil"}), tar({}, member("l", tarfile.SYMTYPE, name))):
            answer = put(http, id, body)
            assert answer.status_code == 400, answer.text
        answer = http.put(
            f"/session/{id}/archive", params={"path": name}, content=tar({"x": b"evil"})
        )
        assert answer.status_code == 400, answer.text
    assert run(http, id, {"exec": "ls /tmp"}).text("stdout") == "before\n"
