"""The exceptions of sandboxd, as one tree. None of them knows about HTTP.

    SandboxdError
    |- ConfigError        the operator's configuration or command line is wrong
    |- Refused            the request cannot be granted to this client
    |  |- Invalid         malformed or out of range
    |  |  `- OutsideHome  a name that leaves /home/work
    |  |- NotFound        no such session, run, file, image ...
    |  |  `- Deleted      it is being deleted
    |  |- Exists          a session of that name exists and may not be reused
    |  |- FolderExists    a virtual folder of that name exists
    |  |- AuthInvalid     a signature that cannot be checked: its date, its form
    |  |- AuthFailed      no signature, a wrong one, one that was used before
    |  |- Forbidden       the caller may not do this, or not in this way
    |  |- QuotaExceeded   the session or its owner has used up a quota
    |  `- RateLimited     too many requests within the window, or at once
    |- StageError         a protection could not be applied or read back: the run stops
    |- Unavailable        sandboxd has no capacity, or one of its halves is gone
    |  |- Full            the capacity of this host is promised to others
    |  |- Draining        the operator drains this daemon: nothing new begins
    |  |- NoSpace         the disk of this host is full
    |  |  `- Unwritable   the database cannot be written (store/database.py)
    |  `- Gone            the privileged half of the daemon is gone
    |- WireError          a packet of api, warden or shim is no message (wire/messages.py)
    |  `- Starved         a message came without its descriptors, of which too many are open
    `- FileWireError      a packet of a file helper is malformed (wire/file_calls.py)

api/http/problems.py has the response for each of them. The failure of a program is never an
exception but a value, `model.Verdict`.

`str(error)` is for the log of this host, and may name its files. `error.public` is for clients, and
names none: a class gives its text to clients only if it overrides that property.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


class SandboxdError(Exception):
    """Root of the tree."""

    @property
    def public(self) -> str:
        """The text for clients. It names no file of this host."""
        return "an internal error; the server's log has the cause"


class ConfigError(SandboxdError):
    """A configuration or command line that cannot be used; the text names the remedy."""


class Refused(SandboxdError):
    """The request cannot be granted. The same request will be refused again."""

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.data = data

    @property
    def public(self) -> str:
        """The whole text, which is about the request's own values."""
        return str(self)


INVALID_INPUT = "Input validation error"
"""The message of a refusal whose data say more, by field."""


class Invalid(Refused):
    """A value is malformed, of the wrong type or out of range; the text says what is allowed."""

    @classmethod
    def of(cls, fields: Mapping[str, object]) -> Invalid:
        """The refusal of fields of a request: their names, and the allowed values of each."""
        return cls(INVALID_INPUT, fields)


class NotFound(Refused):
    """`kind` ("session", "environment image", "path" ...) has no member called `ref`."""

    def __init__(self, kind: str, message: str, data: Any = None) -> None:
        super().__init__(message, data)
        self.kind = kind


class Deleted(NotFound):
    """The `kind` ("session", "virtual folder") of the request is being deleted: nothing more will
    be done in it, so a client need not try again."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind, f"The {kind} is being deleted.")


class Exists(Refused):
    """A session of this name exists and the request forbids its reuse."""


class FolderExists(Refused):
    """The owner has a virtual folder of this name."""


class OutsideHome(Invalid):
    """A file name that is not below /home/work."""


class AuthInvalid(Refused):
    """The signature's parts are missing or malformed, or its date is too far from our clock."""


class AuthFailed(Refused):
    """No known keypair has signed this request, or the request is a replay."""


class Forbidden(Refused):
    """The caller may not do this, or the request may not come in this way."""


class RateLimited(Refused):
    """The owner has too many requests in the window, at once or waiting; the text names it."""


class QuotaExceeded(Refused):
    """A quota of the session or of its owner is used up; the text names it."""


ERRNO_MAX = 4095
"""The largest error number of the kernel (MAX_ERRNO in include/linux/err.h)."""

_NO_CAUSE = "failed; the server's log has the cause"


class StageError(SandboxdError):
    """A named point of the set-up failed, and the run or the act ends there. Programs of an earlier
    step of the run may have run.

    `stage` is the point (see `jail.enter` and `warden`). `errno` is the kernel's answer, or 0 when
    a value that was read back differs from the requested one. `remedy` is a line for the
    operator, where the point of failure knows one.
    """

    def __init__(self, stage: str, message: str, errno: int = 0, remedy: str = "") -> None:
        self.stage = stage
        self.errno = errno
        self.remedy = remedy
        self.message = message
        super().__init__(str(self))

    @classmethod
    def of(cls, stage: str, error: OSError, doing: str = "") -> StageError:
        """The failure of `stage` from an OSError, with the path in that error."""
        where = f" {error.filename!r}" if error.filename else ""
        text = error.strerror or str(error)
        return cls(stage, f"{doing}{where}: {text}".lstrip(": "), error.errno or 0)

    def __str__(self) -> str:
        code = f" (errno {self.errno} {os.strerror(self.errno)})" if self.errno else ""
        return f"stage {self.stage}: {self.message}{code}"

    @property
    def public_stage(self) -> str:
        """The stage without the path that it may be about."""
        return self.stage.partition("/")[0].strip()

    @property
    def public(self) -> str:
        """The stage and what the kernel said."""
        cause = f"{os.strerror(self.errno)} (errno {self.errno})" if self.errno else _NO_CAUSE
        return f"stage {self.public_stage}: {cause}"


class Unavailable(SandboxdError):
    """No slot, no memory, or the other half of the daemon is gone. A later request may succeed.

    retry_s  seconds after which a new request makes sense
    detail   more about the cause, for the log only
    """

    retry_s = 1

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(f"{message}: {detail}" if detail else message)
        self._message = message

    @property
    def public(self) -> str:
        """The text without the detail."""
        return self._message


class Full(Unavailable):
    """The capacity of the host is promised to others; the text names the resource."""

    retry_s = 5


class Draining(Unavailable):
    """The operator drains this daemon: nothing new begins, and accepted runs go on."""

    retry_s = 30


class NoSpace(Unavailable):
    """The disk of the host is full. The request was not carried out."""


class Gone(Unavailable):
    """The privileged half of the daemon is gone. The next daemon will carry the request out."""
