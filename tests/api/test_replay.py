"""A signed write is good once, for as long as its date is; the memory of it is bounded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sandboxd.api.access.replay import Replays
from sandboxd.api.access.signature import SKEW, Claim
from sandboxd.errors import AuthFailed, RateLimited

from ..signing import Signed
from .bad_requests import assert_problem
from .conftest import Server

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def claim(signature: bytes = b"s", key: str = "AK", when: datetime = NOW) -> Claim:
    return Claim(key, "sha256", signature, when, b"h", b"rest")


def accept(replays: Replays, claimed: Claim, now: datetime = NOW) -> None:
    at = now.timestamp()
    replays.refuse(claimed, at, at)
    replays.remember(claimed, at, at)


@pytest.mark.parametrize("date_off", [-SKEW, timedelta(0), SKEW])
def test_a_write_is_refused_again_until_its_date_has_run_out(date_off: timedelta) -> None:
    replays = Replays()
    once = claim(when=NOW + date_off)
    accept(replays, once)
    for later in (NOW, once.when, once.when + SKEW):
        with pytest.raises(AuthFailed, match="replay"):
            replays.refuse(once, later.timestamp(), later.timestamp())


def test_write_with_other_signature_or_key_is_accepted() -> None:
    replays = Replays()
    accept(replays, claim())
    accept(replays, claim(b"t"))
    accept(replays, claim(key="AK2"))


def test_signature_of_a_refused_write_is_not_remembered() -> None:
    replays = Replays()
    replays.refuse(claim(), NOW.timestamp(), 0)
    replays.refuse(claim(), NOW.timestamp(), 0)


def test_a_full_memory_refuses_that_key_and_no_other_and_empties_with_time() -> None:
    replays = Replays(most=3)
    for number in range(3):
        accept(replays, claim(b"%d" % number, when=NOW + timedelta(seconds=number)))
    with pytest.raises(RateLimited):
        replays.refuse(claim(b"new"), NOW.timestamp(), NOW.timestamp())
    with pytest.raises(AuthFailed, match="replay"):
        replays.refuse(claim(b"0"), NOW.timestamp(), NOW.timestamp())
    accept(replays, claim(b"new", "AK2"))
    later = NOW + SKEW + timedelta(seconds=1.5)
    accept(replays, claim(b"new", when=later), later)
    with pytest.raises(RateLimited):
        replays.refuse(claim(b"newer", when=later), later.timestamp(), later.timestamp())


@pytest.mark.parametrize("by", [timedelta(hours=1), timedelta(days=-1)])
def test_clock_that_is_set_and_set_back_does_not_let_a_write_come_again(by: timedelta) -> None:
    replays = Replays()
    accept(replays, claim())
    start = NOW.timestamp()
    replays.refuse(claim(b"other"), (NOW + by).timestamp(), start + 60)
    with pytest.raises(AuthFailed, match="replay"):
        replays.refuse(claim(), start + 120, start + 120)


def test_clock_that_is_set_back_leaves_a_write_refused_as_long_as_its_date_is_good() -> None:
    replays = Replays()
    accept(replays, claim())
    start = NOW.timestamp()
    late = start + 2 * SKEW.total_seconds()
    with pytest.raises(AuthFailed, match="replay"):  # an hour later, by a clock that lost it
        replays.refuse(claim(), start, late)
    replays.refuse(claim(), late, late)  # and its date would not be good any more


def test_read_signed_as_post_cannot_be_replayed_as_a_write_with_another_body(
    server: Server,
) -> None:
    keypair = server.keypair()
    auth = Signed(keypair.access_key, keypair.secret_key, datetime.now(UTC).isoformat())
    json = {"content-type": "application/json"}
    with server.signed(keypair) as own, server.signed(None) as client:
        id = own.post("/session", json={"image": "c"}).json()["sessionId"]
        read = json | {"X-Method-Override": "GET"}
        assert client.post(f"/session/{id}", auth=auth, headers=read).status_code == 200
        run = {"mode": "batch", "code": "", "options": {"exec": "of an eavesdropper"}}
        answer = client.post(f"/session/{id}", json=run, auth=auth)
        assert_problem(answer, 401, "/auth-failed")
        assert "replay" in answer.json()["msg"]
