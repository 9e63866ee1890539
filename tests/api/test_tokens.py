"""Tokens: one purpose, one file, not for ever."""

from __future__ import annotations

import pytest

from sandboxd.api.folders import tokens
from sandboxd.api.folders.tokens import Tokens
from sandboxd.errors import NotFound, QuotaExceeded


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_token_for_another_purpose_is_unknown() -> None:
    issued = Tokens(60)
    text, token = issued.give("upload", "k", "f", "a", 5)
    assert issued.find(text, "upload") is token
    with pytest.raises(NotFound):
        issued.find(text, "download")
    for other in ("", "x", text[:-1], text + "a", text.swapcase()):
        with pytest.raises(NotFound):
            issued.find(other, "upload")


def test_tokens_are_long_and_never_the_same() -> None:
    issued = Tokens(60)
    texts = {issued.give("download", "k", "f", "a")[0] for _ in range(200)}
    assert len(texts) == 200 and min(map(len, texts)) >= 43


def test_token_expires_unless_its_upload_goes_on() -> None:
    clock = Clock()
    issued = Tokens(60, clock)
    text, token = issued.give("upload", "k", "f", "a", 5)
    clock.now += 59
    issued.prolong(token)
    clock.now += 59
    assert issued.find(text, "upload") is token
    clock.now += 1
    with pytest.raises(NotFound):
        issued.find(text, "upload")


def test_tokens_of_a_removed_folder_are_forgotten() -> None:
    issued = Tokens(60)
    gone, _ = issued.give("download", "k", "f", "a")
    text, _ = issued.give("download", "k", "g", "a")
    issued.forget("f")
    with pytest.raises(NotFound):
        issued.find(gone, "download")
    assert issued.find(text, "download").folder == "g"


def test_tokens_are_bounded_and_expired_ones_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "TOKENS_MAX", 20)
    clock = Clock()
    issued = Tokens(60, clock)
    issued.give("upload", "k", "f", "a")
    issued.give("upload", "k", "f", "b")
    with pytest.raises(QuotaExceeded):
        issued.give("upload", "k", "f", "c")
    issued.give("upload", "k", "g", "c")
    clock.now += 61
    issued.give("upload", "k", "f", "c")
