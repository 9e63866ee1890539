"""The file helper and its client, each with a peer that sends anything, over real sockets."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from sandboxd.api.processes.file_client import HelperPermits, all_helper_permits
from sandboxd.api.routes.files import opened
from sandboxd.errors import SandboxdError, Unavailable
from sandboxd.files import commit, helper
from sandboxd.runs.channel import Channel
from sandboxd.wire.file_calls import FILE_CHUNK, FileWireError, pack_data, unpack

from .test_messages import socket_pair
from .values import changed, effort, encoded, packets, small_effort

UPLOAD = "0" * 32
REQUESTS: tuple[dict[str, Any], ...] = (
    {"op": "upload"},
    {"op": "unpack", "path": "."},
    {"op": "pack", "path": ".", "match": ["**", "sub/*"]},
    {"op": "list", "path": ".", "form": "items"},
    {"op": "read", "path": "file", "start": 0, "end": 3},
    {"op": "stat", "path": "file"},
    {"op": "usage"},
    {"op": "archive", "paths": ["file", "sub"]},
    {"op": "created", "path": ".", "since": 0},
    {"op": "mkdir", "paths": ["new"], "parents": True, "exist_ok": True},
    {"op": "rename", "path": "file", "name": "other"},
    {"op": "move", "path": "file", "to": "sub"},
    {"op": "remove", "paths": ["sub"], "recursive": True},
    {"op": "begin", "upload": UPLOAD, "file": "up", "size": 3, "keep": [UPLOAD]},
    {"op": "append", "upload": UPLOAD, "file": "up", "size": 3},
    {"file": "file", "mode": 420},
    {"commit": True},
)


def json_packet(message: dict[str, Any]) -> bytes:
    return b"J" + encoded(message)


requests = st.sampled_from(REQUESTS).flatmap(changed).map(json_packet)
any_packet = (
    requests
    | st.binary(min_size=1, max_size=FILE_CHUNK // 64).map(pack_data)
    | packets.map(lambda packet: b"J" + packet)
    | packets.filter(bool)
)


@effort
@hypothesis.given(any_packet)
def test_packet_is_unpacked_or_refused(packet: bytes) -> None:
    try:
        assert isinstance(unpack(packet), dict | bytes)
    except FileWireError:
        pass


# -- api -> helper


class Folder:
    """A folder whose files come back for each conversation."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.outside = base / "outside"
        self.outside.write_text("untouched")

    def fill(self) -> tuple[int, int, int]:
        """Descriptors of the home, stage and uploads directories."""
        for name in ("home", "stage", "uploads"):
            shutil.rmtree(self.base / name, ignore_errors=True)
            (self.base / name).mkdir()
        (self.base / "home" / "file").write_text("abc")
        (self.base / "home" / "sub").mkdir()
        (self.base / "home" / "sub" / "link").symlink_to("../../outside")
        home, stage, uploads = (
            os.open(self.base / name, os.O_RDONLY) for name in ("home", "stage", "uploads")
        )
        return home, stage, uploads


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("folder"))


@small_effort
@hypothesis.given(requests, st.lists(any_packet, max_size=4))
def test_helper_answers_any_packets_and_changes_nothing_outside_of_its_folder(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, first: bytes, rest: list[bytes]
) -> None:
    monkeypatch.setattr(commit, "sync_file_system", lambda fd: None)
    errors: list[BaseException] = []
    with socket_pair() as (api, end):
        descriptors = folder.fill()

        def serve() -> None:
            try:
                helper.serve(end, *descriptors)
            except BaseException as error:  # the test fails with it
                errors.append(error)
            finally:
                end.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            for packet in (first, *rest):
                api.send(packet, socket.MSG_NOSIGNAL)
            api.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the helper has ended, or hears nothing more
        answers = _answers(api)
        thread.join()
        for descriptor in descriptors:
            os.close(descriptor)
    assert not errors, errors
    assert all(isinstance(unpack(answer), dict | bytes) for answer in answers)
    assert folder.outside.read_text() == "untouched"


def _answers(api: socket.socket) -> list[bytes]:
    """All packets of the helper, to its end."""
    answers = []
    try:
        while packet := api.recv(1 << 20):
            answers.append(packet)
    except ConnectionError:
        pass
    return answers


# -- helper -> api

ANSWERS: tuple[dict[str, Any], ...] = (
    {"ok": True, "path": "/home/work", "size": 3, "name": "n", "offset": 0, "names": ["a"]},
    {"ok": False, "kind": "missing", "error": "x"},
    {"end": True, "errors": ""},
    {"part": "a", "left_out": {"fifo": 1}},
)
answers = (
    st.sampled_from(ANSWERS).flatmap(changed).map(json_packet)
    | st.binary(min_size=1, max_size=64).map(pack_data)
    | packets.filter(bool)
)


class HostileFiles:
    """The owner of files whose helper is the other end of a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.helpers = HelperPermits(all_helper_permits(), "owner")
        self._sock = sock

    async def open_helper(self) -> Channel:
        return Channel(self._sock)

    def helper_gone(self) -> SandboxdError:
        return Unavailable("gone")

    def client_message(self, text: str) -> str:
        return text


@small_effort
@hypothesis.given(st.lists(answers, max_size=4))
def test_client_of_a_hostile_helper_gets_data_or_an_error_of_sandboxd(sent: list[bytes]) -> None:
    async def attending() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def converse() -> None:
        files, client = HostileFiles(ours), None
        try:
            question = {"op": "read", "path": "x"}
            client, _ = await opened(Request({"type": "http"}, attending), files, question)
            async for packet in client.data():
                assert isinstance(packet, bytes | dict)
        except SandboxdError:
            pass
        finally:
            if client:
                client.close()

    with socket_pair() as (ours, theirs):
        for packet in sent:
            theirs.send(packet)
        theirs.shutdown(socket.SHUT_WR)
        asyncio.run(converse())
