"""The tokens for files: a token allows one upload, or downloads, of one file, for a while.

Clients pass tokens on to programs that upload and download without signing. A token is 32 random
bytes. It is valid for one purpose, one folder and one path, and only while its caller could still
sign requests. It ends when it expires, when its folder is removed, and when the daemon ends. One
whose file has arrived stays for a client that has missed the answer, until others need its place.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from ...errors import NotFound, QuotaExceeded

Purpose = Literal["upload", "download"]

TOKENS_MAX = 10_000
"""Tokens at a time, of all givers; of one giver a fifth of that, and of one folder a tenth."""


@dataclass(slots=True)
class Token:
    """The permission that a token stands for.

    giver    name of the caller who has asked for it; it is valid only as long as that keypair
    folder   UUID
    size     of an upload, bytes
    id       of the upload, for file helpers
    done     the upload is in its place, or the download has been sent to its end
    working  the lock of the request that adds to the upload
    """

    purpose: Purpose
    giver: str
    folder: str
    path: str
    expires: float
    size: int = 0
    id: str = ""
    done: bool = False
    working: asyncio.Lock = field(default_factory=asyncio.Lock)


class Tokens:
    """All valid tokens. A token lives `life_s` seconds, counted from its last use in an upload."""

    def __init__(self, life_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.life_s = life_s
        self._clock = clock
        self._tokens: dict[str, Token] = {}

    def give(
        self, purpose: Purpose, giver: str, folder: str, path: str, size: int = 0, id: str = ""
    ) -> tuple[str, Token]:
        """A new token: its text and its permission. Raises QuotaExceeded."""
        now = self._clock()
        if self._are_many(giver, folder):
            self._make_room(giver, now)
        if self._are_many(giver, folder):
            raise QuotaExceeded("too many uploads and downloads are under way; try again later")
        text = secrets.token_urlsafe(32)
        token = Token(purpose, giver, folder, path, now + self.life_s, size, id)
        self._tokens[text] = token
        return text, token

    def _are_many(self, giver: str, folder: str) -> bool:
        """There is no room for a further token."""
        tokens = self._tokens.values()
        return (
            len(tokens) >= TOKENS_MAX
            or sum(token.giver == giver for token in tokens) >= TOKENS_MAX // 5
            or sum(token.folder == folder for token in tokens) >= TOKENS_MAX // 10
        )

    def _make_room(self, giver: str, now: float) -> None:
        """Forget the tokens that have expired, and the giver's own that are done; those of others,
        too, where there is no room for anybody."""
        is_full = len(self._tokens) >= TOKENS_MAX
        self._tokens = {
            text: token
            for text, token in self._tokens.items()
            if token.expires > now and not (token.done and (is_full or token.giver == giver))
        }

    def take_back(self, text: str) -> None:
        """Revoke a token: its upload could not begin."""
        self._tokens.pop(text, None)

    def uploads(self, folder: str) -> list[str]:
        """The ids of the uploads into a folder that can still go on."""
        now = self._clock()
        return [
            token.id
            for token in self._tokens.values()
            if token.folder == folder and token.id and not token.done and token.expires > now
        ]

    def find(self, text: str, purpose: Purpose) -> Token:
        """The permission of the token `text`. Raises NotFound unless it is valid for `purpose`."""
        token = self._tokens.get(text)
        if token is None or token.purpose != purpose or token.expires <= self._clock():
            raise NotFound(purpose, f"This {purpose} token is not known, or has expired.")
        return token

    def prolong(self, token: Token) -> None:
        """Prolong the life of a token: its upload goes on."""
        token.expires = self._clock() + self.life_s

    def forget(self, folder: str) -> None:
        """Revoke all tokens of a folder: it is gone."""
        self._tokens = {t: token for t, token in self._tokens.items() if token.folder != folder}
