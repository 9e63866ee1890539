"""The api's client of a file helper: one request of wire/file_calls.py, typed.

A helper is a process. `async with` holds it, so that it ends with the request, however the request
ends. Each session and each folder has a bounded number of helpers, and so have all together, of
which one owner gets half.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Protocol

from ...errors import Invalid, SandboxdError, Unavailable
from ...runs.channel import Channel
from ...wire.file_calls import FILE_CHUNK, PACKET_MAX, pack_data, pack_json, refusal, unpack
from ...wire.kinds import PATH_MAX
from ..admission.admission import Bounds, Reservations
from ..admission.fair_queue import Amount

TURN_S = 10.0
"""Seconds that a file call waits for its turn."""

HELPERS_MAX = 8
"""File calls that a session or a folder may have open at a time."""

ALL_HELPERS_MAX = 128
"""File calls of all owners together. A helper is a process of some megabytes."""


class HelperPermits:
    """The permits of the helpers of one session or folder, which belongs to `owner`; `all` has the
    permits of all of them."""

    def __init__(self, all: Reservations, owner: str) -> None:
        self._all = all
        self._owner = owner
        self._own = asyncio.Semaphore(HELPERS_MAX)

    async def acquire(self, key: object) -> None:
        """Wait for a permit, which `key` has then."""
        await self._own.acquire()
        try:
            await self._all.reserve_in_turn(key, self._owner, Amount(1))
        except BaseException:  # also when the request is cancelled
            self._own.release()
            raise

    def release(self, key: object) -> None:
        """Give the permit of `key` back."""
        self._all.release(key)
        self._own.release()


def all_helper_permits() -> Reservations:
    """The permits of the helpers of all owners."""
    return Reservations(
        "file call", "", Bounds(Amount(ALL_HELPERS_MAX), Amount(ALL_HELPERS_MAX // 2))
    )


class FilesOwner(Protocol):
    """An owner of files: a session or a virtual folder."""

    @property
    def helpers(self) -> HelperPermits:
        """The bound of its helpers."""

    async def open_helper(self) -> Channel:
        """A file helper, for one request."""

    def helper_gone(self) -> SandboxdError:
        """The reason why a helper may have ended without an answer."""

    def client_message(self, text: str) -> str:
        """A message of a helper, with names as clients use them."""


class FileClient:
    """A file helper of `files`, for one request."""

    def __init__(self, files: FilesOwner) -> None:
        self._files = files
        self._channel: Channel | None = None

    async def __aenter__(self) -> FileClient:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def open(self) -> None:
        """Have the helper started. Raises Unavailable when too many are there."""
        try:
            async with asyncio.timeout(TURN_S):
                await self._files.helpers.acquire(self)
        except TimeoutError:
            raise Unavailable("too many file calls are open, on these files or in all") from None
        try:
            # The session may have ended during the wait; the warden would refuse it too.
            self._channel = await self._files.open_helper()
        except BaseException:  # also when the request is cancelled
            self._files.helpers.release(self)
            raise

    def close(self) -> None:
        """End the helper; more than once does no harm."""
        if self._channel:
            self._channel.close()
            self._channel = None
            self._files.helpers.release(self)

    async def _send(self, packet: bytes) -> None:
        assert self._channel
        try:
            await self._channel.send_packet(packet)
        except OSError:
            await self._answer()  # raises the refusal of a helper that has hung up
            raise self._files.helper_gone() from None

    async def receive(self) -> dict[str, Any] | bytes:
        """The next packet's object or data. Raises Unavailable when the helper is gone."""
        assert self._channel
        packet = await self._channel.receive_packet(PACKET_MAX + 1)
        if not packet:
            raise self._files.helper_gone()
        return unpack(packet)

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request; its first answer. Raises the error that a refusal stands for."""
        await self._send(pack_json(request))
        return await self._answer()

    async def _answer(self) -> dict[str, Any]:
        answer = await self.receive()
        if isinstance(answer, bytes):
            raise Unavailable("the file helper is confused")
        if answer.get("ok") is not True:
            raise refusal(
                answer | {"error": self._files.client_message(str(answer.get("error", "")))}
            )
        return answer

    async def created(self, path: str, since: float) -> list[str]:
        """Regular files below `path` made or changed since then (seconds since 1970)."""
        answer = await self.ask({"op": "created", "path": path, "since": since})
        names = answer.get("names")
        return [str(name) for name in names] if isinstance(names, list) else []

    async def data(self) -> AsyncIterator[bytes | dict[str, Any]]:
        """The packets after the first answer, up to the packet with "end", which is the last."""
        while True:
            packet = await self.receive()
            yield packet
            if isinstance(packet, dict) and packet.get("end"):
                return

    async def begin_upload(self) -> None:
        """The first packet of an upload."""
        await self._send(pack_json({"op": "upload"}))

    async def begin_archive(self, directory: str) -> None:
        """The following data is a tar, to be unpacked in `directory`."""
        await self._send(pack_json({"op": "unpack", "path": directory}))

    async def begin_file(self, name: str, mode: int) -> None:
        """The following data is the file called `name`."""
        await self._send(pack_json({"file": name, "mode": mode}))

    async def write(self, data: bytes) -> None:
        """Content of the file begun last."""
        for start in range(0, len(data), FILE_CHUNK):
            await self._send(pack_data(data[start : start + FILE_CHUNK]))

    async def restore(self) -> None:
        """Restore the files, as they were when the helper answered the request "checkpoint"."""
        await self.ask({"restore": True})

    async def commit(self) -> dict[str, Any]:
        """End the data of an upload; the answer. Raises the helper's refusal; nothing is changed
        then."""
        await self._send(pack_json({"commit": True}))
        return await self._answer()


def path(name: str, where: str) -> str:
    """A path of a client, if a file can have it at all. Raises Invalid naming `where`."""
    try:
        if len(name.encode("utf-8", "surrogateescape")) <= PATH_MAX:
            return name
    except UnicodeEncodeError:
        pass
    raise Invalid.of({where: f"at most {PATH_MAX} bytes of UTF-8"})
