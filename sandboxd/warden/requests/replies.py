"""Replies to the api's requests: the result of an act, or the error that it raised.

Most acts return a `Result`. An act that takes its time gets a `PendingReply` instead, which it
sends when its background job has ended (wire.ops.OPS, `later`).
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from typing import Any

from ...errors import Invalid, SandboxdError, StageError, Unavailable
from ...wire import messages

ERROR_MAX = 2000
"""Characters of an error in a reply. It may quote the request, and a reply must fit a packet."""


@dataclass(frozen=True, slots=True)
class Result:
    """Fields and descriptors of a reply, as wire.ops.OPS names them. Sending closes these."""

    fields: dict[str, Any] = field(default_factory=dict)
    descriptors: list[int] = field(default_factory=list)


class PendingReply:
    """The one reply to request `number`, which goes to the api on `sock`."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self._sock = sock
        self._number = number

    def succeed(self, result: Result | None = None) -> None:
        """Reply that the act is done."""
        result = result or Result()
        self._send({"ok": True} | result.fields, result.descriptors)

    def refuse(self, error: SandboxdError) -> None:
        """Reply that the act was not done."""
        self._send(refusal(error), [])

    def finish(self, error: SandboxdError | None) -> None:
        """Reply that the act has failed with `error`, or that it is done."""
        if error:
            self.refuse(error)
        else:
            self.succeed()

    def _send(self, fields: dict[str, Any], descriptors: list[int]) -> None:
        try:
            # The api may have ended: the loop sees that by the api's exit status.
            with contextlib.suppress(OSError):
                messages.send(self._sock, {"id": self._number} | fields, descriptors)
        finally:
            messages.close_all(descriptors)


def refusal(error: SandboxdError) -> dict[str, Any]:
    """An error as the fields of a reply."""
    if isinstance(error, StageError):
        fields = {"kind": "stage", "stage": error.stage, "errno": error.errno}
        return {"ok": False, "error": error.message[:ERROR_MAX]} | fields
    kinds = {Invalid: "invalid", Unavailable: "unavailable"}
    kind = next((kind for of, kind in kinds.items() if isinstance(error, of)), "fault")
    return {"ok": False, "error": str(error)[:ERROR_MAX], "kind": kind}
