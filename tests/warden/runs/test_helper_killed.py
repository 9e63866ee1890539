"""A file helper that is killed as it puts an archive into place, and the launcher of the next."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sandboxd.files import commit
from sandboxd.warden.runs.worker import Worker
from sandboxd.wire.file_calls import PACKET_MAX, pack_data, pack_json
from sandboxd.wire.file_calls import unpack as unpack_packet

from ...files.trees import File, directory, identities, link, tar
from ...sandbox import Sandbox
from ...waiting import PATIENCE_S

OLD = tar(
    directory("d", 0o755, 1), *(File(f"d/f{n}", b"old", ns=n) for n in range(4)),
    File("f", b"old"), link("l", "f"),
)  # fmt: skip
NEW = tar(
    *(File(f"d/f{n}", b"new") for n in range(4)), directory("d", 0o555, 2), File("f", b"new"),
    link("l", "d"), File("new/x"), directory("new", 0), File("a"),
)  # fmt: skip


@contextmanager
def helper(sandbox: Sandbox) -> Iterator[tuple[socket.socket, Worker]]:
    """A file helper, and the api's end of its socket."""
    before = [worker.pid for worker in sandbox.warden.workers.all()]
    (fd,) = sandbox.warden.request("files", **sandbox.name).descriptors
    (worker,) = (one for one in sandbox.warden.workers.all() if one.pid not in before)
    try:
        with socket.socket(fileno=fd) as sock:
            sock.settimeout(PATIENCE_S)
            yield sock, worker
    finally:
        os.waitpid(worker.pid, 0)
        sandbox.warden.workers.collected(worker.pid, 0)


def ask(sock: socket.socket, data: bytes) -> dict[str, Any] | None:
    """The answer to an unpack request; None: the helper is gone."""
    sock.send(pack_json({"op": "unpack", "path": "."}))
    sock.send(pack_data(data))
    sock.send(pack_json({"commit": True}))
    packet = sock.recv(PACKET_MAX)
    answer = unpack_packet(packet) if packet else None
    assert not isinstance(answer, bytes)
    return answer


def unpacked(sandbox: Sandbox, data: bytes) -> bool:
    with helper(sandbox) as (sock, _):
        answer = ask(sock, data)
    return bool(answer and answer["ok"])


def work(sandbox: Sandbox) -> Path:
    return Path(sandbox.slot.scratch, "work")


def staged(sandbox: Sandbox) -> list[str]:
    stage = Path(sandbox.slot.scratch, "stage")
    return [f"{inbox.name}/{name}" for inbox in stage.iterdir() for name in os.listdir(inbox)]


@contextmanager
def killed_before(step: int | str) -> Iterator[None]:
    """Helpers that begin meanwhile kill themselves before the move of this number, or before they
    finish the directories."""
    with pytest.MonkeyPatch.context() as patch:
        count = iter(range(1_000_000))
        original = commit._do

        def do(home: int, tree: int, move: Any) -> None:
            if next(count) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            original(home, tree, move)

        def finish(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        patch.setattr(commit, "_do", do)
        if step == "finish":
            patch.setattr(commit, "_finish", finish)
        yield


@pytest.mark.parametrize("step", [0, 1, 5, 7])
def test_next_helper_takes_back_what_a_killed_one_has_moved(sandbox: Sandbox, step: int) -> None:
    assert unpacked(sandbox, OLD)
    before = identities(work(sandbox))
    with killed_before(step):
        assert not unpacked(sandbox, NEW)
    assert (identities(work(sandbox)) == before) == (step == 0)
    assert staged(sandbox)
    with helper(sandbox) as (sock, _):
        sock.send(pack_json({"op": "list", "path": "."}))
        assert sock.recv(PACKET_MAX)
        assert identities(work(sandbox)) == before
    assert staged(sandbox) == []
    assert unpacked(sandbox, NEW)


def test_next_helper_finishes_what_a_killed_one_has_moved_as_a_whole(sandbox: Sandbox) -> None:
    assert unpacked(sandbox, OLD)
    with killed_before("finish"):
        assert not unpacked(sandbox, NEW)
    assert unpacked(sandbox, tar())
    states = {name: state for name, (_, state) in identities(work(sandbox)).items()}
    assert states["d"][:3] == ("directory", 0o555, 2)
    assert states["new"][1] == 0
    assert states["d/f0"][3] == states["a"][3] == b"new"
    assert staged(sandbox) == []


def test_list_in_an_inbox_that_the_next_helper_does_not_use_is_taken_back_too(
    sandbox: Sandbox,
) -> None:
    assert unpacked(sandbox, OLD)
    before = identities(work(sandbox))
    with helper(sandbox) as (first, _):
        first.send(pack_json({"op": "unpack", "path": "."}))
        first.send(pack_data(OLD[:512]))
        while not staged(sandbox):
            pass
        with killed_before(3):
            assert not unpacked(sandbox, NEW)
        assert {name.split("/")[0] for name in staged(sandbox)} == {"0", "1"}
    with helper(sandbox) as (sock, _):
        sock.send(pack_json({"op": "list", "path": "."}))
        assert sock.recv(PACKET_MAX)
    assert identities(work(sandbox)) == before


def test_helper_in_the_middle_of_its_steps_is_left_alone(sandbox: Sandbox) -> None:
    """It is stopped there: its lock holds, and another helper takes nothing back from it."""
    assert unpacked(sandbox, OLD)
    with pytest.MonkeyPatch.context() as patch:
        original, count = commit._do, iter(range(1_000_000))

        def do(home: int, tree: int, move: Any) -> None:
            if next(count) == 4:
                os.kill(os.getpid(), signal.SIGSTOP)
            original(home, tree, move)

        patch.setattr(commit, "_do", do)
        with helper(sandbox) as (sock, worker):
            sock.send(pack_json({"op": "unpack", "path": "."}))
            sock.send(pack_data(NEW))
            sock.send(pack_json({"commit": True}))
            os.waitpid(worker.pid, os.WUNTRACED)
            half = identities(work(sandbox))
            with helper(sandbox) as (second, _):
                second.send(pack_json({"op": "stat", "path": "."}))
                assert second.recv(PACKET_MAX)
            assert identities(work(sandbox)) == half
            os.kill(worker.pid, signal.SIGCONT)
            answer = unpack_packet(sock.recv(PACKET_MAX))
            assert isinstance(answer, dict)
            assert answer["ok"]
    assert staged(sandbox) == []
