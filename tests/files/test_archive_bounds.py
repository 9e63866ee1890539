"""The bounds of archives: endless ones, files of killed helpers, links behind wildcards."""

from __future__ import annotations

import fcntl
import io
import os
import socket
import tarfile
from pathlib import Path

import pytest

from sandboxd.errors import Invalid
from sandboxd.files import archive, incoming_archive, tar_reader, unpacking
from sandboxd.files.tar_reader import HEADERS_MAX, TarReader
from sandboxd.warden.runs import launcher
from sandboxd.warden.slots.scratch import INBOXES
from sandboxd.wire.file_calls import FILE_CHUNK, PACKET_MAX, pack_data, pack_json, unpack

from ..each_case import each_case
from .scratch import Scratch, receive
from .test_tar_reader import endless, extended, extension, read
from .trees import File, member_bytes

MIB = 1 << 20


def tar(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    """An archive of these members."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def send(sock: socket.socket, data: bytes, most: int) -> int:
    """Send an unpack request and then `data` again and again; the bytes that the helper took."""
    sock.send(pack_json({"op": "unpack", "path": "."}))
    count = 0
    try:
        while count < most:
            for start in range(0, len(data), FILE_CHUNK):
                count += sock.send(pack_data(data[start : start + FILE_CHUNK])) - 1
    except BrokenPipeError:
        pass
    return count


def answer(sock: socket.socket) -> dict[str, object]:
    packet = unpack(sock.recv(PACKET_MAX + 1))
    assert isinstance(packet, dict)
    return packet


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that holds 1 MiB and nothing beside."""
    monkeypatch.setattr(unpacking, "bytes_max", lambda home: MIB)


ENDLESS = {
    "one name again and again": tar(("f", bytes(100_000)))[: 512 + 100_352],
    "global headers": tar(("./g", b"21 comment=something\n"), kind=b"g")[:1024]
    + tar(("f", b""))[:512],
    "nothing behind the end": bytes(MIB),
}


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("data", ENDLESS.values(), ids=ENDLESS)
def test_endless_archive_is_refused_at_the_bytes_that_the_disk_holds(
    scratch: Scratch, data: bytes
) -> None:
    with scratch.helper() as sock:
        taken = send(sock, data, 64 * MIB)
        refusal = answer(sock)
    assert refusal["kind"] == "full"
    assert "more bytes than the disk" in str(refusal["error"])
    assert taken < 4 * MIB, "it was refused at once, not at its end"
    assert scratch.tree() == {} and not scratch.staged()


@pytest.mark.usefixtures("small_disk")
def test_archive_that_the_disk_holds_is_taken(scratch: Scratch) -> None:
    data = tar(("f", bytes(1_000_000)))
    with scratch.helper() as sock:
        assert send(sock, data, len(data)) == len(data)
        sock.send(pack_json({"commit": True}))
        assert answer(sock)["ok"] is True
    assert scratch.tree() == {"f": bytes(1_000_000)}


def test_bytes_of_an_archive_follow_the_disk(scratch: Scratch) -> None:
    disk = os.statvfs(scratch.home)
    home = os.open(scratch.home, os.O_RDONLY)
    try:
        most = incoming_archive.bytes_max(home)
    finally:
        os.close(home)
    size = disk.f_blocks * disk.f_frsize
    headers = archive.ENTRIES_MAX * incoming_archive.ROOM_PER_ENTRY
    assert size < most <= size + headers + incoming_archive.ROOM


def test_refused_archive_ends_while_its_sender_still_sends(scratch: Scratch) -> None:
    """The answer is there for the sender although it has data under way."""
    device = tar(("null", b""), kind=tarfile.CHRTYPE)
    with scratch.helper() as sock:
        send(sock, device + bytes(8 * MIB), 8 * MIB)
        packets = list(receive(sock))
    (refusal,) = packets
    assert isinstance(refusal, dict)
    assert refusal["kind"] == "invalid" and "device" in refusal["error"]


def inboxes(root: Path) -> None:
    for number in range(INBOXES):
        (root / "stage" / str(number)).mkdir(parents=True)
    (root / "work").mkdir()


def take_inbox(root: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The inbox that the next helper gets."""
    monkeypatch.chdir(root)
    home = os.open("work", os.O_RDONLY)
    try:
        return launcher._inbox(home)
    finally:
        os.close(home)


def test_files_of_all_killed_helpers_give_their_room_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inboxes(tmp_path)
    for number in (0, 1, 7):
        (tmp_path / f"stage/{number}/tree/d").mkdir(parents=True)
        (tmp_path / f"stage/{number}/tree/d/f").write_bytes(bytes(1000))
    os.close(take_inbox(tmp_path, monkeypatch))
    assert [path.name for path in tmp_path.glob("stage/*/*")] == []


def test_files_of_a_helper_that_lives_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inboxes(tmp_path)
    for number in (0, 3):
        (tmp_path / f"stage/{number}/0").touch()
    locks = [os.open(tmp_path / f"stage/{number}", os.O_RDONLY) for number in (0, 3)]
    for lock in locks:
        fcntl.flock(lock, fcntl.LOCK_EX)
    own = take_inbox(tmp_path, monkeypatch)
    assert os.path.samestat(os.fstat(own), os.stat(tmp_path / "stage/1"))
    assert len(list(tmp_path.glob("stage/*/*"))) == 2
    for fd in (own, *locks):
        os.close(fd)


def packed(scratch: Scratch, *match: str) -> dict[str, tarfile.TarInfo]:
    reply = scratch.ask({"op": "pack", "path": ".", "match": list(match)})
    assert reply.whole
    with tarfile.open(fileobj=io.BytesIO(reply.data)) as archive:
        return {member.name: member for member in archive}


@pytest.mark.parametrize("pattern", ["*", "**", "lates[t]", "latest?", "**/latest"])
def test_link_that_a_wildcard_matches_stays_a_link(scratch: Scratch, pattern: str) -> None:
    (scratch.home / "v1").mkdir()
    (scratch.home / "v1/f").write_text("x")
    name = "latest" if pattern != "latest?" else "latest2"
    (scratch.home / name).symlink_to("v1")
    members = packed(scratch, pattern)
    assert members[name].issym() and members[name].linkname == "v1"
    assert f"{name}/f" not in members


def test_link_that_a_plain_name_matches_gives_its_content(scratch: Scratch) -> None:
    (scratch.home / "v1").mkdir()
    (scratch.home / "v1/f").write_text("x")
    (scratch.home / "latest").symlink_to("v1")
    assert set(packed(scratch, "latest")) == {"latest", "latest/f"}


@each_case("kind", [b"x", b"X", b"g", b"L", b"K"])
def test_extended_headers_that_are_no_member_are_refused_beyond_a_few(kind: bytes) -> None:
    header = extended({b"key": b"value"}) if kind in b"xXg" else extension(kind, b"name\0")
    few = TarReader(endless(lambda _: header, HEADERS_MAX - 1))  # the member has one of its own
    assert len(list(few.members())) == 1
    with pytest.raises(Invalid, match="extended headers in a row"):
        list(TarReader(endless(lambda _: header, HEADERS_MAX + 1)).members())


def test_records_that_would_keep_the_reader_for_hours_are_refused_in_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tar_reader, "RECORDS_MAX", 25)
    member = extension(b"x", b"5 a=\n" * 10) + member_bytes(File("f"))
    assert len(read(member * 2 + bytes(1024))) == 2
    with pytest.raises(Invalid, match="records in its extended headers in or behind 'f'"):
        read(member * 3 + bytes(1024))
