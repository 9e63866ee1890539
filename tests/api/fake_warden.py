"""A warden without root: slots are directories, file helpers and shims are threads.

It speaks wire.py over a real socket pair, hands out real descriptors, and serves files with the
real file helper, so that the api's half can be tested as a whole.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import threading
import time
from pathlib import Path
from typing import Any

from sandboxd import wire
from sandboxd.files.helper import serve

from .fake_shim import FakeShim


class _Cut:
    """The socket of a helper that ends in the middle of a long answer."""

    def __init__(self, sock: socket.socket) -> None:
        self._left = 40
        self.recv = sock.recv
        self._send = sock.send

    def send(self, packet: bytes, flags: int) -> None:
        """Send the first packets."""
        self._left -= 1
        if not self._left:
            raise ConnectionError("killed")
        self._send(packet, flags)


class FakeWarden:
    """The other end of `api`; its slots live below `base`.

    log  every request and every message to a shim, by op

    The file refuse.json below `base` maps ops to the answer to give instead; "die" as an op
    makes the warden go away, {"dies": true} at that op;
    {"waits": true} lets it wait, with a file called waits, until the file says so no more. With a
    file called cut, helpers end in the middle of what they send. The file ready appears when the
    api is.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.api, self._sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.log: list[str] = []
        self.sessions: dict[int, str] = {}
        self._slots = itertools.count()
        self._shims: dict[int, list[FakeShim]] = {}
        threading.Thread(target=self._serve, daemon=True).start()

    def home(self, slot: int) -> Path:
        """The work directory of a slot."""
        return self.base / str(slot) / "home"

    def _refusals(self) -> dict[str, Any]:
        path = self.base / "refuse.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def _serve(self) -> None:
        with contextlib.suppress(ConnectionError):  # the api has ended
            self._answer_all()

    def _answer_all(self) -> None:
        while True:
            message, fds = wire.receive(self._sock)
            if message is None:
                return
            op, id = message["op"], message["id"]
            self.log.append(op)
            refuse = self._refusals()
            refusal = refuse.get(op, {})
            if "die" in refuse or "dies" in refusal:
                self._sock.shutdown(socket.SHUT_RDWR)
                return
            while self._refusals().get(op, {}).get("waits"):
                (self.base / "waits").touch()
                time.sleep(0.01)
            refusal.pop("waits", None)
            if refusal:
                wire.close_all(fds)
                wire.send(self._sock, {"id": id, "ok": False} | refusal)
                continue
            answer, back = getattr(self, f"_do_{op}")(message, fds)
            wire.send(self._sock, {"id": id, "ok": True} | answer, back)
            wire.close_all(back)

    def _do_ready(self, _: dict[str, Any], __: list[int]) -> tuple[dict[str, Any], list[int]]:
        (self.base / "ready").touch()
        return {}, []

    def _do_ping(self, _: dict[str, Any], __: list[int]) -> tuple[dict[str, Any], list[int]]:
        return {"vitals": {"resident_memory_bytes": 4096, "open_fds": 7}}, []

    def _do_sweep(self, _: dict[str, Any], __: list[int]) -> tuple[dict[str, Any], list[int]]:
        path = self.base / "report.json"
        slots = [{"slot": slot, "session": session} for slot, session in self.sessions.items()]
        report = {"strays": [], "kept": [], "folders": [], "stuck": [], "seconds": 0, "fault": ""}
        told = json.loads(path.read_text()) if path.exists() else {}
        fd = os.memfd_create("report")
        os.write(fd, json.dumps({"slots": slots} | report | told).encode())
        return {}, [fd]

    def _do_lease(self, message: dict[str, Any], _: list[int]) -> tuple[dict[str, Any], list[int]]:
        slot = next(self._slots)
        self.sessions[slot] = message["session"]
        for name in ("home", "stage"):
            (self.base / str(slot) / name).mkdir(parents=True)
        for mount in message["mounts"]:
            (self.home(slot) / mount["name"]).mkdir()
        return {"slot": slot}, []

    def _do_adopt(self, message: dict[str, Any], _: list[int]) -> tuple[dict[str, Any], list[int]]:
        slot = message["slot"]
        if not self.home(slot).exists():
            return {"ok": False, "kind": "invalid", "error": "nothing is there"}, []
        self.sessions[slot] = message["session"]
        self._slots = itertools.count(slot + 1)
        return {}, []

    def _do_start(
        self, message: dict[str, Any], fds: list[int]
    ) -> tuple[dict[str, Any], list[int]]:
        slot, run = message["slot"], message["run"]
        spool = self.base / str(slot) / f"run{run}"
        shim = FakeShim(message, fds[0] if fds else None, self.home(slot), spool, self.log)
        told = os.open(spool / "cursor", os.O_RDWR | os.O_CREAT)
        back = [shim.theirs.detach(), os.dup(shim.console), os.dup(shim.journal), told]
        self._shims.setdefault(slot, []).append(shim)
        shim.start()
        return {}, back

    def _do_follow(self, message: dict[str, Any], _: list[int]) -> tuple[dict[str, Any], list[int]]:
        spool = self.base / str(message["slot"]) / f"run{message['run']}"
        if not spool.exists():
            return {"there": False}, []
        gone, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        gone.close()  # its shim was a thread of the warden before
        names = ("console", "journal", "cursor")
        return {"there": True}, [ours.detach(), *(os.open(spool / n, os.O_RDWR) for n in names)]

    def _do_forget(self, message: dict[str, Any], _: list[int]) -> tuple[dict[str, Any], list[int]]:
        for run in message["runs"]:
            shutil.rmtree(self.base / str(message["slot"]) / f"run{run}", ignore_errors=True)
        return {}, []

    def _do_files(self, message: dict[str, Any], _: list[int]) -> tuple[dict[str, Any], list[int]]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        slot = message["slot"]
        threading.Thread(target=self._help, args=(slot, ours), daemon=True).start()
        return {}, [theirs.detach()]

    def _do_folder_make(
        self, message: dict[str, Any], _: list[int]
    ) -> tuple[dict[str, Any], list[int]]:
        for name in ("home", "stage", "uploads"):
            (self.base / message["folder"] / name).mkdir(parents=True)
        return {}, []

    def _do_folder_files(
        self, message: dict[str, Any], _: list[int]
    ) -> tuple[dict[str, Any], list[int]]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        args = (message["folder"], ours, True)
        threading.Thread(target=self._help, args=args, daemon=True).start()
        return {}, [theirs.detach()]

    def _do_folder_remove(
        self, message: dict[str, Any], _: list[int]
    ) -> tuple[dict[str, Any], list[int]]:
        shutil.rmtree(self.base / message["folder"], ignore_errors=True)
        return {}, []

    def _help(self, place: int | str, sock: socket.socket, of_folder: bool = False) -> None:
        names = ["home", "stage"] + (["uploads"] if of_folder else [])
        flags = os.O_RDONLY | os.O_DIRECTORY
        places = [os.open(self.base / str(place) / name, flags) for name in names]
        cut = (self.base / "cut").exists()
        try:
            serve(_Cut(sock) if cut else sock, *places)  # type: ignore[arg-type]  # a stand-in
        finally:
            wire.close_all(places)
            sock.close()

    def _do_release(
        self, message: dict[str, Any], _: list[int]
    ) -> tuple[dict[str, Any], list[int]]:
        self._release(message["slot"])
        return {}, []

    def _release(self, slot: int) -> None:
        self.sessions.pop(slot, None)
        for shim in self._shims.pop(slot, []):
            shim.kill()
        shutil.rmtree(self.base / str(slot), ignore_errors=True)
