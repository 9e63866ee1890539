"""The api's stub of the warden: typed requests over one socket, see wire.py.

Requests may overlap; `serve` hands each answer to the one who waits for it. Descriptors that
come for nobody (the caller was cancelled) are closed, so that nothing is kept open by chance.
The end of the socket is the end of the daemon: pending and later requests raise Unavailable.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from ... import wire
from ...errors import Gone, Invalid, NoSpace, SandboxdError, StageError, Unavailable
from ...model import Attachment, Step
from ...runs.channel import Channel
from ...runs.follower import StartedRun

_log = logging.getLogger(__name__)
_Answer = tuple[dict[str, Any], list[int]]

STARVED_S = 0.2
"""Between two looks whether there are descriptors again."""


class WardenClient:
    """The warden at the other end of `sock`. `serve` must be running.

    gone   it will answer nothing any more
    renew  is given the configuration that the warden has read again

    `answered` is told of each request: op, seconds, and the kind of the refusal or "".
    """

    def __init__(
        self, sock: socket.socket, answered: Callable[[str, float, str], None] = lambda *_: None
    ) -> None:
        self._answered = answered
        self._channel = Channel(sock)
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[_Answer]] = {}
        self.gone = False
        self.renew: Callable[[dict[str, Any]], None] = lambda _: None

    async def serve(self) -> None:
        """Take in answers until the warden is gone."""
        try:
            while True:
                try:
                    message, fds = await self._channel.receive_message()
                except wire.Starved as error:
                    self._starved(error)
                    continue
                if message is None:
                    return
                self._deliver(message, fds)
        except wire.WireError as error:
            _log.error("the warden sent what is no message: %s", error)
        finally:
            self._end()

    def _deliver(self, message: dict[str, Any], fds: list[int]) -> None:
        if "config" in message:  # the one thing that it says unasked
            self.renew(message["config"])
            return
        future = self._pending.pop(message.get("id", 0), None)
        if future is None or future.done():
            wire.close_all(fds)
        else:
            future.set_result((message, fds))

    def _starved(self, error: wire.Starved) -> None:
        future = self._pending.pop(error.message.get("id", 0), None)
        if future and not future.done():
            future.set_exception(error)

    def _end(self) -> None:
        self.gone = True
        self._channel.close()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(_warden_gone())
        self._pending.clear()

    async def _request(
        self, op: str, expect: int | None = 0, fds: list[int] | None = None, **arguments: Any
    ) -> _Answer:
        """Ask for `op`; the answer with exactly `expect` descriptors, None: with any."""
        if self.gone:
            raise _warden_gone()
        id, began = next(self._ids), time.monotonic()
        future = self._pending[id] = asyncio.get_running_loop().create_future()
        try:
            await self._channel.send_message({"op": op, "id": id} | arguments, fds)
            message, got = await future
        except OSError:
            raise _warden_gone() from None
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and not future.exception():
                wire.close_all(future.result()[1])
            raise
        finally:
            self._pending.pop(id, None)
        fine = message.get("ok") is True and expect in (None, len(got))
        self._answered(op, time.monotonic() - began, "" if fine else str(message.get("kind")))
        if fine:
            return message, got
        wire.close_all(got)
        raise _error(message)

    async def ready(self) -> None:
        """The api accepts connections."""
        await self._request("ready")

    async def ping(self) -> dict[str, Any]:
        """What the warden says of itself, see warden/vitals.py."""
        message, _ = await self._request("ping")
        vitals = message.get("vitals")
        return vitals if isinstance(vitals, dict) else {}

    async def sweep(self) -> dict[str, Any]:
        """Have the warden look for strays; its report, see warden/leaks/sweep.py."""
        _, (fd,) = await self._request("sweep", 1)
        with open(fd, encoding="utf-8") as file:  # a memfd: nothing to wait for
            file.seek(0)
            report = json.load(file)
        if fault := report.pop("fault"):
            raise Unavailable("the sweep has failed", str(fault))
        assert isinstance(report, dict)
        return report

    async def lease(
        self, session: str, size: int, inodes: int, mounts: Sequence[Attachment]
    ) -> int:
        """A slot for the session with this UUID, with `size` bytes of scratch."""
        message, _ = await self._request(
            "lease", session=session, size=size, inodes=inodes, mounts=[asdict(m) for m in mounts]
        )
        return int(message["slot"])

    async def adopt(
        self, slot: int, session: str, mounts: Sequence[Attachment], runs: Sequence[int]
    ) -> None:
        """Take up a session of before the restart, with those of its runs that go on.

        Raises Invalid when there is nothing of it, Unavailable when another daemon has its uid
        for now, StageError when it is taken up but its files cannot be had.
        """
        folders = [asdict(mount) for mount in mounts]
        await self._request("adopt", slot=slot, session=session, mounts=folders, runs=list(runs))

    async def start(
        self,
        slot: int,
        session: str,
        run: int,
        shell: str,
        steps: tuple[Step, ...],
        environ: dict[str, str],
        stdin: int | None,
        terminal: bool = False,
        runtime: str = "",
    ) -> StartedRun:
        """Start run number `run`, with `terminal` on one whose user has the socket `stdin`.
        Raises StageError when a protection could not be applied. One that has begun, and cannot
        be followed for want of descriptors, is followed when there are some."""
        fds = [] if stdin is None else [stdin]
        texts = {"shell": shell, "steps": [asdict(step) for step in steps], "environ": environ}
        place = {
            "slot": slot, "session": session, "run": run, "terminal": terminal, "runtime": runtime,
        }  # fmt: skip
        try:
            _, got = await self._request("start", 4, fds, **place, **texts)
        except wire.Starved:
            if found := await self.follow(slot, session, run):
                return replace(found, restored=False)
            raise
        return _started(got)

    async def follow(
        self, slot: int, session: str, run: int, begun: bool = False
    ) -> StartedRun | None:
        """A run that an earlier daemon was asked to start; None: it never began, unless it is
        known to have `begun`."""
        while True:
            try:
                message, got = await self._request(
                    "follow", None, slot=slot, session=session, run=run, begun=begun
                )
                break
            except wire.Starved:  # whatever there is of it, it must not be started once more
                await asyncio.sleep(STARVED_S)
        if not message.get("there") or len(got) != 4:
            wire.close_all(got)
            return None
        return replace(_started(got), restored=True)

    async def forget(self, slot: int, session: str, runs: Sequence[int]) -> None:
        """Remove the files of runs that are over."""
        await self._request("forget", slot=slot, session=session, runs=list(runs))

    async def files(self, slot: int, session: str) -> Channel:
        """A file helper for one request, see filewire.py."""
        _, got = await self._request("files", 1, slot=slot, session=session)
        return Channel(socket.socket(fileno=got[0]))

    async def folder_make(self, folder: str, size: int, inodes: int) -> None:
        """Make the virtual folder with this UUID, of `size` bytes."""
        await self._request("folder_make", folder=folder, size=size, inodes=inodes)

    async def folder_files(self, folder: str) -> Channel:
        """A file helper for one request on a virtual folder."""
        _, got = await self._request("folder_files", 1, folder=folder)
        return Channel(socket.socket(fileno=got[0]))

    async def folder_remove(self, folder: str) -> None:
        """Remove a virtual folder. Raises Invalid when a session has it."""
        await self._request("folder_remove", folder=folder)

    async def release(self, slot: int, session: str) -> None:
        """End everything in the slot and free it."""
        await self._request("release", slot=slot, session=session)


def _started(fds: list[int]) -> StartedRun:
    control, console, journal, told = fds
    return StartedRun(Channel(socket.socket(fileno=control)), console, journal, told)


def _warden_gone() -> Gone:
    return Gone("the privileged half of sandboxd is gone")


def _error(message: dict[str, Any]) -> SandboxdError:
    """The exception that an answer which is not ok stands for."""
    text = str(message.get("error", "the warden's answer is not what was asked for"))
    match message.get("kind"):
        case "stage":
            error = StageError(str(message.get("stage", "?")), text, int(message.get("errno") or 0))
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return NoSpace("the server's disk is full", str(error))
            return error
        case "invalid":
            return Invalid(text)
        case "unavailable":
            return Unavailable(text)
    return Unavailable("the server cannot do this now; its log has the cause", text)
