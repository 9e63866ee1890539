"""Tokens for files: who has one may upload, or download, this one file, and that for a while.

Clients pass them on to what they upload and download with, without signing. A token is 32 random
bytes; it is good for one purpose, one folder and one path, and is forgotten when it expires, when
its folder goes, and when the daemon ends; and good only while who has asked for it could still
sign for it.
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
"""Tokens at a time, of all owners; and of one folder a tenth of that."""


@dataclass(slots=True)
class Token:
    """What a token is good for.

    giver    the caller who has asked for it; it is worth what that caller's keypair is
    folder   UUID
    size     of an upload, bytes
    id       the upload's, by which file helpers know it
    done     the upload is in its place
    working  held by the request that adds to the upload
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
    """All tokens that are good; `life_s` seconds each, counted from its last use in an upload."""

    def __init__(self, life_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.life_s = life_s
        self._clock = clock
        self._tokens: dict[str, Token] = {}

    def give(
        self, purpose: Purpose, giver: str, folder: str, path: str, size: int = 0, id: str = ""
    ) -> tuple[str, Token]:
        """A new token, as text and as what it is good for. Raises QuotaExceeded."""
        now = self._clock()
        if len(self._tokens) >= TOKENS_MAX or self._count(folder) >= TOKENS_MAX // 10:
            self._tokens = {t: token for t, token in self._tokens.items() if token.expires > now}
        if len(self._tokens) >= TOKENS_MAX or self._count(folder) >= TOKENS_MAX // 10:
            raise QuotaExceeded("too many uploads and downloads are under way; try again later")
        text = secrets.token_urlsafe(32)
        token = Token(purpose, giver, folder, path, now + self.life_s, size, id)
        self._tokens[text] = token
        return text, token

    def _count(self, folder: str) -> int:
        return sum(1 for token in self._tokens.values() if token.folder == folder)

    def take_back(self, text: str) -> None:
        """What the token was to be good for could not be had."""
        self._tokens.pop(text, None)

    def uploads(self, folder: str) -> list[str]:
        """The ids of the uploads into the folder that can still go on."""
        now = self._clock()
        return [
            token.id
            for token in self._tokens.values()
            if token.folder == folder and token.id and not token.done and token.expires > now
        ]

    def find(self, text: str, purpose: Purpose) -> Token:
        """What `text` is good for. Raises NotFound for any but a good token of this purpose."""
        token = self._tokens.get(text)
        if token is None or token.purpose != purpose or token.expires <= self._clock():
            raise NotFound(purpose, f"This {purpose} token is not known, or has expired.")
        return token

    def prolong(self, token: Token) -> None:
        """An upload goes on."""
        token.expires = self._clock() + self.life_s

    def forget(self, folder: str) -> None:
        """A folder is gone."""
        self._tokens = {t: token for t, token in self._tokens.items() if token.folder != folder}
