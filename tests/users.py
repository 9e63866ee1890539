"""Clients that are other users of the host, for tests that run as root."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx

from .waiting import PATIENCE_S

ALICE, BOB = 4_200_001, 4_200_002
"""Uids and gids without an account, apart from those of slots."""


@contextmanager
def acting_as(uid: int, groups: Sequence[int] = ()) -> Iterator[None]:
    """Let this process be the user `uid` for the kernel, with a gid of the same number."""
    before = os.getgroups()
    os.setgroups(groups)
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(before)


class UserTransport(httpx.HTTPTransport):
    """A transport whose connections are those of a user."""

    def __init__(self, path: str, uid: int, groups: Sequence[int]) -> None:
        super().__init__(uds=path)
        self._user = uid, groups

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request as the user, who may connect for it."""
        with acting_as(*self._user):
            return super().handle_request(request)


def client_of(path: str, uid: int, groups: Sequence[int] = ()) -> httpx.Client:
    """A client of the user `uid`, who is in further `groups`, at the Unix socket `path`."""
    transport = UserTransport(path, uid, groups)
    return httpx.Client(transport=transport, base_url="http://sandboxd", timeout=PATIENCE_S)
