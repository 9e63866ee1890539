"""The connection of a caller whom the kernel names: a plain Unix socket, with nobody in between.

A directory of the host is shown to its own user only. Over TCP, or with a signature, the kernel
names somebody else, or nobody; request_checks.py refuses proxies for all requests. No I/O.
"""

from __future__ import annotations

from starlette.types import Scope

from ...errors import Forbidden
from ..http.delivery import connection_of
from .request_checks import by_unix


def unix_connection(scope: Scope, purpose: str) -> int:
    """The descriptor of the connection of a request that came over the Unix socket from its own
    user. Raises Forbidden, with the `purpose`."""
    connection = connection_of(scope)
    if not by_unix(scope) or connection is None:
        raise Forbidden(f"{purpose} needs the plain Unix socket of this server, not TCP")
    if any(name == b"authorization" for name, _ in scope["headers"]):
        raise Forbidden(f"{purpose} is for the user at the Unix socket, and not for keypairs")
    return connection
