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


def test_token_is_good_for_its_purpose_alone() -> None:
    made = Tokens(60)
    text, token = made.give("upload", "k", "f", "a", 5)
    assert made.find(text, "upload") is token
    with pytest.raises(NotFound):
        made.find(text, "download")
    for other in ("", "x", text[:-1], text + "a", text.swapcase()):
        with pytest.raises(NotFound):
            made.find(other, "upload")


def test_tokens_are_long_and_never_the_same() -> None:
    made = Tokens(60)
    texts = {made.give("download", "k", "f", "a")[0] for _ in range(200)}
    assert len(texts) == 200 and min(map(len, texts)) >= 43


def test_token_expires_and_an_upload_that_goes_on_does_not() -> None:
    clock = Clock()
    made = Tokens(60, clock)
    text, token = made.give("upload", "k", "f", "a", 5)
    clock.now += 59
    made.prolong(token)
    clock.now += 59
    assert made.find(text, "upload") is token
    clock.now += 1
    with pytest.raises(NotFound):
        made.find(text, "upload")


def test_tokens_of_a_removed_folder_are_forgotten() -> None:
    made = Tokens(60)
    gone, _ = made.give("download", "k", "f", "a")
    kept, _ = made.give("download", "k", "g", "a")
    made.forget("f")
    with pytest.raises(NotFound):
        made.find(gone, "download")
    assert made.find(kept, "download").folder == "g"


def test_tokens_are_bounded_and_expired_ones_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "TOKENS_MAX", 20)
    clock = Clock()
    made = Tokens(60, clock)
    made.give("upload", "k", "f", "a")
    made.give("upload", "k", "f", "b")
    with pytest.raises(QuotaExceeded):
        made.give("upload", "k", "f", "c")
    made.give("upload", "k", "g", "c")
    clock.now += 61
    made.give("upload", "k", "f", "c")
