"""The connection of a caller whom the kernel names: a plain Unix socket, with nobody in between.

A directory of the host is shown to its own user only. Over TCP, with a signature, or behind a proxy
the kernel names somebody else, or nobody. No I/O.
"""

from __future__ import annotations

from starlette.types import Scope

from ...errors import Forbidden
from ..http.delivery import connection_of
from .request_checks import by_unix

FORWARDED = (b"forwarded", b"via", b"x-real-ip")
"""Headers of proxies, besides all that begin with x-forwarded-."""


def unix_connection(scope: Scope, purpose: str) -> int:
    """The descriptor of the connection of a request that came over the Unix socket from its own
    user. Raises Forbidden, with the `purpose`."""
    names = {name for name, value in scope["headers"] if value}
    connection = connection_of(scope)
    if not by_unix(scope) or connection is None:
        raise Forbidden(f"{purpose} needs the Unix socket of this server, not TCP")
    if b"authorization" in names:
        raise Forbidden(f"{purpose} is for the user at the Unix socket, and not for keypairs")
    if names.intersection(FORWARDED) or any(name.startswith(b"x-forwarded-") for name in names):
        raise Forbidden(f"{purpose} is for the user at the Unix socket; a proxy sent this request")
    return connection
