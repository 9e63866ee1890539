"""The dispatcher of the api's requests: receives, checks by wire.ops.OPS, calls the act, replies.

The acts are grouped by subject; each has the name of its request and takes the arguments by name:

    daemon_requests.py   ready, ping, sweep
    provisioning.py      lease
    slot_requests.py     adopt, files, release
    run_requests.py      start, follow, forget
    folder_requests.py   folder_make, folder_files, folder_remove
    workspace_requests.py   grant

The api is not trusted with root, so the warden believes nothing that it sends: a slot must be
leased to the session, limits are clamped to the ceilings once more, and no text of a client is
ever a path here, but for that of a workspace (slots/workspaces.py). Run directories are named by
numbers, folders by UUIDs, and the place of a folder in a workdir by one component of a harmless
alphabet.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any

from ... import log
from ...errors import SandboxdError, StageError, Unavailable
from ...wire import messages
from ...wire.ops import NUMBER, OPS, Request, RequestChecker
from .replies import PendingReply, Result

Act = Callable[..., Result | None]
"""Carries out a request. Raises SandboxdError or OSError; nothing half done is left then."""

Hold = Callable[[Request, Callable[[StageError | None], None]], bool]
"""Keeps a request back, if it cannot be carried out yet (remount.py). The function is called when
it can be, or with the error of which it is refused. Raises SandboxdError."""


def hold_none(_: Request, __: Callable[[StageError | None], None]) -> bool:
    """No request is kept back."""
    return False


def acts_of(*subjects: object) -> dict[str, Act]:
    """The act of each request of the table: the method of that name of one of `subjects`."""
    acts = {
        name: getattr(subject, name) for subject in subjects for name in OPS
        if hasattr(subject, name)
    }  # fmt: skip
    missing = OPS.keys() - acts.keys()
    assert not missing, f"no act for {missing}"
    return acts


class Dispatcher:
    """Serves the requests that arrive on `sock`. `hold` keeps those back that have to wait.

    broken  a packet was no message: nothing that this api does can be trusted any more
    """

    def __init__(
        self, sock: socket.socket, acts: Mapping[str, Act], hold: Hold = hold_none
    ) -> None:
        self._sock = sock
        self._acts = acts
        self._hold = hold
        self._checker = RequestChecker()
        self.broken = False

    def serve_one(self) -> bool:
        """Receive one request and carry it out; False when the api has closed its end, or has sent
        a packet that is no message."""
        try:
            message, fds = messages.receive(self._sock)
        except messages.Starved as error:
            starved = Unavailable("too many descriptors are open to receive those of a request")
            self._reply(error.message).refuse(starved)
            return True
        except (OSError, messages.WireError) as error:
            self.broken = isinstance(error, messages.WireError)
            log.event("api.nonsense", logging.ERROR, error=str(error))
            return False
        if message is None:
            return False
        try:
            self._carry_out(message, fds)
        finally:
            messages.close_all(fds)
        return True

    def _carry_out(self, message: dict[str, Any], fds: list[int]) -> None:
        """Carry a request out. One that has to wait takes its descriptors out of `fds`."""
        reply, own = self._reply(message), fds.copy()
        try:
            request = self._checker.check(message, fds)

            def go_on(error: StageError | None) -> None:
                try:
                    self._answer(request, reply, error)
                finally:
                    messages.close_all(own)

            if self._hold(request, go_on):
                fds.clear()
                return
        except (SandboxdError, OSError) as error:
            _refuse(reply, error)
        else:
            self._answer(request, reply)

    def _answer(
        self, request: Request, reply: PendingReply, error: StageError | None = None
    ) -> None:
        try:
            if error:
                raise error
            result = self._act(request, reply)
        except (SandboxdError, OSError) as refusal:
            _refuse(reply, refusal)
        else:
            if not request.op.later:
                reply.succeed(result)

    def _act(self, request: Request, reply: PendingReply) -> Result | None:
        act = self._acts[request.op.name]
        if request.op.later:
            return act(reply, **request.arguments)
        return act(**request.arguments)

    def _reply(self, message: Mapping[str, Any]) -> PendingReply:
        """The reply to a message. One without a proper `id` has the number 0."""
        try:
            return PendingReply(self._sock, NUMBER.parse(message.get("id")))
        except SandboxdError:
            return PendingReply(self._sock, 0)


def _refuse(reply: PendingReply, error: SandboxdError | OSError) -> None:
    """Refuse a request. An OSError, where no descriptor, memory or disk is left, is of this request
    alone."""
    reply.refuse(StageError.of("warden", error) if isinstance(error, OSError) else error)
