"""Every exception of sandboxd, as one tree; none of them knows about HTTP.

    SandboxdError
    |- ConfigError        the operator's configuration or command line is wrong
    |- Refused            the client asked for something that it may not have
    |  |- Invalid         malformed or out of range
    |  |- NotFound        no such session, run, file, image ...
    |  |- Exists          a session of that name exists and may not be reused
    |  |- FolderExists    a virtual folder of that name exists
    |  |- OutsideHome     a name that leaves /home/work
    |  |- AuthInvalid     a signature that cannot be checked: its date, its form
    |  |- AuthFailed      no signature, a wrong one, one that was used before
    |  |- Forbidden       a right that the caller's keypair does not have
    |  |- QuotaExceeded   the session, or its owner, has used up what it may have
    |  `- RateLimited     too many requests within the window, or at once
    |- StageError         a protection could not be applied or read back: the run stops
    `- Unavailable        sandboxd has no capacity, or one of its halves is gone
       |- Full            all that this host has is promised to others
       |- Draining        the operator lets nothing new begin
       |- NoSpace         the disk of this host is full
       `- Gone            the privileged half of the daemon is gone

A program that fails is never an exception: that is a value, `model.Verdict`.
"""

from __future__ import annotations

import os
from typing import Any


class SandboxdError(Exception):
    """Root of the tree."""


class ConfigError(SandboxdError):
    """A configuration or command line that cannot be used; the text names the remedy."""


class Refused(SandboxdError):
    """The request cannot be honoured as it stands; repeating it unchanged will not help."""

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.data = data


class Invalid(Refused):
    """A value is malformed, of the wrong type or out of range; the text says what is allowed."""


class NotFound(Refused):
    """`kind` ("session", "environment image", "path" ...) has no member called `ref`."""

    def __init__(self, kind: str, message: str, data: Any = None) -> None:
        super().__init__(message, data)
        self.kind = kind


class Exists(Refused):
    """A session of this name exists and the request forbids its reuse."""


class FolderExists(Refused):
    """The owner has a virtual folder of this name."""


class OutsideHome(Invalid):
    """A file name that is not below /home/work."""


class AuthInvalid(Refused):
    """The signature's parts are missing or malformed, or its date is too far from our clock."""


class AuthFailed(Refused):
    """Nobody that we know has signed this request, or it came before."""


class Forbidden(Refused):
    """The caller is known, and may not do this."""


class RateLimited(Refused):
    """The keypair has made as many requests as its window allows."""


class QuotaExceeded(Refused):
    """The session or its owner has no more room for this; the text says of what."""


class StageError(SandboxdError):
    """A named point of the set-up failed; nothing untrusted has run.

    `stage` is the point (see `jail.enter` and `warden`), `errno` the kernel's answer or 0
    when a value read back differs from the one asked for. `remedy` says what to do about it,
    where the point of failure knows.
    """

    def __init__(self, stage: str, message: str, errno: int = 0, remedy: str = "") -> None:
        self.stage = stage
        self.errno = errno
        self.remedy = remedy
        self.message = message
        super().__init__(str(self))

    @classmethod
    def of(cls, stage: str, error: OSError, doing: str = "") -> StageError:
        """The stage's failure out of an OSError, with the path that it names."""
        where = f" {error.filename!r}" if error.filename else ""
        text = error.strerror or str(error)
        return cls(stage, f"{doing}{where}: {text}".lstrip(": "), error.errno or 0)

    def __str__(self) -> str:
        code = f" (errno {self.errno} {os.strerror(self.errno)})" if self.errno else ""
        return f"stage {self.stage}: {self.message}{code}"


class Unavailable(SandboxdError):
    """No slot, no memory, or the other half of the daemon is gone; trying later may help.

    retry_s  seconds after which it makes sense
    """

    retry_s = 1


class Full(Unavailable):
    """There is nothing left to promise now; the text says of what."""

    retry_s = 5


class Draining(Unavailable):
    """Nothing new begins here until the operator says so; what was accepted before goes on."""

    retry_s = 30


class NoSpace(Unavailable):
    """The disk of the host is full. What was asked for was not done."""


class Gone(Unavailable):
    """The privileged half of the daemon is gone. Nothing was refused: the next one will do it."""
