"""The user at the other end of a plain Unix socket, as the kernel names it.

The kernel keeps the uid, the gid and the groups of the process that called connect(2) (unix(7)). A
client cannot choose them, so such a request needs no signature. A connection over TCP has no peer
here. Neither has one on a Unix socket with `auth=keypair`: its client is a proxy for other users.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

from ...host import unix_peer

_KEY = "sandboxd.peer"


@dataclass(frozen=True, slots=True)
class Peer:
    """The user of a process that has connected; `groups` has its gid and its further groups."""

    uid: int
    groups: frozenset[int]


def peer_at(sock: Any) -> Peer | None:
    """The user at the other end of the Unix socket `sock`; None: the kernel names none."""
    _, uid, gid = unix_peer.credentials(sock)
    if uid == unix_peer.NO_ID:
        return None
    if uid == 0:  # it has all rights without a group
        return Peer(0, frozenset())
    return Peer(uid, frozenset({gid, *unix_peer.further_groups(sock)}))


def offer_peer(scope: MutableMapping[str, Any], peer: Peer | None) -> None:
    """Let the application that gets `scope` know the peer of its connection."""
    scope.setdefault("extensions", {})[_KEY] = peer


def peer_of(scope: MutableMapping[str, Any]) -> Peer | None:
    """The peer of the connection that the request came on; None: a signature names the caller."""
    peer: Peer | None = scope.get("extensions", {}).get(_KEY)
    return peer
