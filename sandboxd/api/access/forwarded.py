"""The refusal of forwarded requests on a plain Unix socket, where the kernel names the caller.

Behind a proxy all clients would be one caller there: the user of the proxy, perhaps root. Many
proxies name themselves in a header, some only if their operator wants it. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import Forbidden

_NAMES = (b"forwarded", b"via", b"x-real-ip")
_PREFIX = b"x-forwarded-"


def refuse_forwarded(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise Forbidden for a request that a proxy has forwarded.

    Names in `headers` are lower-case, as ASGI has them.
    """
    for name, _ in headers:
        if name in _NAMES or name.startswith(_PREFIX):
            raise Forbidden(
                f"the header {name.decode('latin-1')[:80]!r} says that a proxy has forwarded this "
                "request, and on this socket all its clients would be one user; give the proxy "
                'a socket with keys: listen = ["unix:PATH?auth=keypair&group=GROUP"]'
            )
