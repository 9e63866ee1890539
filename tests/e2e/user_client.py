"""A client that connects as a user of the host, whom the kernel names to the daemon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from sandboxd.warden.slots.workspaces import User, acting_as

from ..http_clients import GUARD_S, NO_TLS


class UserTransport(httpx.HTTPTransport):
    """Sends requests over connections that `user` has made."""

    def __init__(self, path: Path, user: User) -> None:
        super().__init__(uds=str(path), verify=NO_TLS)
        self._user = user

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One request."""
        with acting_as(self._user):  # connect(2) counts (unix(7), SO_PEERCRED)
            return super().handle_request(request)


@contextmanager
def client_of(path: Path, user: User) -> Iterator[httpx.Client]:
    """A client at the Unix socket `path`, which is opened to all users."""
    path.chmod(0o666)
    transport = UserTransport(path, user)
    with httpx.Client(transport=transport, base_url="http://sandboxd", timeout=GUARD_S) as client:
        yield client
