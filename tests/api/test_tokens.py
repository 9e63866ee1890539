"""Tokens: one purpose, one file, not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sandboxd.api.folders import tokens
from sandboxd.api.folders.tokens import Tokens
from sandboxd.api.routes.transfers import sent_to_its_end
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


def test_caller_who_takes_all_tokens_leaves_four_fifths_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokens, "TOKENS_MAX", 20)
    issued = Tokens(60)
    for number in range(4):
        issued.give("download", "attacker", f"folder {number}", "a")
    with pytest.raises(QuotaExceeded):
        issued.give("download", "attacker", "another folder", "a")
    for number in range(4):
        issued.give("download", "victim", f"of the victim {number}", "a")


def test_token_of_a_complete_transfer_makes_room_for_its_giver_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokens, "TOKENS_MAX", 20)
    issued = Tokens(60)
    other, of_other = issued.give("upload", "other", "h", "a")
    done, token = issued.give("upload", "k", "f", "a")
    going_on, _ = issued.give("upload", "k", "f", "b")
    of_other.done = token.done = True
    assert issued.find(done, "upload") is token  # for a client that has missed the answer
    issued.give("upload", "k", "f", "c")
    with pytest.raises(NotFound):
        issued.find(done, "upload")
    assert issued.find(going_on, "upload") and issued.find(other, "upload")


def test_complete_transfers_of_all_make_room_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokens, "TOKENS_MAX", 20)
    issued = Tokens(60)
    for number in range(20):
        _, token = issued.give("download", f"{number % 10}", f"{number}", "a")
        token.done = number % 2 == 0
    for number in range(10):
        issued.give("download", "late", f"late {number}", "a")[1].done = True


def test_download_is_done_when_its_client_has_taken_the_end_of_the_file() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async def take(count: int) -> bool:
        _, token = Tokens(60).give("download", "k", "f", "a")
        content = sent_to_its_end(token, pieces())
        for _ in range(count):
            await anext(content, None)
        return token.done

    assert [asyncio.run(take(count)) for count in range(4)] == [False, False, False, True]
