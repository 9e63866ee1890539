"""The callers of requests, by the names that own sessions and folders.

An access key is the name of a keypair's caller. `uid:N` is the name of the user N of this host, at
a plain Unix socket. An access key has no colon, so no keypair has the name of a user.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..http.peer import Peer

_UID = re.compile(r"uid:(0|[1-9][0-9]{0,9})")


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request: an access key or `uid:N`, and its rights."""

    name: str
    is_admin: bool


ROOT = Caller("uid:0", True)
"""Root of this host; and every caller of a listener with auth = "none"."""


def caller_at(peer: Peer, admin_groups: Iterable[str]) -> Caller:
    """The caller at a plain Unix socket. `admin_groups` are gids; their users are admins."""
    if peer.uid == 0:
        return ROOT
    is_admin = any(int(gid) in peer.groups for gid in admin_groups)
    return Caller(f"uid:{peer.uid}", is_admin)


def is_user(name: str) -> bool:
    """The owner `name` is a user of this host, and has no keypair."""
    return _UID.fullmatch(name) is not None
