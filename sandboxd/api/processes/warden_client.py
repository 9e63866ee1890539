"""The api's stub of the warden: typed requests over one socket.

wire.ops.OPS is the table of the requests; each reply is checked against it. Requests may overlap;
`serve` passes each reply to its caller. The descriptors of a reply whose caller was cancelled are
closed. The end of the socket is the end of the daemon: all requests raise Unavailable then.
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
from dataclasses import asdict, dataclass, replace
from typing import Any

import msgspec

from ...errors import (
    ERRNO_MAX,
    Gone,
    Invalid,
    NoSpace,
    SandboxdError,
    StageError,
    Unavailable,
)  # fmt: skip
from ...model import Attachment, NetworkGrant, Step, Workspace
from ...runs.channel import Channel
from ...runs.follower import StartedRun
from ...wire import messages
from ...wire.ops import OPS, check_reply
from .leased_slot import LeasedSlot

_log = logging.getLogger(__name__)
_Reply = tuple[dict[str, Any], list[int]]

STARVED_S = 0.2
"""Between two tries to receive descriptors."""


@dataclass(frozen=True, slots=True)
class RunStart:
    """The start of a run, in the words of the request `start` (wire/ops.py).

    run          its number in the session
    shell        the program that carries out the commands
    terminal     the run is a terminal of a user
    interactive  exec has a terminal for its input and output
    """

    run: int
    shell: str
    steps: tuple[Step, ...]
    environ: dict[str, str]
    runtime: str = ""
    terminal: bool = False
    interactive: bool = False


class WardenClient:
    """The warden at the other end of `sock`. `serve` must be running.

    gone   the warden has ended, and will answer nothing any more
    renew  is called with the configuration that the warden has read again

    `answered` is called for each request: op, seconds, and the kind of the refusal or "".
    """

    def __init__(
        self, sock: socket.socket, answered: Callable[[str, float, str], None] = lambda *_: None
    ) -> None:
        self._answered = answered
        self._channel = Channel(sock)
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[_Reply]] = {}
        self.gone = False
        self.renew: Callable[[dict[str, Any]], None] = lambda _: None

    async def serve(self) -> None:
        """Receive replies until the warden is gone."""
        try:
            await self._channel.serve(self._deliver, self._starved)
        except messages.WireError as error:
            _log.error("the warden sent a packet that is no message: %s", error)
        finally:
            self._end()

    def _deliver(self, message: dict[str, Any], fds: list[int]) -> None:
        if isinstance(message.get("config"), dict):  # the one message that is no reply
            messages.close_all(fds)
            self.renew(message["config"])
            return
        future = self._pending.pop(messages.number(message, "id"), None)
        if future is None or future.done():
            messages.close_all(fds)
        else:
            future.set_result((message, fds))

    def _starved(self, error: messages.Starved) -> None:
        future = self._pending.pop(messages.number(error.message, "id"), None)
        if future and not future.done():
            future.set_exception(error)

    def _end(self) -> None:
        self.gone = True
        self._channel.close()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(_warden_gone())
        self._pending.clear()

    async def _request(self, op: str, fds: Sequence[int] = (), **arguments: Any) -> _Reply:
        """Make a request of wire.ops.OPS; the fields and descriptors of its reply."""
        if self.gone:
            raise _warden_gone()
        began = time.monotonic()
        message, descriptors = await self._exchange({"op": op} | arguments, fds)
        reply, error = _checked(op, message, descriptors)
        kind = "" if error is None else str(message.get("kind"))
        self._answered(op, time.monotonic() - began, kind)
        if error:
            messages.close_all(descriptors)
            raise error
        return reply, descriptors

    async def _exchange(self, request: dict[str, Any], fds: Sequence[int]) -> _Reply:
        """Send a request and wait for its reply."""
        id = next(self._ids)
        future: asyncio.Future[_Reply] = asyncio.get_running_loop().create_future()
        self._pending[id] = future
        try:
            await self._channel.send_message(request | {"id": id}, list(fds))
            return await future
        except OSError:
            raise _warden_gone() from None
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and not future.exception():
                messages.close_all(future.result()[1])
            raise
        finally:
            self._pending.pop(id, None)

    async def ready(self) -> None:
        """The api accepts connections."""
        await self._request("ready")

    async def ping(self) -> dict[str, Any]:
        """The vitals of the warden, see warden/vitals.py."""
        reply, _ = await self._request("ping")
        vitals: dict[str, Any] = reply["vitals"]
        return vitals

    async def sweep(self) -> dict[str, Any]:
        """Have the warden look for leaks; its report, see warden/leaks/sweep.py."""
        _, (fd,) = await self._request("sweep")
        with open(fd, encoding="utf-8") as file:  # a memfd: nothing to wait for
            file.seek(0)
            try:
                report = json.load(file)
            except (ValueError, RecursionError) as error:
                raise Unavailable("the warden's report is not as expected", str(error)) from None
        if not isinstance(report, dict):
            raise Unavailable("the warden's report is not as expected")
        if fault := report.pop("fault", None):
            raise Unavailable("the sweep has failed", str(fault))
        return report

    async def grant(self, session: str, path: str, place: str, connection: int) -> Workspace:
        """The directory `path` as the workspace of a session of the user at the other end of the
        `connection`. Raises Invalid with the reason for a directory that cannot be one."""
        reply, _ = await self._request(
            "grant", (connection,), session=session, path=path, place=place
        )
        return Workspace(path, place, **reply)

    async def lease(
        self,
        session: str,
        owner: str,
        size: int,
        inodes: int,
        attachments: Sequence[Attachment],
        network: NetworkGrant | None = None,
        workspace: Workspace | None = None,
    ) -> LeasedSlot:
        """A slot for the session with this UUID, of `owner`, with `size` bytes of scratch."""
        folders = [asdict(attachment) for attachment in attachments]
        try:
            reply, fds = await self._request(
                "lease", session=session, owner=owner, size=size, inodes=inodes,
                attachments=folders, network=network and asdict(network),
                workspace=workspace and asdict(workspace),
            )  # fmt: skip
        except messages.Starved as starved:
            if isinstance(slot := starved.message.get("slot"), int):
                await self.release(slot, session)
            raise Unavailable("too many descriptors are open for another session") from None
        return LeasedSlot(int(reply["slot"]), fds)

    async def adopt(
        self,
        slot: int,
        session: str,
        owner: str,
        attachments: Sequence[Attachment],
        runs: Sequence[int],
        network: NetworkGrant | None = None,
        workspace: Workspace | None = None,
    ) -> None:
        """Take up a session of an earlier daemon, with those of its `runs` that go on.

        Raises Invalid when its slot is not there, Unavailable when another daemon has its uid for
        now, StageError when the slot is leased but its files cannot be used.
        """
        folders = [asdict(attachment) for attachment in attachments]
        await self._request(
            "adopt", slot=slot, session=session, owner=owner, attachments=folders,
            runs=list(runs),
            network=network and asdict(network),
            workspace=workspace and asdict(workspace),
        )  # fmt: skip

    async def start(
        self, slot: int, session: str, start: RunStart, stdin: int | None
    ) -> StartedRun:
        """Start a run, with `stdin` as its standard input or, for a terminal, as the socket of its
        user.

        Raises StageError when a protection could not be applied. If too many descriptors are open
        to receive those of the run, the run is followed later."""
        try:
            _, fds = await self._request(
                "start", () if stdin is None else (stdin,),
                slot=slot, session=session, **msgspec.to_builtins(start),
            )  # fmt: skip
        except messages.Starved:
            if started := await self.follow(slot, session, start.run):
                return replace(started, restored=False)
            raise
        return _started(fds)

    async def follow(
        self, slot: int, session: str, run: int, begun: bool = False
    ) -> StartedRun | None:
        """A run that an earlier daemon was to start; None: it never began, which cannot be said of
        one that is known to have `begun`."""
        while True:
            try:
                reply, fds = await self._request(
                    "follow", slot=slot, session=session, run=run, begun=begun
                )
                break
            except messages.Starved:  # the run may be there, and must not be started once more
                await asyncio.sleep(STARVED_S)
        return replace(_started(fds), restored=True) if reply["there"] else None

    async def forget(self, slot: int, session: str, runs: Sequence[int]) -> None:
        """Remove the files of runs that are over."""
        await self._request("forget", slot=slot, session=session, runs=list(runs))

    async def files(self, slot: int, session: str) -> Channel:
        """A file helper for one request, see wire/file_calls.py."""
        _, (fd,) = await self._request("files", slot=slot, session=session)
        return Channel(socket.socket(fileno=fd))

    async def folder_make(self, folder: str, size: int, inodes: int) -> None:
        """Make the virtual folder with this UUID, of `size` bytes."""
        await self._request("folder_make", folder=folder, size=size, inodes=inodes)

    async def folder_files(self, folder: str) -> Channel:
        """A file helper for one request on a virtual folder."""
        _, (fd,) = await self._request("folder_files", folder=folder)
        return Channel(socket.socket(fileno=fd))

    async def folder_remove(self, folder: str) -> None:
        """Remove a virtual folder. Raises Invalid when a session has it."""
        await self._request("folder_remove", folder=folder)

    async def release(self, slot: int, session: str) -> None:
        """End everything in the slot and free it."""
        await self._request("release", slot=slot, session=session)


def _started(fds: list[int]) -> StartedRun:
    control, console, journal, cursor = fds
    # With its type, Python does not ask the kernel for it.
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, control)
    return StartedRun(Channel(sock), console, journal, cursor)


def _warden_gone() -> Gone:
    return Gone("the privileged half of sandboxd is gone")


def _checked(
    op: str, message: dict[str, Any], fds: Sequence[int]
) -> tuple[dict[str, Any], SandboxdError | None]:
    """The fields of a reply that is as the table has it, or the error of one that is not."""
    if message.get("ok") is not True:
        return {}, _error(message)
    try:
        return check_reply(OPS[op], message, fds), None
    except Invalid as error:
        return {}, Unavailable("the warden's reply is not as expected", f"{op}: {error}")


def _errno(message: dict[str, Any]) -> int:
    """The error number of a refusal; 0 for one that no kernel gives."""
    code = messages.number(message, "errno")
    return code if 0 <= code <= ERRNO_MAX else 0


def _error(message: dict[str, Any]) -> SandboxdError:
    """The exception that a reply with an error stands for."""
    text = str(message.get("error", "the warden's reply has no reason"))
    match message.get("kind"):
        case "stage":
            error = StageError(str(message.get("stage", "?")), text, _errno(message))
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return NoSpace("the server's disk is full", str(error))
            return error
        case "invalid":
            return Invalid(text)
        case "unavailable":
            return Unavailable(text)
    return Unavailable("the server cannot do this now; its log has the cause", text)
