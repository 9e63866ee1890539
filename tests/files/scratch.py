"""A session's scratch in a temporary directory, and the api's end of a file helper for it."""

from __future__ import annotations

import io
import json
import os
import socket
import tarfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandboxd.files import helper
from sandboxd.host.descriptors import close_others
from sandboxd.wire.file_calls import FILE_CHUNK, PACKET_MAX, pack_data, pack_json, unpack

from ..waiting import PATIENCE_S

Files = list[tuple[str, bytes]]


@dataclass
class Part:
    """One tar of an archive answer."""

    base: str
    left_out: dict[str, int]
    data: bytes = b""

    def members(self) -> dict[str, tarfile.TarInfo]:
        with tarfile.open(fileobj=io.BytesIO(self.data), mode="r:") as tar:
            return {member.name: member for member in tar}

    def content(self, name: str) -> bytes:
        with tarfile.open(fileobj=io.BytesIO(self.data), mode="r:") as tar:
            file = tar.extractfile(name)
            assert file is not None
            return file.read()


@dataclass
class Answer:
    """The answer of the helper: the JSON packets, and the data between them joined."""

    packets: list[dict[str, Any]] = field(default_factory=list)
    data: bytes = b""
    parts: list[Part] = field(default_factory=list)

    @property
    def first(self) -> dict[str, Any]:
        return self.packets[0]

    @property
    def kind(self) -> str | None:
        """None for a request that was granted."""
        return None if self.first["ok"] else str(self.first["kind"])

    @property
    def whole(self) -> bool:
        return bool(self.packets[-1].get("end"))

    def take(self, packet: dict[str, Any] | bytes) -> None:
        if isinstance(packet, bytes):
            if self.parts:
                self.parts[-1].data += packet
            self.data += packet
            return
        self.packets.append(packet)
        if "part" in packet:
            self.parts.append(Part(packet["part"], packet["left_out"]))


def receive(sock: socket.socket) -> Iterator[dict[str, Any] | bytes]:
    """The packets that come over `sock` up to its end."""
    while packet := sock.recv(PACKET_MAX + 1):
        yield unpack(packet)


class Scratch:
    """`home` and `stage` as the warden makes them, `outside` a place that must stay untouched."""

    def __init__(self, root: Path) -> None:
        self.home, self.stage, self.outside = root / "work", root / "stage/0", root / "outside"
        for directory in (self.home, self.stage, self.outside):
            directory.mkdir(parents=True)
        (self.outside / "secret").write_text("the secret")

    @contextmanager
    def helper(self) -> Iterator[socket.socket]:
        """The api's end of a conversation; the helper has ended when the block is left."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(PATIENCE_S)
        thread = threading.Thread(target=self._serve, args=(theirs,))
        thread.start()
        try:
            yield ours
        finally:
            ours.close()
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "the helper outlived its peer"

    @contextmanager
    def forked(
        self, prepare: Callable[[], None], judge: Callable[[], bool] = lambda: True
    ) -> Iterator[socket.socket]:
        """As `helper`, in a process of its own: `prepare` before it serves, `judge` after it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(PATIENCE_S)
        home, stage = (os.open(path, os.O_RDONLY) for path in (self.home, self.stage))
        pid = os.fork()
        if pid == 0:
            try:
                close_others([theirs.fileno(), home, stage], to_null=())  # of other tests, too
                prepare()
                helper.serve(theirs, home, stage)
                os._exit(0 if judge() else 2)
            finally:
                os._exit(1)
        theirs.close()
        os.close(home)
        os.close(stage)
        try:
            yield ours
        finally:
            ours.close()
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def _serve(self, theirs: socket.socket) -> None:
        home, stage = (os.open(path, os.O_RDONLY) for path in (self.home, self.stage))
        try:
            with theirs:
                helper.serve(theirs, home, stage)
        finally:
            os.close(home)
            os.close(stage)

    def ask(self, request: dict[str, Any], uid: int | None = None) -> Answer:
        """The whole answer to a request; with `uid` from a helper of that user."""
        answer = Answer()
        ways = self.helper() if uid is None else self.forked(lambda: become(uid))
        with ways as sock:
            sock.send(pack_json(request))
            for packet in receive(sock):
                answer.take(packet)
        return answer

    def upload(self, files: Files, uid: int | None = None) -> str | None:
        """None when the files were taken, else the kind of the refusal."""
        ways = self.helper() if uid is None else self.forked(lambda: become(uid))
        with ways as sock:
            send_files(sock, files)
            sock.send(pack_json({"commit": True}))
            answer = next(receive(sock))
        assert isinstance(answer, dict)
        assert not self.staged()
        return None if answer["ok"] else str(answer["kind"])

    def entries(self, path: str = ".") -> dict[str, dict[str, Any]]:
        """A listing, by name."""
        answer = self.ask({"op": "list", "path": path})
        assert answer.whole
        return {entry["filename"]: entry for entry in json.loads(answer.data)}

    def archive(self, *paths: str) -> list[Part]:
        answer = self.ask({"op": "archive", "paths": list(paths)})
        assert answer.whole
        return answer.parts

    def staged(self) -> list[str]:
        return os.listdir(self.stage)

    def tree(self) -> dict[str, bytes]:
        """All of the workdir: files with their content, the others with their kind."""
        contents: dict[str, bytes] = {}
        for folder, folders, files in os.walk(self.home):
            for name in folders + files:
                path = os.path.join(folder, name)
                plain = os.path.isfile(path) and not os.path.islink(path)
                relative = os.path.relpath(path, self.home)
                contents[relative] = Path(path).read_bytes() if plain else b"special"
        return contents

    def untouched_outside(self) -> bool:
        return os.listdir(self.outside) == ["secret"]


def send_files(sock: socket.socket, files: Files) -> None:
    """An upload request without its commit."""
    sock.send(pack_json({"op": "upload"}))
    for name, content in files:
        sock.send(pack_json({"file": name, "mode": 0o644}))
        for start in range(0, len(content), FILE_CHUNK):
            sock.send(pack_data(content[start : start + FILE_CHUNK]))


def become(uid: int) -> None:
    """Give root up, as the warden's child does before it serves."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def little_memory() -> bool:
    """Whether this process, since tracemalloc.start(), never held more than 1 MiB."""
    return tracemalloc.get_traced_memory()[1] < 1 << 20
