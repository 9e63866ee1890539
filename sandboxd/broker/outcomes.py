"""The outcomes of connections, for audit log, metrics and clients."""

from __future__ import annotations

from typing import Literal

Outcome = Literal[
    "ok", "bad-request", "not-in-profile", "not-public", "no-address", "unreachable", "timeout",
    "tls-name", "no-secret", "used-up", "too-many", "idle", "cut",
]  # fmt: skip

STATUS: dict[Outcome, int] = {
    "bad-request": 400, "not-in-profile": 403, "not-public": 403, "no-address": 502,
    "unreachable": 502, "timeout": 504, "no-secret": 403, "used-up": 403, "cut": 502, "idle": 504,
    "too-many": 503,
}  # fmt: skip
"""The status of the response to a client whose request is not carried out."""

REFUSALS: tuple[Outcome, ...] = (
    "bad-request", "not-in-profile", "not-public", "tls-name", "no-secret", "used-up", "too-many",
)  # fmt: skip
"""The outcomes that the console of the run names: the broker does not try to connect, or the
profile does not allow it."""


class Stopped(Exception):
    """The end of a connection before its time: `outcome`, and the reason in one line."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason
