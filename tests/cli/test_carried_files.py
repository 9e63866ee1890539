"""Files that are carried out of a session, as a hostile program may forge them."""

from __future__ import annotations

import base64
import io
import tarfile
from typing import Any

import pytest

from sandboxd.cli.connection.client import Client
from sandboxd.cli.step.carried_files import ROOM, carry_in, carry_out
from sandboxd.errors import ConfigError, Unavailable


class FakeClient(Client):
    """A session whose runs print `output`, in responses of a few bytes."""

    def __init__(self, output: bytes = b"", exit_code: int = 0) -> None:
        self.calls: list[dict[str, Any]] = []
        pieces = [output[i : i + 5000] for i in range(0, len(output), 5000)] or [b""]
        self._pieces, self._exit = pieces, exit_code

    def call(self, method: str, path: str, body: Any = None, **_: Any) -> Any:
        self.calls.append(body)
        data = base64.b64encode(self._pieces.pop(0)).decode()
        more = bool(self._pieces)
        return {
            "result": {
                "status": "continued" if more else "finished",
                "exitCode": None if more else self._exit,
                "console": [["stdout", data]],
                "runId": "r",
                "offset": {"console": 0, "steps": 0},
            }
        }


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def link(name: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/shadow"
    return member, b""


def test_files_go_in_and_come_out_whole() -> None:
    content = bytes(range(256)) * 100
    client = FakeClient()
    carry_in(client, "s", "/tmp/x", {"a": content})
    packed = base64.b64decode(client.calls[0]["options"]["stdin"])
    client = FakeClient(tar((tarfile.TarInfo("a"), content)))
    assert carry_out(client, "s", "/tmp/x", ["a"]) == {"a": content}
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        file = archive.extractfile("a")
        assert file and file.read() == content


def test_forged_names_links_and_devices_are_left_out() -> None:
    good = tarfile.TarInfo("a"), b"1"
    bad = [(tarfile.TarInfo(name), b"x") for name in ("../a", "/etc/passwd", "b")]
    data = tar(good, *bad, link("c"), link("d", tarfile.LNKTYPE), link("e", tarfile.CHRTYPE))
    assert carry_out(FakeClient(data), "s", "/tmp/x", ["a", "c", "d", "e"]) == {"a": b"1"}


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100, tar()[:100]])
def test_output_that_is_no_tar_carries_nothing(data: bytes) -> None:
    assert carry_out(FakeClient(data), "s", "/tmp/x", ["a"]) == {}


def forged(size: int = 1, **records: str) -> bytes:
    """A tar with the file "a" and one more, whose size or records are no honest ones."""
    member = tarfile.TarInfo("b")
    member.size, member.pax_headers = size, {key.replace("_", "."): records[key] for key in records}
    content = tar((tarfile.TarInfo("a"), b"1"))[:1024]
    return content + member.tobuf(tarfile.PAX_FORMAT) + bytes(4096)


@pytest.mark.parametrize(
    "data",
    [forged(GNU_sparse_map="x"), forged(size=-1024), forged(size=1 << 70), forged(size=ROOM)],
    ids=["sparse", "negative", "huge", "cut"],
)
def test_member_that_no_tar_has_ends_the_files_and_not_the_command(data: bytes) -> None:
    """The reader of Python fails with any kind of error on these, or never ends."""
    assert carry_out(FakeClient(data), "s", "/tmp/x", ["a", "b"]) == {"a": b"1"}


def test_files_have_one_room_together() -> None:
    half = bytes(ROOM * 2 // 3)
    data = tar(*((tarfile.TarInfo(name), half) for name in "ab"))
    assert carry_out(FakeClient(data), "s", "/tmp/x", ["a", "b"]) == {"a": half}


def test_forged_tar_that_never_ends_is_cut() -> None:
    client = FakeClient(b"\0" * (8 * ROOM))
    assert carry_out(client, "s", "/tmp/x", ["a"]) == {}
    assert len(client.calls) < 5 * ROOM // 5000


def test_more_bytes_than_have_room_are_refused_before_the_run() -> None:
    with pytest.raises(ConfigError, match="more than"):
        carry_in(FakeClient(), "s", "/tmp/x", {"a": bytes(ROOM + 1)})


def test_session_that_takes_no_files_is_an_error() -> None:
    with pytest.raises(Unavailable, match="exit code 2"):
        carry_in(FakeClient(exit_code=2), "s", "/tmp/x", {"a": b""})
