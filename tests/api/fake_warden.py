"""A warden without root: slots are directories, file helpers and shims are threads.

It receives and checks requests with the code of the real warden (warden/requests/, `OPS`), so
that a request that the real one refuses fails here too. It returns real descriptors and serves
files with the real file helper.
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
from collections.abc import Set
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sandboxd.errors import Invalid, SandboxdError, StageError, Unavailable
from sandboxd.files.helper import serve
from sandboxd.model import Attachment, NetworkGrant, Step, Workspace
from sandboxd.warden.requests.dispatcher import Act, Dispatcher, acts_of
from sandboxd.warden.requests.replies import PendingReply, Result
from sandboxd.wire import messages

from .fake_shim import FakeShim


class _Cut:
    """The socket of a helper that ends in the middle of a long answer."""

    def __init__(self, sock: socket.socket) -> None:
        self._left = 40
        self.fileno, self.recv = sock.fileno, sock.recv
        self._send = sock.send

    def send(self, packet: bytes, flags: int) -> None:
        """Send the first packets."""
        self._left -= 1
        if not self._left:
            raise ConnectionError("killed")
        self._send(packet, flags)


class FakeWarden:
    """The other end of `api`; its slots live below `base`.

    The file refuse.json below `base` maps requests to errors that they get instead of a result.
    {"dies": true} ends the warden at that request, {"waits": true} delays it until the file says
    so no more, with a file called waits meanwhile, and "die" as the name of a request ends the
    warden at any.
    """

    def __init__(self, base: Path) -> None:
        self.api, self._sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._base = base
        acts = acts_of(FakeActs(base))
        self._dispatcher = Dispatcher(
            self._sock, {name: self._refusable(name, act) for name, act in acts.items()}
        )
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(ConnectionError):  # the api has ended
            while self._dispatcher.serve_one():
                pass

    def _refusable(self, name: str, act: Act) -> Act:
        """`act`, unless refuse.json has an error for requests called `name`."""

        def act_or_refuse(*reply: PendingReply, **arguments: Any) -> Result | None:
            path = self._base / "refuse.json"

            def read() -> dict[str, Any]:
                return json.loads(path.read_text()) if path.exists() else {}

            refusals = read()
            refusal = refusals.get(name, {})
            if "die" in refusals or "dies" in refusal:
                self._sock.shutdown(socket.SHUT_RDWR)
                raise Unavailable("the fake warden is gone")
            while read().get(name, {}).get("waits"):
                (self._base / "waits").touch()
                time.sleep(0.01)
            refusal.pop("waits", None)
            if refusal:
                raise _error(**refusal)
            return act(*reply, **arguments)

        return act_or_refuse


def _error(kind: str, error: str, stage: str = "", errno: int = 0) -> SandboxdError:
    if kind == "stage":
        return StageError(stage, error, errno)
    kinds = {"invalid": Invalid, "unavailable": Unavailable}
    return kinds.get(kind, SandboxdError)(error)


class FakeActs:
    """The act of each request, on directories below `base`.

    With a file called cut there, helpers end in the middle of their answer. The file ready appears
    when the api is ready, the file fork_errno has the errno of the last fork, and report.json has
    parts of the report of a sweep; the slots in it count as leased. With a file called name,
    a lease comes with its descriptor, as the lease of a spare does.
    """

    def __init__(self, base: Path) -> None:
        self._base = base
        self._inboxes = itertools.count()
        self._sessions: dict[int, str] = {}
        self._reported: dict[int, str] = {}
        self._numbers = itertools.count()
        self._shims: dict[int, list[FakeShim]] = {}
        self._helpers: dict[Path, list[tuple[threading.Thread, socket.socket]]] = {}

    def _slot(self, slot: int, session: str) -> Path:
        """The directory of a slot that is leased to `session`."""
        if session not in (self._sessions.get(slot), self._reported.get(slot)):
            raise Invalid(f"slot {slot} is not leased to this session")
        return self._base / str(slot)

    def ready(self, reply: PendingReply) -> None:
        for path in self._base.iterdir():  # slots that no session has adopted
            if path.name.isdecimal() and int(path.name) not in self._sessions:
                shutil.rmtree(path)
        (self._base / "ready").touch()
        reply.succeed()

    def ping(self) -> Result:
        path = self._base / "fork_errno"
        code = int(path.read_text()) if path.exists() else 0
        vitals = {"resident_memory_bytes": 4096, "open_fds": 7, "fork_errno": code}
        return Result({"vitals": vitals})

    def sweep(self, reply: PendingReply) -> None:
        path = self._base / "report.json"
        parts = json.loads(path.read_text()) if path.exists() else {}
        self._reported = {one["slot"]: one["session"] for one in parts.get("slots", [])}
        slots = [{"slot": slot, "session": session} for slot, session in self._sessions.items()]
        report = {"leaks": [], "kept": [], "folders": [], "stuck": [], "seconds": 0, "fault": ""}
        fd = os.memfd_create("report")
        os.write(fd, json.dumps({"slots": slots} | report | parts).encode())
        reply.succeed(Result(descriptors=[fd]))

    def grant(self, reply: PendingReply, session: str, path: str, place: str, peer: int) -> None:
        """A directory whose name has "foreign" belongs to another user."""
        if "foreign" in path:
            raise Invalid(f"{path} does not belong to the user 1000")
        reply.succeed(Result({"uid": 1000, "gid": 100, "seal": "00" * 32}))

    def lease(
        self,
        reply: PendingReply,
        session: str,
        owner: str,
        size: int,
        inodes: int,
        attachments: tuple[Attachment, ...],
        network: NetworkGrant | None,
        workspace: Workspace | None,
    ) -> None:
        slot = next(self._numbers)
        self._sessions[slot] = session
        for name in ("home", "stage", "tmp"):
            (self._base / str(slot) / name).mkdir(parents=True)
        for attachment in attachments:
            (self._base / str(slot) / "home" / attachment.name).mkdir()
        path = self._base / "name"
        names = [os.open(path, os.O_RDONLY | os.O_CLOEXEC)] if path.exists() else []
        reply.succeed(Result({"slot": slot}, names))

    def adopt(
        self,
        reply: PendingReply,
        slot: int,
        session: str,
        owner: str,
        attachments: tuple[Attachment, ...],
        network: NetworkGrant | None,
        workspace: Workspace | None,
        runs: Set[int],
    ) -> None:
        if not (self._base / str(slot) / "home").exists():
            raise Invalid(f"slot {slot} does not hold session {session}")
        self._sessions[slot] = session
        self._numbers = itertools.count(slot + 1)
        reply.succeed()

    def start(
        self,
        slot: int,
        session: str,
        run: int,
        shell: str,
        steps: tuple[Step, ...],
        environ: dict[str, str],
        terminal: bool,
        interactive: bool,
        runtime: str,
        stdin: int | None,
    ) -> Result:
        path = self._slot(slot, session)
        spool = path / f"run{run}"
        request = {
            "steps": [asdict(step) for step in steps], "environ": environ, "terminal": terminal,
            "interactive": interactive,
        }  # fmt: skip
        stdin = None if stdin is None else os.dup(stdin)
        shim = FakeShim(request, stdin, path / "home", spool, [])
        cursor = os.open(spool / "cursor", os.O_RDWR | os.O_CREAT)
        fds = [shim.theirs.detach(), os.dup(shim.console), os.dup(shim.journal), cursor]
        self._shims.setdefault(slot, []).append(shim)
        shim.start()
        return Result(descriptors=fds)

    def follow(self, slot: int, session: str, run: int, begun: bool) -> Result:
        spool = self._slot(slot, session) / f"run{run}"
        if not spool.exists():
            return Result({"there": False})
        ended, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ended.close()  # its shim was a thread of the warden before
        names = ("console", "journal", "cursor")
        fds = [ours.detach(), *(os.open(spool / name, os.O_RDWR) for name in names)]
        return Result({"there": True}, fds)

    def forget(self, slot: int, session: str, runs: Set[int]) -> Result:
        for run in runs:
            shutil.rmtree(self._slot(slot, session) / f"run{run}", ignore_errors=True)
        return Result()

    def files(self, slot: int, session: str) -> Result:
        return self._helper(self._slot(slot, session), tmp="tmp")

    def release(self, reply: PendingReply, slot: int, session: str) -> None:
        path = self._slot(slot, session)
        self._sessions.pop(slot, None)
        for shim in self._shims.pop(slot, []):
            shim.kill()
        self._remove(path)
        reply.succeed()

    def folder_make(self, reply: PendingReply, folder: str, size: int, inodes: int) -> None:
        for name in ("home", "stage", "uploads"):
            (self._base / folder / name).mkdir(parents=True)
        reply.succeed()

    def folder_files(self, reply: PendingReply, folder: str) -> None:
        reply.succeed(self._helper(self._base / folder, "uploads"))

    def folder_remove(self, reply: PendingReply, folder: str) -> None:
        self._remove(self._base / folder)
        reply.succeed()

    def _remove(self, path: Path) -> None:
        """End the file helpers of `path`, which would make files meanwhile, and remove it."""
        for thread, sock in self._helpers.pop(path, []):
            with contextlib.suppress(OSError):  # it has ended
                sock.shutdown(socket.SHUT_RDWR)
            thread.join()
        if path.exists():
            shutil.rmtree(path)

    def _helper(self, path: Path, *names: str, tmp: str = "") -> Result:
        """Start a file helper in a thread, for the directories of `path`: home, an inbox that no
        other helper has, `names`, and `tmp`."""
        inbox = f"stage/{next(self._inboxes)}"
        (path / inbox).mkdir()
        names = ("home", inbox, *names)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        directories = [os.open(path / name, os.O_RDONLY | os.O_DIRECTORY) for name in names]
        own_tmp = os.open(path / tmp, os.O_RDONLY | os.O_DIRECTORY) if tmp else None
        arguments = (directories, own_tmp, ours)
        thread = threading.Thread(target=self._help, args=arguments, daemon=True)
        thread.start()
        self._helpers.setdefault(path, []).append((thread, ours))
        return Result(descriptors=[theirs.detach()])

    def _help(self, directories: list[int], tmp: int | None, sock: socket.socket) -> None:
        cut = (self._base / "cut").exists()
        home, inbox, *rest = directories
        uploads = rest[0] if rest else None
        try:
            stand_in: Any = _Cut(sock) if cut else sock
            serve(stand_in, home, inbox, uploads, tmp)
        finally:
            messages.close_all([*directories, *([] if tmp is None else [tmp])])
            sock.close()
